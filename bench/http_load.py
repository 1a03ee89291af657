"""Requests over many connections at once, with as little of our own work as Python allows, for benchmarks of servers."""

import asyncio
import ssl
import time
from dataclasses import dataclass, field

import uvloop


@dataclass(frozen=True)
class Get:
    """One request again and again. headers: lines without their ends."""

    port: int
    path: str
    context: ssl.SSLContext
    headers: tuple[str, ...] = ()

    def raw(self) -> bytes:
        lines = [f"GET {self.path} HTTP/1.1", "Host: 127.0.0.1", *self.headers, "", ""]
        return "\r\n".join(lines).encode()


@dataclass
class Load:
    """What came of it. seconds: of each request, a new connection counted where the server had ended the old one."""

    seconds: list[float] = field(default_factory=list)
    lasted: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.lasted


def load(get: Get, connections: int, *, seconds: float = 0.0, requests: int = 0) -> Load:
    """Ask for so long, or so often. RuntimeError for an answer that is not 200."""
    return uvloop.run(_load(get, connections, seconds, requests))


async def _load(get: Get, connections: int, seconds: float, requests: int) -> Load:
    found = Load()
    began = time.perf_counter()
    ends = began + seconds if seconds else float("inf")
    left = [requests or 1 << 60]
    await asyncio.gather(*(_ask(get, found, ends, left) for _ in range(connections)))
    found.lasted = time.perf_counter() - began
    return found


async def _ask(get: Get, found: Load, ends: float, left: list[int]) -> None:
    raw = get.raw()
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while left[0] > 0 and (began := time.perf_counter()) < ends:
        left[0] -= 1
        if streams is None:
            streams = await asyncio.open_connection("127.0.0.1", get.port, ssl=get.context, server_hostname="127.0.0.1")
        streams[1].write(raw)
        keeps = await _answer(streams[0], get)
        found.seconds.append(time.perf_counter() - began)
        if not keeps:
            streams[1].close()
            streams = None
    if streams is not None:
        streams[1].close()


async def _answer(reader: asyncio.StreamReader, get: Get) -> bool:
    """Whether the connection stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status, _, headers = head.partition(b"\r\n")
    if b" 200 " not in status:
        raise RuntimeError(f"{get.path}: {status.decode('latin-1')}")
    length = headers.partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))
    return status.startswith(b"http/1.1") and b"connection: close" not in headers
