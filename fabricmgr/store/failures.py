"""What an error of the database means: which are worth another try, and what a caller is told of the others."""

import re
from dataclasses import dataclass
from enum import Enum

import asyncpg
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from fabricmgr.domain.errors import AlreadyExists, Busy, DatabaseUnavailable, FabricError, InUse, NotFound, PrefixOverlap
from fabricmgr.store.tables import pool, prefix

CAUGHT = (DBAPIError, PoolTimeout, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class Kind(Enum):
    AGAIN = "again"  # the same transaction, on this or another connection
    ELSEWHERE = "elsewhere"  # a standby, or a server that starts: another connection may find a better one
    ANSWER = "answer"  # the caller's business
    BUG = "bug"


_AGAIN = {"40001", "40P01", "55P03", "57P01", "57P02", "0A000", "26000", "42P10"}
_ELSEWHERE = {"25006", "57P03", "53300"}
_FULL = {"53100": "the disk of the database is full", "53200": "the database is out of memory"}
_OVERLAPS = {"prefix_overlap", "block_overlap"}
_DETAIL = re.compile(r"=\(\[(-?\d+),-?\d+\), ([0-9a-fA-F:./]+)\)")
_KEY = re.compile(r"=\((.*?)\)")


@dataclass(frozen=True)
class Overlap:
    """Two prefixes of one scope, as the exclusion constraint names them."""

    wanted: str
    met: str
    scope: int


@dataclass(frozen=True)
class Failure:
    """kind: what to do. answer: what a caller is told in the end. lost: the connection is gone, and what it was doing may be done."""

    kind: Kind
    answer: Exception
    overlap: Overlap | None = None
    lost: bool = False


def read(error: BaseException) -> Failure:
    """Read an error of SQLAlchemy, asyncpg or the socket."""
    cause = _innermost(error)
    code = getattr(cause, "sqlstate", None)
    if not isinstance(code, str):
        return _without_code(error, cause)
    if code.startswith("08") or code in ("57P01", "57P02"):
        return Failure(Kind.AGAIN, DatabaseUnavailable("the connection was lost"), lost=True)
    if code in _AGAIN:
        return Failure(Kind.AGAIN, Busy("the database", 1))
    if code in _ELSEWHERE:
        return Failure(Kind.ELSEWHERE, DatabaseUnavailable(str(cause)))
    if code in _FULL:
        return Failure(Kind.ANSWER, DatabaseUnavailable(_FULL[code]))
    if code == "57014":
        return Failure(Kind.ANSWER, Busy("the database", 5))
    return _constraint(code, cause) or Failure(Kind.BUG, error if isinstance(error, Exception) else RuntimeError(str(error)))


def _innermost(error: BaseException) -> BaseException:
    """The driver's own error, below the wrappers of SQLAlchemy."""
    cause: BaseException = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    while cause.__cause__ is not None and cause.__cause__ is not cause and not isinstance(cause, asyncpg.PostgresError):
        cause = cause.__cause__
    return cause


def _without_code(error: BaseException, cause: BaseException) -> Failure:
    if isinstance(error, PoolTimeout):
        return Failure(Kind.ANSWER, Busy("the manager's pool of database connections", 1))
    if isinstance(cause, OSError):
        return Failure(Kind.AGAIN, DatabaseUnavailable(f"no connection: {cause.strerror or str(cause) or type(cause).__name__}"), lost=True)
    if isinstance(cause, asyncpg.InterfaceError) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return Failure(Kind.AGAIN, DatabaseUnavailable("the connection was lost"), lost=True)
    return Failure(Kind.BUG, error if isinstance(error, Exception) else RuntimeError(str(error)))


def _constraint(code: str, cause: BaseException) -> Failure | None:
    name = getattr(cause, "constraint_name", None) or ""
    table = getattr(cause, "table_name", None) or "row"
    detail = getattr(cause, "detail", None) or ""
    if code == "23P01" and name in _OVERLAPS:
        pairs = _DETAIL.findall(detail)
        if len(pairs) == 2:
            (scope, wanted), (_, met) = pairs
            return Failure(Kind.ANSWER, PrefixOverlap(wanted, met, ""), Overlap(wanted, met, int(scope)))
    if code == "23503":
        return Failure(Kind.ANSWER, _foreign_key(table, detail))
    if code == "23505":
        return Failure(Kind.ANSWER, AlreadyExists(table, _key(detail)))
    return None


def _foreign_key(table: str, detail: str) -> FabricError:
    """Deleted while referred to, or referring to what was deleted meanwhile: the detail alone tells them apart."""
    missing = re.search(r'not present in table "([^"]+)"', detail)
    if missing:
        return NotFound(missing[1], _key(detail))
    return InUse("row", _key(detail), f"a {table} refers to it")


def _key(detail: str) -> str:
    found = _KEY.search(detail)
    return found[1] if found else ""


async def name_overlap(connection: AsyncConnection, overlap: Overlap) -> PrefixOverlap:
    """The same error, with the name of the pool that was met."""
    found = select(pool.c.name).join(prefix, prefix.c.pool_id == pool.c.id)
    name = (await connection.execute(found.where(prefix.c.cidr == overlap.met, prefix.c.scope == overlap.scope))).scalar()
    return PrefixOverlap(overlap.wanted, overlap.met, name or "one that was just deleted")
