"""What a running agent says of itself, for `fabricmgr agent status`: asked over a second socket, one JSON line each way."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

SOCKET = "admin.sock"
ANSWER_LIMIT = 10.0  # seconds: findings read every chain of the node


class Wish(msgspec.Struct, frozen=True):
    command: str


class NetworkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """free: addresses that could be assigned now in held blocks, by family ("4", "6")."""

    name: str
    bridge: str
    decide: str
    free: dict[str, int]
    attachments: int


class BlockStatus(msgspec.Struct, frozen=True, kw_only=True):
    prefix: str
    pool: str
    state: str
    claim: int
    held: int
    free: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """faults: what keeps pods from working or coming; risks: what may. manager_heard_seconds: None for never in this run.

    trail_ms: age of the oldest change that the manager has not acknowledged. rss_kib: resident memory."""

    version: str
    node: str
    cluster: str
    life: str
    manager: str
    manager_path: str
    manager_heard_seconds: float | None
    manager_trouble: str
    unreported: int
    trail_ms: int
    networks: list[NetworkStatus]
    blocks: list[BlockStatus]
    attachments: int
    faults: list[str]
    risks: list[str]
    loops: dict[str, str]
    rss_kib: int


class Admin:
    """The second socket: root alone reaches it."""

    def __init__(self, path: Path, report: Callable[[], Status]):
        self._path = path
        self._report = report
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._server = await asyncio.start_unix_server(self._serve, path=str(self._path))
        self._path.chmod(0o600)

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        await self._server.wait_closed()
        with suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(ANSWER_LIMIT):
                writer.write(self._answer(await reader.readline()) + b"\n")
                await writer.drain()
        writer.close()

    def _answer(self, line: bytes) -> bytes:
        try:
            wish = msgspec.json.decode(line, type=Wish)
        except msgspec.MsgspecError as error:
            return msgspec.json.encode({"error": str(error)})
        if wish.command != "status":
            return msgspec.json.encode({"error": f"unknown command {wish.command!r}: expected status"})
        return msgspec.json.encode(self._report())


def ask(run_dir: Path) -> Status:
    """The running agent's status. Raises OSError when there is none, ValueError when it says something else."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_LIMIT)
        connection.connect(str(run_dir / SOCKET))
        connection.sendall(msgspec.json.encode(Wish("status")) + b"\n")
        with connection.makefile("rb") as answer:
            return msgspec.json.decode(answer.readline(), type=Status)
