"""A watcher of pods behind a proxy that misbehaves, and a writer beside it: `python -m tests.support.kube.cutting KUBECONFIG PHASE`.

It runs in the namespace from which the API server is reached. p1: connections are reset again and again under load. p2: old connections
fall silent, new ones work. p3: no connection at all for a time; "restart" is printed when that has begun, and whoever started this restarts
the API server meanwhile, so that the old version is forgotten, and writes a line when it answers again. The last line is a JSON object of
what was missed.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fabricmgr.domain.errors import ApiConflict, ApiUnreachable, FabricError
from fabricmgr.kube import kubeconfig
from fabricmgr.kube.client import Client
from fabricmgr.kube.reflector import Change, Happened, Reflector
from fabricmgr.kube.transport import Address
from fabricmgr.kube.views import PODS, Pod

CUT_FOR = 10.0  # at least: long enough for several tries that fail
SILENT_FOR = 45.0


async def dial(host: str, port: int) -> Address:
    del port
    return ip_address(host)


@dataclass
class Pair:
    """A client's connection and ours to the server."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    silent: bool = False


@dataclass
class Proxy:
    host: str
    port: int
    refuses: bool = False
    pairs: list[Pair] = field(default_factory=list)

    async def listen(self) -> int:
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.refuses:
                raise ConnectionRefusedError
            there, back = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair((writer, back))
        self.pairs.append(pair)
        await asyncio.gather(self.carry(reader, back, pair), self.carry(there, writer, pair))
        self.pairs.remove(pair)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if pair.silent:
                    # Neither data nor an end reaches the other side from now on.
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
        if not pair.silent:
            writer.close()

    def silence(self) -> None:
        for pair in self.pairs:
            pair.silent = True

    def reset(self) -> None:
        for pair in self.pairs:
            for writer in pair.writers:
                writer.transport.abort()


@dataclass
class Run:
    """wrote, saw: when, by name, of each kind. twice: told more than once."""

    client: Client
    proxy: Proxy
    wrote: dict[Happened, dict[str, float]] = field(default_factory=lambda: {Happened.ADDED: {}, Happened.DELETED: {}})
    saw: dict[Happened, dict[str, float]] = field(default_factory=lambda: {kind: {} for kind in Happened})
    twice: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    prefix: str = field(default_factory=lambda: f"cut-{os.getpid()}-")

    def told(self, change: Change[Pod]) -> None:
        name = change.object.name
        if change.kind is not Happened.MODIFIED and name in self.saw[change.kind]:
            self.twice.append(f"{change.kind.value} {name}")
        self.saw[change.kind].setdefault(name, time.monotonic())
        self.news.set()

    async def create(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            name = f"{self.prefix}{number}"
            # No scheduler takes it and no node, so that nobody but we changes it.
            spec = {
                "schedulerName": "nobody",
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": "fabricmgr.test/pause:1"}],
            }
            with suppress(ApiConflict):
                await self.insist(self.client.create, PODS, "default", {"metadata": {"name": name}, "spec": spec})
            self.wrote[Happened.ADDED][name] = time.monotonic()

    async def delete(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            name = f"{self.prefix}{number}"
            self.wrote[Happened.DELETED][name] = time.monotonic()
            await self.insist(self.client.delete, PODS, "default", name, grace=0)

    async def insist(self, call: Any, *given: Any, **more: Any) -> None:
        for _ in range(120):
            try:
                await call(*given, **more)
            except ApiConflict:
                raise
            except FabricError:
                await asyncio.sleep(0.5)
            else:
                return
        raise ApiUnreachable(self.client.server, "for a minute")

    async def seen_all(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(self.missed(kind) for kind in self.wrote):
                    self.news.clear()
                    await self.news.wait()

    def missed(self, kind: Happened) -> list[str]:
        return sorted(set(self.wrote[kind]) - set(self.saw[kind]))

    async def p1(self) -> None:
        for number in range(60):
            await self.create([number])
            await asyncio.sleep(0.1)
            await self.delete([number])
            await asyncio.sleep(0.1)
            if number % 10 == 5:
                self.proxy.reset()
        await self.seen_all(20)

    async def p2(self) -> None:
        await self.create(range(10))
        await self.seen_all(10)
        self.proxy.silence()
        await self.delete(range(10))
        await self.create(range(10, 20))
        await self.seen_all(SILENT_FOR)

    async def p3(self) -> None:
        await self.create(range(10))
        await self.seen_all(10)
        self.proxy.refuses = True
        self.proxy.reset()
        cut = time.monotonic()
        await self.delete(range(10))
        await self.create(range(10, 20))
        print("restart", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.sleep(max(0.0, cut + CUT_FOR - time.monotonic()))
        self.proxy.refuses = False
        await self.seen_all(60)

    def report(self) -> dict[str, Any]:
        delays = [self.saw[kind][name] - at for kind, wrote in self.wrote.items() for name, at in wrote.items() if name in self.saw[kind]]
        return {
            "wrote": {kind.value: len(wrote) for kind, wrote in self.wrote.items()},
            "missed": {kind.value: self.missed(kind) for kind in self.wrote},
            "twice": self.twice,
            "worst_delay": round(max(delays, default=0.0), 1),
        }


async def main(path: str, phase: str) -> None:
    access = kubeconfig.parse(Path(path).read_text())
    where = urlsplit(access.server)
    proxy = Proxy(where.hostname or "", where.port or 443)
    port = await proxy.listen()
    direct = Client(access, dial)
    watched = Client(replace(access, server=f"https://127.0.0.1:{port}", name=where.hostname or ""), dial)
    run = Run(direct, proxy)
    reflector = Reflector(watched, PODS, run.told, clock=lambda: datetime.now(UTC), chance=random.random)
    watching = asyncio.create_task(reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), 20)
    await {"p1": run.p1, "p2": run.p2, "p3": run.p3}[phase]()
    print(json.dumps({**run.report(), "ended": watching.done()}), flush=True)
    watching.cancel()
    proxy.refuses = True
    proxy.reset()
    await run.delete([int(name.removeprefix(run.prefix)) for name in set(run.wrote[Happened.ADDED]) - set(run.wrote[Happened.DELETED])])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
