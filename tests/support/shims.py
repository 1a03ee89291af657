"""Both shims, built for a test, called as a runtime calls them, and agents that answer them in every wrong way."""

import atexit
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

from fabricmgr.agent.frame import LENGTH_BYTES, Answer, Frame, encode_answer, parse_frame
from fabricmgr.agent.plugin import PLUGIN, install, interpreter, python_shim
from hatch_build import compile_shim

ROOT = Path(__file__).parents[2]
KINDS = ("python", "static")


@cache
def build(kind: str, second_ms: int = 1000) -> Path:
    """The installed plugin. Its limits shrink with the second: the product has no switch for that, so a test builds its own."""
    directory = Path(mkdtemp(prefix=f"fabricmgr-shim-{os.getpid()}-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    if kind == "python":
        source = (ROOT / "cni" / "shim.py").read_bytes()
        assert source.count(b"SECOND = 1.0\n") == 1
        if second_ms != 1000:
            source = source.replace(b"SECOND = 1.0\n", b"SECOND = %f\n" % (second_ms / 1000))
        return install(directory, python_shim(source, interpreter()))
    built = compile_shim(ROOT / "cni" / "shim.c", directory / PLUGIN, f"-DSECOND={second_ms}")
    assert built, "no compiler that links statically"
    return built


@dataclass(frozen=True)
class Printed:
    """What a runtime sees of a call. seconds: from start to end of the process."""

    exit: int
    stdout: bytes
    stderr: bytes
    seconds: float


def variables(path: Path, **given: str | bytes) -> dict[bytes, bytes]:
    """A runtime's environment: ADD of eth0 for container c1 unless told otherwise. An empty text leaves the variable out."""
    named: dict[str, str | bytes] = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": "/proc/self/ns/net",
        "CNI_PATH": "/opt/cni/bin",
        "FABRICMGR_SOCKET": str(path),
        "PYTHONPATH": "/nonexistent",
        "HTTP_PROXY": "http://secret@proxy.example",
        **given,
    }
    return {os.fsencode(name): os.fsencode(value) for name, value in named.items() if value}


def start(plugin: Path, environment: Mapping[bytes, bytes], stdin: int | IO[bytes] = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen([plugin], env=environment, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def call(plugin: Path, environment: Mapping[bytes, bytes], stdin: bytes = b"") -> Printed:
    """Run the plugin to its end."""
    started = time.monotonic()
    with start(plugin, environment) as process:
        out, err = process.communicate(stdin, timeout=60)
    return Printed(process.returncode, out, err, time.monotonic() - started)


@dataclass
class Heard:
    """What reached an agent: the bytes, and the device and inode of each descriptor."""

    frame: Frame
    raw: bytes
    descriptors: list[tuple[int, int]] = field(default_factory=list)


class ScriptedAgent:
    """Accepts calls, notes them, and answers with the bytes `reply` gives; None: never answers while the caller waits."""

    def __init__(self, path: Path, reply: Callable[[Frame], bytes | None]):
        self.heard: list[Heard] = []
        self._reply = reply
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(ConnectionError):
                self._one(connection)

    def _one(self, connection: socket.socket) -> None:
        raw, descriptors = _hear(connection)
        heard = Heard(parse_frame(raw[LENGTH_BYTES:]), raw, [_identity(each) for each in descriptors])
        for each in descriptors:
            os.close(each)
        self.heard.append(heard)
        answer = self._reply(heard.frame)
        if answer is None:
            select.select([connection], [], [], 60)  # until the caller closes
            return
        connection.sendall(answer)


def _hear(connection: socket.socket) -> tuple[bytes, list[int]]:
    raw, descriptors, _, _ = socket.recv_fds(connection, 65536, 4)
    while len(raw) < LENGTH_BYTES or len(raw) < LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES], "little"):
        chunk, more, _, _ = socket.recv_fds(connection, 65536, 4)
        assert chunk, "the shim closed in the middle of its frame"
        raw, descriptors = raw + chunk, descriptors + more
    return raw, descriptors


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def says(stdout: bytes, status: int = 0) -> Callable[[Frame], bytes]:
    return lambda _: encode_answer(Answer(status, stdout))


@contextmanager
def agent(path: Path, reply: Callable[[Frame], bytes | None]) -> Iterator[ScriptedAgent]:
    serving = ScriptedAgent(path, reply)
    try:
        yield serving
    finally:
        serving.close()
        path.unlink(missing_ok=True)


def clean_python() -> list[str]:
    """The interpreter that the Python shim runs on, as its first line calls it."""
    assert interpreter() != Path(sys.executable)
    return [str(interpreter()), "-IS"]
