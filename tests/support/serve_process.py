"""A real `fabricmgr serve`: started, asked over HTTPS, killed in parts, ended in order."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from fabricmgr.store import pgprocs

ROLES = {"controllers": "fabricmgr.app.controllers_process", "web": "fabricmgr.app.worker"}
CHECKOUT = Path(__file__).parents[2]


@dataclass
class ServeProcess:
    """One manager. output: what it told the console, logs included."""

    process: "subprocess.Popen[bytes]"
    data_dir: Path
    output: Path

    # --- what it says ---------------------------------------------------------------------------------------------------

    def said(self) -> list[str]:
        """The sentences for the console."""
        return [line.removeprefix("fabricmgr: ") for line in self.output.read_text().splitlines() if line.startswith("fabricmgr: ")]

    def until_said(self, pattern: str, limit: float = 30.0) -> "re.Match[str]":
        """The first sentence that fits."""
        for _ in range(int(limit / 0.02)):
            found = next((match for sentence in self.said() if (match := re.search(pattern, sentence))), None)
            if found is not None:
                return found
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} was not said within {limit} s:\n{self.output.read_text()}")

    def ready(self, limit: float = 60.0) -> "ServeProcess":
        """Until every worker serves."""
        self.until_said(r"^ready after", limit)
        return self

    @property
    def url(self) -> str:
        return self.until_said(r"ready after .*?(https://\S+)")[1]

    @property
    def metrics_url(self) -> str:
        return self.until_said(r"^metrics: (http://\S+)")[1]

    @property
    def password(self) -> str:
        return (self.data_dir / "initial-admin-password").read_text().strip()

    # --- asking it --------------------------------------------------------------------------------------------------------

    def tls(self) -> ssl.SSLContext:
        """A strict client's: our CA and nothing else."""
        return ssl.create_default_context(cafile=str(self.data_dir / "ca.pem"))

    def client(self, password: str = "", account: str = "admin") -> httpx2.Client:
        """As the first administrator."""
        return httpx2.Client(base_url=self.url, verify=self.tls(), auth=(account, password or self.password), trust_env=False, timeout=30)

    def until_ready(self, limit: float = 30.0) -> dict[str, Any]:
        """Until /readyz answers 200."""
        answer: dict[str, Any] = {}
        for _ in range(int(limit / 0.05)):
            with contextlib.suppress(httpx2.HTTPError), httpx2.Client(verify=self.tls(), trust_env=False) as client:
                found = client.get(f"{self.url}/readyz")
                answer = found.json()
                if found.status_code == 200:
                    return answer
            time.sleep(0.05)
        raise AssertionError(f"not ready after {limit} s: {answer}\n{self.output.read_text()}")

    # --- its processes ---------------------------------------------------------------------------------------------------

    def children(self, role: str) -> list[int]:
        """Process ids of its web workers or its controllers."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(pid) for pid in (task / "children").read_text().split()]
        return sorted(pid for pid in found if ROLES[role].encode() in command_line(pid))

    def until_replaced(self, role: str, old: list[int], limit: float = 20.0) -> list[int]:
        """Until there are as many children of that role as before, none of them among the old."""
        for _ in range(int(limit / 0.02)):
            now = self.children(role)
            if len(now) == len(old) and not set(now) & set(old):
                return now
            time.sleep(0.02)
        raise AssertionError(f"{role} was not started again within {limit} s")

    def until_idle(self, limit: float = 60.0) -> None:
        """Until the web workers have nothing left to do: what was sent has come, and waits."""
        quiet, before = 0, -1
        for _ in range(int(limit / 0.1)):
            now = sum(ticks(pid) for pid in self.children("web"))
            quiet, before = (quiet + 1 if now - before <= 1 else 0), now
            if quiet == 5:
                return
            time.sleep(0.1)
        raise AssertionError(f"the workers were busy for {limit} s")

    def postmaster(self) -> int:
        """The embedded Postgres' first process."""
        return int((self.cluster / "postmaster.pid").read_text().splitlines()[0])

    @property
    def cluster(self) -> Path:
        return self.data_dir / "postgres" / "cluster"

    def stop(self, limit: float = 15.0) -> tuple[int, float]:
        """SIGTERM; the exit code, and the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit), time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL to the supervisor; then nothing of it may be left."""
        self.process.kill()
        self.process.wait()


def command_line(pid: int) -> bytes:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def ticks(pid: int) -> int:
    """CPU time of a process, in clock ticks (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Managers:
    """Starts managers, and ends all of them whatever happens. folder: 0700, for data directories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[ServeProcess] = []

    def start(self, data_dir: Path, *options: str, user: int | None = None, **variables: str) -> ServeProcess:
        """`fabricmgr serve` on free ports."""
        output = self.folder / f"output-{len(self.started)}"
        command = [sys.executable, "-m", "fabricmgr", "serve", "--data-dir", str(data_dir), *listen(options), *options]
        extra: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment(variables), cwd=CHECKOUT, **extra
            )
        made = ServeProcess(process, data_dir, output)
        self.started.append(made)
        return made

    def end_all(self) -> None:
        """In order where it works, by force where not."""
        for each in self.started:
            if each.process.poll() is None:
                each.process.terminate()
        for each in self.started:
            try:
                each.process.wait(10)
            except subprocess.TimeoutExpired:
                each.kill()
            pgprocs.end_all(each.cluster)


def listen(options: tuple[str, ...]) -> list[str]:
    """A free port, unless a test names one."""
    return [] if any(option.startswith("--listen") for option in options) else ["--listen", "127.0.0.1:0"]


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(variables: dict[str, str]) -> dict[str, str]:
    """The tests' own without what would be read as settings."""
    return {name: text for name, text in os.environ.items() if not name.startswith("FABRICMGR_")} | variables


@contextmanager
def managers() -> Iterator[Managers]:
    """Managers that end with the block. Their folder has a short path, since sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="fm-", ignore_cleanup_errors=True) as folder:
        made = Managers(Path(folder))
        try:
            yield made
        finally:
            made.end_all()


async def open_long_poll(
    context: ssl.SSLContext, port: int, path: str, authorization: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request whose answer takes its time, on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}\r\n\r\n".encode())
    await writer.drain()
    return reader, writer
