"""One call of a CNI plugin as a runtime makes it: a process, an environment, a configuration on stdin. Timed from start to end."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class CallFailed(Exception):
    """The plugin ended with another status than 0; the text is what it said."""


@dataclass(frozen=True)
class Call:
    """A plugin's call, ready to be started: files are opened and filled before, so that starting costs no more than a spawn."""

    plugin: str
    environment: Mapping[str, str]
    stdin: int
    stdout: int

    @classmethod
    def prepared(cls, plugin: str, config: Mapping[str, Any], environment: Mapping[str, str]) -> "Call":
        stdin, stdout = (os.memfd_create(name, 0) for name in ("stdin", "stdout"))
        os.write(stdin, json.dumps(config).encode())
        return cls(plugin, environment, stdin, stdout)

    def start(self) -> int:
        """The pid. vfork within posix_spawn: no copy of this process' page tables is made, so its size does not matter."""
        os.lseek(self.stdin, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, self.stdin, 0), (os.POSIX_SPAWN_DUP2, self.stdout, 1)]
        return os.posix_spawn(self.plugin, [self.plugin], self.environment, file_actions=actions)

    def finish(self, pid: int) -> None:
        """Wait for the end. CallFailed with the plugin's answer when its status is not 0."""
        _, status = os.waitpid(pid, 0)
        if status != 0:
            answer = os.pread(self.stdout, 65536, 0).decode(errors="replace")
            raise CallFailed(f"{self.plugin} {self.environment['CNI_COMMAND']}: status {os.waitstatus_to_exitcode(status)}: {answer}")

    def close(self) -> None:
        os.close(self.stdin)
        os.close(self.stdout)


def timed(calls: Sequence[Call]) -> float:
    """Seconds from the start of the first of these calls, all started at once, to the end of the last one."""
    began = time.perf_counter()
    pids = [call.start() for call in calls]
    failures = []
    for call, pid in zip(calls, pids, strict=True):
        try:
            call.finish(pid)
        except CallFailed as failure:
            failures.append(failure)
    took = time.perf_counter() - began
    for call in calls:
        call.close()
    if failures:
        raise failures[0]
    return took
