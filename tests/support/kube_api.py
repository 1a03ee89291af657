"""An API server on loopback that says what a test wrote down for it: pages, streams that are cut or fall silent, refusals."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fabricmgr.kube.client import Client
from fabricmgr.kube.kubeconfig import Access
from fabricmgr.kube.transport import Address


@dataclass(frozen=True)
class Answer:
    """body: one object. lines: a watch's events, each a JSON object or raw bytes; afterwards the stream ends, is cut, or falls silent."""

    status: int = 200
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    lines: Sequence[Mapping[str, Any] | bytes] | None = None
    then: str = "end"


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


def failure(code: int, reason: str, message: str, **details: Any) -> Answer:
    """A Status object."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }
    return Answer(code, status)


def listed(*items: Mapping[str, Any], version: str = "1", more: str = "") -> Answer:
    return Answer(body={"kind": "List", "metadata": {"resourceVersion": version, "continue": more}, "items": [*items]})


def pod(name: str, version: str = "1", **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": version}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, **parts}


def event(kind: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": dict(found)}


@dataclass
class KubeApi:
    """answers: what is said in turn to a method and path; the last one is said for ever."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def says(self, request: str, *answers: Answer) -> None:
        """request: method and path."""
        self.answers[request] = [*answers]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
        except asyncio.CancelledError:
            # Over TLS the other side would be waited for.
            writer.transport.abort()
            raise
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append(Asked(method, parts.path, query, headers, json.loads(body) if body else None))
        return await self._say(await self.answer(self.asked[-1]), writer)

    async def answer(self, asked: Asked) -> Answer:
        left = self.answers.get(f"{asked.method} {asked.path}", [failure(404, "NotFound", "not found")])
        return left.pop(0) if len(left) > 1 else left[0]

    async def _say(self, answer: Answer, writer: asyncio.StreamWriter) -> bool:
        more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        if answer.lines is None:
            content = json.dumps(answer.body).encode()
            writer.write(f"HTTP/1.1 {answer.status} X\r\nContent-Length: {len(content)}\r\n{more}\r\n".encode() + content)
            await writer.drain()
            return True
        writer.write(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{more}\r\n".encode())
        for line in answer.lines:
            content = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
            writer.write(b"%x\r\n%b\r\n" % (len(content), content))
        await writer.drain()
        return await self._afterwards(answer.then, writer)

    async def _afterwards(self, then: str, writer: asyncio.StreamWriter) -> bool:
        if then == "silence":
            await asyncio.Event().wait()
        if then == "cut":
            # What was written goes out first, then a reset.
            await asyncio.sleep(0)
            writer.transport.abort()
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def dial(host: str, port: int) -> Address:
    del port
    return ip_address(host)


@asynccontextmanager
async def kube_api(tls: ssl.SSLContext | None = None) -> AsyncIterator[KubeApi]:
    made = KubeApi()
    async with serving(made, tls):
        yield made


@asynccontextmanager
async def serving(made: KubeApi, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """It answers at its url."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            running.add(task)
            task.add_done_callback(running.discard)
        with suppress(asyncio.CancelledError):
            await made.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    made.url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield
    finally:
        server.close()
        for task in [*running]:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def client_of(api: KubeApi, access: Access | None = None) -> AsyncIterator[Client]:
    client = Client(access or Access(server=api.url, token=lambda: "secret"), dial)
    try:
        yield client
    finally:
        await client.close()
