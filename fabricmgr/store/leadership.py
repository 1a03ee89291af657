"""Who leads: one session of the database, by a lock that ends with it.

What must never be done by two at once runs *on that session*: a server that has given the lock to another has ended this session first,
so a deposed leader's statement can't arrive. That is the fence; no number has to be compared.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from fabricmgr.domain.errors import DatabaseUnavailable
from fabricmgr.store import connect
from fabricmgr.store.connect import HOLDER, Connection

LOCK_KEY = 0x6661627269630002  # "fabric", 2: 1 is the migrations'
PATIENCE = 5.0  # seconds a statement of the leader may take; a silent server is as good as a dead one
_LOST = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, TimeoutError)


@dataclass
class Leading:
    """The session that leads. lost: set when it has ended, and leadership with it. since: the backend, a new one for each reign."""

    connection: Connection
    since: int
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def row(self, statement: str, *arguments: Any) -> asyncpg.Record | None:
        """The first row of a statement, as long as we lead. Raises DatabaseUnavailable when we do no more."""
        async with self._turn:
            try:
                found = await self.connection.fetchrow(statement, *arguments, timeout=PATIENCE)
            except _LOST as error:
                self.lost.set()
                self.connection.terminate()
                raise DatabaseUnavailable(reason=f"leadership was lost: {error!r}") from error
        return found

    async def listen(self, channel: str, woken: Callable[[], None]) -> None:
        """Call `woken` at each notification."""

        def heard(*_: object) -> None:
            woken()

        async with self._turn:
            await self.connection.add_listener(channel, heard)


@asynccontextmanager
async def lead(url: str, name: str, key: int = LOCK_KEY) -> AsyncIterator[Leading]:
    """Wait until we lead, for as long as it takes; a standby follows within milliseconds of its leader's end.

    Raises DatabaseUnavailable when the database can't be reached or goes away while we wait."""
    connection = await connect.connect(url, name, HOLDER)
    try:
        await _wait(connection, key)
        leading = Leading(connection, connection.get_server_pid())
        connection.add_termination_listener(lambda _: leading.lost.set())
        yield leading
    finally:
        with suppress(*_LOST):
            # The lock ends with the session, and at once: the server need not find out that we are gone.
            await connection.close(timeout=1)


async def _wait(connection: Connection, key: int) -> None:
    while True:
        try:
            # Ends with an error after the session's statement limit: a wait without end would not see that its own connection died.
            await connection.execute(f"select pg_advisory_lock({key})", timeout=2 * PATIENCE)
            return
        except asyncpg.QueryCanceledError:
            continue
        except _LOST as error:
            raise DatabaseUnavailable(reason=f"the wait for leadership was cut: {error!r}") from error
