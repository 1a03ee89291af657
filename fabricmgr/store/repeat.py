"""A call of the database that is made again where another try can mend it: all of ours may come twice."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from fabricmgr.domain.errors import DatabaseUnavailable
from fabricmgr.metrics import BATCH_SECONDS, BATCHES, RETRIES
from fabricmgr.store import failures
from fabricmgr.store.connect import Pool
from fabricmgr.store.failures import Failure, Kind

TRIES = 5
FIRST_PAUSE = 0.02  # seconds; doubled with each try, half of it by chance
ANSWER = 10.0  # seconds until a server that says nothing is taken for away
# Another version migrated: the driver remembers statements and types of the schema before.
OUTDATED = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError, asyncpg.InvalidSQLStatementNameError)
CAUGHT = (*failures.CAUGHT, asyncpg.InternalClientError)

Row = asyncpg.Record


class Caller:
    """Calls functions of the database over a pool of connections that it does not reset."""

    def __init__(self, pool: Pool, chance: Callable[[], float]) -> None:
        self._pool = pool
        self._chance = chance

    async def call(self, kind: str, statement: str, *arguments: Any) -> list[Row]:
        """The rows of one statement, which is its own transaction; up to five tries. kind: of the batch, for metrics.

        Raises asyncpg's errors for what another try cannot mend, else DatabaseUnavailable or Busy."""
        began = time.perf_counter()
        for attempt in range(1, TRIES + 1):
            try:
                rows = await self._once(statement, arguments)
            except CAUGHT as error:
                await self._judge(kind, error, last=attempt == TRIES)
            else:
                BATCH_SECONDS.labels(kind).observe(time.perf_counter() - began)
                BATCHES.labels(kind, "committed").inc()
                return rows
            await asyncio.sleep(FIRST_PAUSE * 2 ** (attempt - 1) * (0.5 + self._chance() / 2))
        raise AssertionError("the last try returns or raises")

    async def _once(self, statement: str, arguments: Sequence[Any]) -> list[Row]:
        async with self._pool.acquire(timeout=ANSWER) as connection:
            try:
                return list(await connection.fetch(statement, *arguments, timeout=ANSWER))
            except OUTDATED:
                # Prepared statements and types, of this connection and the others of the pool.
                await connection.reload_schema_state()
                raise
            except asyncpg.InternalClientError:
                # The driver lost count of its protocol, as when a server ends a session in the middle of an answer.
                connection.terminate()
                raise

    async def _judge(self, kind: str, error: Exception, *, last: bool) -> None:
        """Return when another try may help; it has been prepared then. Raises otherwise."""
        failure = _read(error)
        if failure.kind not in (Kind.AGAIN, Kind.ELSEWHERE) or last:
            BATCHES.labels(kind, "failed").inc()
            if failure.kind in (Kind.AGAIN, Kind.ELSEWHERE) or isinstance(failure.answer, DatabaseUnavailable):
                raise failure.answer from error
            raise error
        RETRIES.labels(kind, getattr(error, "sqlstate", None) or type(error).__name__).inc()
        if failure.kind is Kind.ELSEWHERE:
            await self._pool.expire_connections()


def _read(error: Exception) -> Failure:
    if isinstance(error, asyncpg.InternalClientError):
        return Failure(Kind.AGAIN, DatabaseUnavailable("the connection was lost, or the schema was changed meanwhile"), lost=True)
    return failures.read(error)
