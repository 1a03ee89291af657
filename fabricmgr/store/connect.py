"""How we connect, in one place; and whether a server may hold our addresses at all."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from fabricmgr.domain.errors import DatabaseUnavailable, DatabaseUnsuitable

MINIMUM_MAJOR = 15
ANSWER = 10.0  # seconds a check may wait for the server's answer
PROMISES = ("fsync", "full_page_writes")
TURN = 5.0  # seconds a caller waits for a connection of the pool; then it is told that we are busy
ROUNDS = 5  # how often two connections are asked which backend they talk to
NOTIFY_WAIT = 5.0  # seconds until a notification must have come

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:  # they take parameters in the stubs only
    Connection, Pool = asyncpg.Connection, asyncpg.Pool


@dataclass(frozen=True)
class Limits:
    """How long a session may hold others up. A statement that waits longer is tried again; one forgotten in a transaction is ended."""

    statement: timedelta = timedelta(seconds=5)
    lock: timedelta = timedelta(seconds=2)
    idle_in_transaction: timedelta = timedelta(seconds=10)


WRITER = Limits()
# A migration fills tables and may take its time; only its locks may not, since everything would queue behind the one that waits.
MIGRATION = Limits(statement=timedelta(0), idle_in_transaction=timedelta(0))
# A connection that does nothing but hold a session lock or listen.
HOLDER = Limits(lock=timedelta(0), idle_in_transaction=timedelta(0))

# Seconds and milliseconds after which the server takes a silent peer for dead: a leader's lock must not outlive its machine for hours.
KEEPALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3", "tcp_user_timeout": "10000"}


def server_settings(limits: Limits, name: str) -> dict[str, str]:
    """What each session is told at its start (PostgreSQL documentation, 19.11 and 19.3.2). Zero means no limit."""
    return {
        "application_name": f"fabricmgr {name}",
        "statement_timeout": _milliseconds(limits.statement),
        "lock_timeout": _milliseconds(limits.lock),
        "idle_in_transaction_session_timeout": _milliseconds(limits.idle_in_transaction),
        "synchronous_commit": "on",
        "timezone": "UTC",
        **KEEPALIVE,
    }


def _milliseconds(limit: timedelta) -> str:
    return str(limit // timedelta(milliseconds=1))


def plain_url(url: str) -> str:
    """The address as asyncpg wants it, whichever way an operator wrote it. Raises DatabaseUnsuitable for another kind of database."""
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise DatabaseUnsuitable(reason=f"{scheme or 'an empty address'} is no Postgres address", remedy="postgresql://USER@HOST/DATABASE")
    return f"postgresql://{rest}"


def arguments(url: str, name: str, limits: Limits = WRITER) -> dict[str, Any]:
    """Keyword arguments for `asyncpg.connect` and `create_pool`."""
    return {"dsn": plain_url(url), "timeout": ANSWER, "server_settings": server_settings(limits, name)}


async def connect(url: str, name: str, limits: Limits = WRITER) -> Connection:
    """One connection of our own. Raises DatabaseUnavailable."""
    with _refused(url):
        return await asyncpg.connect(**arguments(url, name, limits))


async def create_pool(url: str, name: str, *, size: int, limits: Limits = WRITER) -> Pool:
    """A pool that gives connections back as they are: session state is never used in it, and a reset is a second round trip."""
    with _refused(url):
        return await asyncpg.create_pool(**arguments(url, name, limits), min_size=1, max_size=size, reset=_keep)


async def _keep(connection: object) -> None:
    del connection


def create_engine(url: str, name: str, *, size: int, limits: Limits = WRITER, turn: float = TURN, looks: bool = False) -> AsyncEngine:
    """SQLAlchemy over the same driver. asyncpg reads the address itself, so that both understand every form of it alike.

    turn: seconds a caller waits for one of `size` connections. looks: its sessions cannot write, and each statement is by itself."""
    given = arguments(url, name, limits)
    more: dict[str, Any] = {}
    if looks:
        given["server_settings"] = {**given["server_settings"], "default_transaction_read_only": "on"}
        more = {"isolation_level": "AUTOCOMMIT"}

    async def fresh() -> Connection:
        return await asyncpg.connect(**given)

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=fresh,
        pool_size=size,
        max_overflow=0,
        pool_timeout=turn,
        pool_pre_ping=False,
        json_deserializer=msgspec.json.decode,
        **more,
    )


@contextlib.contextmanager
def _refused(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise DatabaseUnavailable(reason=f"{shown(url)}: {_sentence(error)}") from error


def shown(url: str) -> str:
    """An address without its password, for people."""
    parts = urlsplit(plain_url(url))
    user = f"{parts.username}@" if parts.username else ""
    where = parts.netloc.rpartition("@")[2] or "local socket"
    return f"{user}{where}{parts.path}"


def _sentence(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


# --- may this server hold our addresses ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ServerFacts:
    """What a server says of itself. `system` is its identity, the same on all its standbys; `proxied` that somebody stands between."""

    major: int
    version: str
    system: int
    proxied: bool


async def check_server(url: str) -> ServerFacts:
    """Refuse a server that could lose or double an address, before anything is written to it.

    Raises DatabaseUnavailable when nobody answers, DatabaseUnsuitable for a server older than 15, one that keeps no promise of durability
    (fsync or full_page_writes off), a standby, or a pooler that moves a session from backend to backend.
    """
    async with _bare(url) as first, _bare(url) as second:
        with _no_pooler():
            facts = await _facts(first)
            await _check_sessions(first, second)
    await _check_startup(url)
    return facts


@asynccontextmanager
async def _bare(url: str) -> AsyncIterator[Connection]:
    """A connection that asks for nothing special: a pooler refuses what it does not know with a sentence that helps nobody."""
    with _refused(url):
        connection: Connection = await asyncpg.connect(dsn=plain_url(url), timeout=ANSWER, command_timeout=ANSWER)
    try:
        yield connection
    finally:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            await connection.close(timeout=ANSWER)


async def _facts(connection: Connection) -> ServerFacts:
    number = int(await connection.fetchval("select current_setting('server_version_num')"))
    version = str(await connection.fetchval("select current_setting('server_version')"))
    standby = bool(await connection.fetchval("select pg_is_in_recovery()"))
    promises = {name: str(await connection.fetchval("select current_setting($1)", name)) for name in PROMISES}
    judge(number // 10000, version, standby=standby, promises=promises)
    system = int(await connection.fetchval("select system_identifier from pg_control_system()"))
    return ServerFacts(number // 10000, version, system, proxied=await _backend(connection) != connection.get_server_pid())


def judge(major: int, version: str, *, standby: bool, promises: Mapping[str, str]) -> None:
    """Raises DatabaseUnsuitable with the first reason not to store addresses there."""
    if major < MINIMUM_MAJOR:
        reason = f"the server is Postgres {version}, and {MINIMUM_MAJOR} or newer is needed"
        raise DatabaseUnsuitable(reason=reason, remedy="upgrade it, or name another --database-url")
    if standby:
        remedy = "name the primary, or all hosts with target_session_attrs=read-write"
        raise DatabaseUnsuitable(reason="the server is a standby: it can't be written to", remedy=remedy)
    for setting, value in promises.items():
        if value != "on":
            reason = f"{setting} is {value}: a crash would lose or damage addresses that were handed out"
            raise DatabaseUnsuitable(reason=reason, remedy=f"alter system set {setting} = on, and reload")


async def _backend(connection: Connection) -> int:
    return int(await connection.fetchval("select pg_backend_pid()"))


async def _check_sessions(first: Connection, second: Connection) -> None:
    """Three things that need a session of one's own: a backend, a lock that outlives its transaction, a subscription."""
    mine = await _backend(first)
    for _ in range(ROUNDS):
        async with second.transaction():
            others = await _backend(second)
            if others == mine or await _backend(first) != mine:
                raise _pooler("the backend behind a connection changes between transactions")
    key = secrets.randbits(62)
    await first.execute("select pg_advisory_lock($1)", key)
    if await second.fetchval("select pg_try_advisory_lock($1)", key):
        raise _pooler("two connections share one session's locks")
    await first.execute("select pg_advisory_unlock($1)", key)
    await _check_listening(first, second, f"fabricmgr_check_{key}")


async def _check_listening(first: Connection, second: Connection, channel: str) -> None:
    heard = asyncio.Event()

    def hear(*_: object) -> None:
        heard.set()

    await first.add_listener(channel, hear)
    await second.execute("select pg_notify($1, '')", channel)
    try:
        async with asyncio.timeout(NOTIFY_WAIT):
            await heard.wait()
    except TimeoutError:
        raise _pooler("a notification that was asked for does not arrive") from None
    await first.remove_listener(channel, hear)


@contextlib.contextmanager
def _no_pooler() -> Iterator[None]:
    """What a transaction pooler makes of prepared statements and of a session that waits for a free backend."""
    try:
        yield
    except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError) as error:
        raise _pooler(_sentence(error)) from error
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # No server finds a fault in our protocol: it is a pooler's way to say that it does not do transactions.
        if isinstance(fault := error.__cause__ or error, asyncpg.ProtocolViolationError):
            raise _pooler(_sentence(fault)) from error
        raise DatabaseUnavailable(reason=f"the server stopped answering while it was checked: {_sentence(error)}") from error


async def _check_startup(url: str) -> None:
    """Session settings go with the connection's first message, and a pooler in session mode may refuse those."""
    try:
        connection: Connection = await asyncpg.connect(**arguments(url, "check"))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise DatabaseUnsuitable(
            reason=f"session settings are refused: {_sentence(error)}",
            remedy="name the server itself in --database-url, not a pooler before it",
        ) from error
    await connection.close(timeout=ANSWER)


def _pooler(evidence: str) -> DatabaseUnsuitable:
    return DatabaseUnsuitable(
        reason=f"a transaction pooler stands before the server ({evidence}): locks, LISTEN and prepared statements need a session",
        remedy="name the server itself in --database-url, or a pooler in session mode",
    )
