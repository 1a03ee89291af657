"""A web worker: answers from its first moment on, works as soon as the database is prepared, and ends in order on SIGTERM."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime

from fabricmgr.app import assembly, claim, memory, serving, tls
from fabricmgr.app.assembly import Assembled
from fabricmgr.app.front import Front
from fabricmgr.app.inside import Inside
from fabricmgr.app.memory import Memory, trimmer
from fabricmgr.app.messages import Database, Serving, Wait
from fabricmgr.app.presence import Seat
from fabricmgr.domain.errors import DatabaseUnavailable
from fabricmgr.loop import Loop, Outcome
from fabricmgr.services import client_certificates
from fabricmgr.web.protocol import ENDED, loop_name

log = logging.getLogger(__name__)

CERTIFICATE_PERIOD = 1.0  # seconds between looks whether there is a new certificate
PAUSE = 0.5  # seconds between tries to open what requests work with


def clock() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


class Worker:
    """One process."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._settings = inside.settings
        self._front = Front(assembly.refused)
        self._metrics = Front(assembly.refused)
        self._identity = tls.Identity(self._settings)
        self._stopping = asyncio.Event()
        self._assembled: Assembled | None = None
        self._trust_version = 0

    async def run(self) -> None:
        """Until SIGTERM."""
        self._inside.listen()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        self._identity.begin(clock())
        servers = self._servers()
        tasks = [asyncio.create_task(serving.run(server, descriptor)) for server, descriptor in servers]
        certificate = Loop("certificate", self._refresh, CERTIFICATE_PERIOD)
        believed = Loop("client certificates", self._believe, CERTIFICATE_PERIOD)
        given_back = Loop("memory", Memory(lambda: ENDED.count, trimmer()).once, memory.PERIOD)
        others = [asyncio.create_task(run()) for run in (self._obey, certificate.run, believed.run, given_back.run)]
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopped, *tasks, *others], return_when=asyncio.FIRST_COMPLETED)
        await self._end([server for server, _ in servers], tasks, others)

    def _servers(self) -> list[tuple[serving.Serving, int]]:
        told = self._inside.configured
        seconds = self._settings.keep_alive_seconds
        found = []
        if told.listen is not None:
            found.append((serving.make(self._front, assembly.refused, seconds, self._identity.context), told.listen))
        if told.metrics is not None:
            found.append((serving.make(self._metrics, assembly.refused, seconds, None), told.metrics))
        return found

    async def _obey(self) -> None:
        while True:
            order = await self._inside.next()
            if isinstance(order, Wait):
                self._front.waits = self._metrics.waits = order.reason
            elif isinstance(order, Database) and self._assembled is None:
                await self._open(order.url)

    async def _open(self, url: str) -> None:
        """Build the application and put it where the waiting one stood."""
        assembled = self._assembled = await self._build(url)
        self._identity.trust(assembled.authorities)
        self._identity.refresh()
        with contextlib.suppress(DatabaseUnavailable):  # the loop tries again
            await self._believe()
        self._front.waits = self._metrics.waits = ""
        self._front.app, self._metrics.app = assembled.manager.app, assembled.manager.metrics_app
        self._inside.report(Serving(f"{loop_name()} and httptools"))

    async def _build(self, url: str) -> Assembled:
        while True:
            try:
                return await assembly.build(self._settings, url, clock, self._seat())
            except DatabaseUnavailable as error:
                log.warning("the database is away", extra={"reason": error.reason})
                self._front.waits = self._metrics.waits = f"the database: {error.reason}"
                await asyncio.sleep(PAUSE)

    def _seat(self) -> Seat:
        """Where we serve: port 0 has become one."""
        descriptor = self._inside.configured.listen
        if descriptor is None:
            return Seat(self._settings.listen, self._identity)
        with socket.socket(fileno=os.dup(descriptor)) as bound:
            return Seat(claim.address_of(bound), self._identity)

    async def _refresh(self) -> Outcome:
        self._identity.refresh()
        return Outcome.done("the newest certificate is in use")

    async def _believe(self) -> Outcome:
        """Handshakes believe the client certificates that the database says, whichever worker or manager was told."""
        if self._assembled is None:
            return Outcome.done("nothing is known yet")
        async with self._assembled.stores.database.read() as tx:
            if await client_certificates.trust_version(tx) == self._trust_version:
                return Outcome.done("what is trusted has not changed")
            version, trusted = await client_certificates.trusted(tx)
        self._identity.trust_clients(trusted)
        self._trust_version = version
        return Outcome.done(f"{len(trusted)} certificates of others are trusted")

    async def _end(self, servers: list[serving.Serving], tasks: list["asyncio.Task[None]"], others: list["asyncio.Task[None]"]) -> None:
        """Long polls end first, then requests in flight, then what they worked with."""
        if self._assembled is not None:
            self._assembled.manager.drain()
        for server in servers:
            server.stop()
        for task in others:
            task.cancel()
        results = await asyncio.gather(*tasks, *others, return_exceptions=True)
        if self._assembled is not None:
            await self._assembled.close()
        for result in results:
            if isinstance(result, Exception):
                raise result


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's loops where it is installed."""
    if loop_name() == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


def main() -> None:
    """A worker that fails to open what it needs ends, and is started again after a pause."""
    inside = Inside()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(Worker(inside).run())


if __name__ == "__main__":
    main()
