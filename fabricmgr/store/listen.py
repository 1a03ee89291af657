"""Being woken by NOTIFY: one connection a process, which comes back by itself. Whoever is woken looks into the tables."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import asyncpg

from fabricmgr.domain.errors import DatabaseUnavailable
from fabricmgr.store.connect import ANSWER, HOLDER, Connection, connect

log = logging.getLogger(__name__)

RETRY = 1.0  # seconds between tries to come back
PROBE = 5.0  # seconds between looks whether the server still answers


class Listener:
    """Listens on channels. Take a ticket, look into the tables, then wait by the ticket: nothing is missed in between."""

    def __init__(self, url: str, name: str, channels: Sequence[str]) -> None:
        self.url = url
        self._name = name
        self._tickets: dict[str, asyncio.Future[None]] = {}
        self._channels = tuple(channels)
        self.connected = False

    def ticket(self, channel: str) -> "asyncio.Future[None]":
        """Is done at the channel's next notification; and when the connection came back, since one may have been missed. Shared: wait
        by `Listener.wait`."""
        found = self._tickets.get(channel)
        if found is None or found.done():
            found = self._tickets[channel] = asyncio.get_running_loop().create_future()
        return found

    @staticmethod
    async def wait(ticket: "asyncio.Future[None]", seconds: float) -> bool:
        """Whether it came within `seconds`."""
        done, _ = await asyncio.wait([ticket], timeout=seconds)
        return bool(done)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._listen()
            except (DatabaseUnavailable, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.info("listening ended", extra={"listener": self._name, "reason": str(error)})
            self.connected = False
            await asyncio.sleep(RETRY)

    async def _listen(self) -> None:
        connection = await connect(self.url, self._name, HOLDER)
        try:
            for channel in self._channels:
                await connection.add_listener(channel, self._hear)
            self.connected = True
            for channel in self._channels:
                self._wake(channel)
            while True:
                await asyncio.sleep(PROBE)
                await connection.execute("select 1", timeout=ANSWER)
        finally:
            await _end(connection)

    def _hear(self, connection: object, pid: int, channel: str, payload: object) -> None:
        del connection, pid, payload
        self._wake(channel)

    def _wake(self, channel: str) -> None:
        ticket = self._tickets.pop(channel, None)
        if ticket is not None and not ticket.done():
            ticket.set_result(None)


async def _end(connection: Connection) -> None:
    with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await connection.close(timeout=ANSWER)
