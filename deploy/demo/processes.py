"""Programs started and ended by the demo: each logs into a file, each ends when we do, however we end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# The signal a child gets when its parent dies (prctl(2)): after kill -9 of the demo nothing is left running.
TIED = ("setpriv", "--pdeathsig", "TERM", "--")


class Stopped(Exception):
    """A program of ours ended, or did not come up in time; the text says which and shows the end of its log."""


@dataclass
class Program:
    """A long-running program."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then ends the others in order.
            self.process = subprocess.Popen(
                [*TIED, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | dict(self.environment),
                start_new_session=True,
            )

    def stop(self, patience: float = 15) -> None:
        """SIGTERM; after `patience` seconds SIGKILL."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait_until(self, ready: Callable[[], str], patience: float, say: Callable[[str], None]) -> None:
        """Ask `ready` until it has nothing left to wait for, and show what it waits for. Stopped after `patience` seconds."""
        deadline = time.monotonic() + patience
        while waits := ready():
            if self.process is None or self.process.poll() is not None:
                raise Stopped(f"{self.name} ended; {self.last_words()}")
            if time.monotonic() > deadline:
                raise Stopped(f"{self.name} is not ready after {patience:.0f} s: {waits}; {self.last_words()}")
            say(waits)
            time.sleep(0.05)

    def last_words(self, lines: int = 5) -> str:
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return f"its log {self.log} ends with\n  " + "\n  ".join(text)


def run(*words: str, environment: Mapping[str, str] | None = None) -> str:
    """Run to the end; what it printed. Stopped with its own words when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | dict(environment or {}), check=False)
    if done.returncode != 0:
        raise Stopped(f"`{' '.join(words)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
