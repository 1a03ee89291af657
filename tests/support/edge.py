"""The agent's CNI edge over operations that only note what they were asked, in this process or, as a program, in one of its own."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

from fabricmgr.agent.request import CniRequest
from fabricmgr.agent.result import CniResult, Interface, Ip
from fabricmgr.agent.server import Server
from fabricmgr.agent.spool import Spool
from fabricmgr.agent.verbs import Turns
from tests.support.shims import Printed, build, call, variables

CONFIG = b'{"cniVersion":"1.1.0","name":"podnet","type":"fabricmgr-cni"}'


class FakeVerbs:
    """Notes what it was asked. `during` runs inside ADD and DEL: what it raises, they raise; while it waits, they wait."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.requests: list[CniRequest] = []
        self.running: Counter[object] = Counter()
        self.most = 0
        self.during: Callable[[CniRequest], Awaitable[None]] = self._nothing

    async def _nothing(self, _: CniRequest) -> None:
        return

    async def _note(self, verb: str, request: CniRequest) -> None:
        self.requests.append(request)
        self.running[request.attachment] += 1
        assert self.running[request.attachment] == 1, "two operations on one attachment at once"
        self.most = max(self.most, self.running.total())
        try:
            if verb in ("add", "delete"):
                await self.during(request)
            self.done.append(f"{verb} {request.container}".strip())
        finally:
            self.running[request.attachment] -= 1

    async def add(self, request: CniRequest) -> CniResult:
        assert request.namespace
        assert os.fstat(request.namespace.fd).st_ino == request.namespace.inode
        await self._note("add", request)
        return CniResult((Interface(request.ifname, sandbox=request.netns),), (Ip(ip_address("10.0.0.5"), 32, None, 0),))

    async def undo(self, request: CniRequest) -> None:
        await self._note("undo", request)

    async def delete(self, request: CniRequest) -> None:
        await self._note("delete", request)

    async def check(self, request: CniRequest) -> None:
        await self._note("check", request)

    async def gc(self, request: CniRequest) -> None:
        await self._note("gc", request)

    async def status(self, request: CniRequest) -> None:
        await self._note("status", request)


class Edge:
    """A serving agent's edge, and its parts."""

    def __init__(self, directory: Path):
        self.path = directory / "agent.sock"
        self.verbs = FakeVerbs()
        self.turns = Turns()
        self.spool = Spool(directory / "spool", self.verbs.delete, self.turns)
        self.server = Server(self.verbs, self.path, self.spool, self.turns)

    async def call(self, kind: str, stdin: bytes = CONFIG, **given: str) -> Printed:
        return await asyncio.to_thread(call, build(kind), variables(self.path, **given), stdin)

    async def settle(self, done: Callable[[], bool]) -> None:
        """Wait until something is so, for ten seconds at most."""
        for _ in range(2000):
            if done():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it never came to be so")


async def serve(directory: Path) -> None:
    """Serve until killed, look at the spool often, and print each thing that was done."""
    edge = Edge(directory)
    await edge.spool.once()
    await edge.server.start()
    shown = 0
    while True:
        await asyncio.sleep(0.05)
        await edge.spool.once()
        for line in edge.verbs.done[shown:]:
            print(line, flush=True)
        shown = len(edge.verbs.done)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
