"""One transaction, and one place that says what the database's errors mean."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from sqlalchemy import Executable, Row, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.errors import DatabaseUnavailable
from fabricmgr.domain.events import DomainEvent, Json
from fabricmgr.store import failures
from fabricmgr.store.connect import TURN, create_engine
from fabricmgr.store.failures import Failure, Kind
from fabricmgr.store.tables import history
from fabricmgr.store.wake import OUTBOX_STATEMENT, WAKE_STATEMENT

T = TypeVar("T")

TRIES = 5
CONNECTIONS = 8  # at most, for what writes; as many again, up to LOOKING, for what only looks
LOOKING = 8
FIRST_PAUSE = 0.05  # seconds; doubled with each try, half of it by chance


@dataclass(frozen=True)
class HistoryRow:
    """One line of what happened to an address or an owner."""

    what: str
    owner: UUID | None = None
    scope: int | None = None
    address: Address | None = None
    generation: int | None = None
    node_id: int | None = None
    actor: str | None = None
    detail: dict[str, Json] = field(default_factory=dict)


class Tx:
    """What a use case gets: a connection inside a transaction, and where to leave events and history."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self._events: list[DomainEvent] = []
        self._history: list[HistoryRow] = []
        self._wakes = False

    def emit(self, event: DomainEvent) -> None:
        """Tell subscribers, when this transaction commits."""
        self._events.append(event)

    def remember(self, row: HistoryRow) -> None:
        """Keep it in the history, when this transaction commits."""
        self._history.append(row)

    def wake(self) -> None:
        """Let those look who wait for a change, when this transaction commits, though subscribers are told nothing."""
        self._wakes = True

    async def all(self, statement: Executable, parameters: dict[str, Any] | None = None) -> list[Row[Any]]:
        """Every row."""
        return list((await self.connection.execute(statement, parameters)).all())

    async def first(self, statement: Executable, parameters: dict[str, Any] | None = None) -> Row[Any] | None:
        """The first row, or None."""
        return (await self.connection.execute(statement, parameters)).first()

    async def only(self, statement: Executable, parameters: dict[str, Any] | None = None) -> Row[Any]:
        """The one row there must be."""
        return (await self.connection.execute(statement, parameters)).one()

    async def value(self, statement: Executable, parameters: dict[str, Any] | None = None) -> Any:
        """The first column of the first row, or None."""
        return (await self.connection.execute(statement, parameters)).scalar()

    async def change(self, statement: Executable, parameters: dict[str, Any] | list[dict[str, Any]] | None = None) -> int:
        """Run a statement that changes rows. Gives back how many."""
        return int((await self.connection.execute(statement, parameters)).rowcount)

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """What is done inside is undone where it raises, events and history too; the transaction goes on."""
        events, rows = len(self._events), len(self._history)
        try:
            async with self.connection.begin_nested():
                yield
        except BaseException:
            del self._events[events:], self._history[rows:]
            raise

    async def flush(self, now: datetime) -> None:
        """Write history, then events: the events last, when all row locks are held, so that two changes of one thing never swap."""
        if self._history:
            rows = [vars(row) | {"at": now} for row in self._history]
            await self.connection.execute(history.insert(), rows)
            self._history.clear()
        if self._events:
            told: list[Json] = [{"what": event.what, "about": event.about()} for event in self._events]
            await self.connection.execute(OUTBOX_STATEMENT, {"now": now, "told": told})
            self._events.clear()
        elif self._wakes:
            await self.connection.execute(WAKE_STATEMENT)
        self._wakes = False


UseCase = Callable[[Tx], Awaitable[T]]


class Database:
    """An engine with a pool, one for each process, and beside it one whose sessions look and cannot write."""

    def __init__(self, engine: AsyncEngine, looking: AsyncEngine, clock: Callable[[], datetime], chance: Callable[[], float]) -> None:
        self.engine = engine
        self._looking = looking
        self._clock = clock
        self._chance = chance

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Callable[[], datetime],
        connections: int = CONNECTIONS,
        turn: float = TURN,
        name: str = "manager",
        chance: Callable[[], float] = random.random,
    ) -> "Database":
        """Connects at the first use: a database that is away now is an error then. name: of the process, as the server shows it.

        turn: seconds to wait for one of the connections."""
        engine = create_engine(url, name, size=connections, turn=turn)
        looking = create_engine(url, name, size=min(connections, LOOKING), turn=turn, looks=True)
        for each in (engine, looking):
            event.listen(each.sync_engine, "checkout", _refuse_closed)
        return cls(engine, looking, clock, chance)

    async def run(self, use_case: UseCase[T]) -> T:
        """Run a use case in one transaction and commit. What another try can mend is tried again, up to five times.

        Raises what the use case raises, PrefixOverlap, AlreadyExists and InUse where a constraint of the database says so, and
        DatabaseUnavailable."""
        for attempt in range(1, TRIES + 1):
            try:
                return await self._once(use_case)
            except failures.CAUGHT as error:
                failure = failures.read(error)
                if attempt == TRIES or failure.kind not in (Kind.AGAIN, Kind.ELSEWHERE):
                    await self._raise(failure, error)
                if failure.kind is Kind.ELSEWHERE:
                    await self.close()  # its connections lead to a server that cannot serve us
            await asyncio.sleep(FIRST_PAUSE * 2 ** (attempt - 1) * (0.5 + self._chance() / 2))
        raise AssertionError("the last try returns or raises")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """A transaction that changes nothing. Raises DatabaseUnavailable."""
        try:
            async with self.engine.connect() as connection:
                await connection.execution_options(postgresql_readonly=True)
                yield Tx(connection)
        except failures.CAUGHT as error:
            await self._raise(failures.read(error), error)

    @asynccontextmanager
    async def look(self) -> AsyncIterator[Tx]:
        """For pages that one statement fills: each sees what is committed by then, and costs one round trip instead of three.

        Raises DatabaseUnavailable."""
        try:
            async with self._looking.connect() as connection:
                yield Tx(connection)
        except failures.CAUGHT as error:
            await self._raise(failures.read(error), error)

    async def close(self) -> None:
        """Give all connections back to the server."""
        await self.engine.dispose()
        await self._looking.dispose()

    async def _once(self, use_case: UseCase[T]) -> T:
        async with self.engine.connect() as connection:
            tx = Tx(connection)
            result = await use_case(tx)
            await tx.flush(self._clock())
            try:
                await connection.commit()
            except failures.CAUGHT as error:
                if failures.read(error).lost:
                    raise DatabaseUnavailable(
                        "the connection was lost during commit, so the change may or may not be made: look before you ask again"
                    ) from error
                raise
            return result

    async def _raise(self, failure: Failure, error: Exception) -> NoReturn:
        answer = await self._answer(failure)
        if answer is error:
            raise error
        raise answer from error

    async def _answer(self, failure: Failure) -> Exception:
        """What a caller is told. An overlap is looked up on another connection, since this transaction is over."""
        if failure.overlap is None:
            return failure.answer
        try:
            async with self.engine.connect() as connection:
                return await failures.name_overlap(connection, failure.overlap)
        except failures.CAUGHT as error:
            return failures.read(error).answer


def _refuse_closed(driver: DBAPIConnection, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
    """A connection whose server went away is not handed out: known here without asking the server."""
    del entry, proxy
    if driver.driver_connection.is_closed():
        raise DisconnectionError
