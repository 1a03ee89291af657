"""Bring a database to this version's schema, without making anybody wait behind us.

All managers of a database race for one session lock; who has it migrates, in one transaction. Its statements wait at most two seconds for
a table's lock, since everybody else queues behind a migration that waits, then it rolls back, pauses and tries again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.exc import DBAPIError

import fabricmgr
from fabricmgr.domain.errors import DatabaseUnavailable, DatabaseUnsuitable
from fabricmgr.store import connect
from fabricmgr.store.connect import HOLDER, MIGRATION, Connection

LOCK_KEY = 0x6661627269630001  # "fabric", 1: one number of the space that all of a database's users share
LOOK = 0.2  # seconds between looks at who stands in the way
BLOCKED = ("55P03", "40P01")  # lock_not_available, deadlock_detected

Report = Callable[[str], None]


@dataclass(frozen=True)
class Patience:
    """For how long to try, and how long to let others work in between."""

    limit: timedelta = timedelta(minutes=5)
    pause: timedelta = timedelta(seconds=3)


def _ignore(sentence: str) -> None:
    del sentence


def folder() -> Path:
    """The migrations: inside an installed package, else beside it in a checkout."""
    package = Path(fabricmgr.__file__).parent
    installed = package / "_data" / "migrations"
    return installed if installed.exists() else package.parent / "migrations"


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(folder()).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def head() -> str:
    """The revision this version works with."""
    found = ScriptDirectory.from_config(config()).get_current_head()
    if found is None:
        raise DatabaseUnavailable(reason=f"there are no migrations in {folder()}")
    return found


async def current(url: str) -> str | None:
    """The revision a database has; None for an empty one."""
    connection = await connect.connect(url, "migration")
    try:
        return await _current(connection)
    finally:
        await connection.close()


async def _current(connection: Connection) -> str | None:
    if await connection.fetchval("select to_regclass('alembic_version')") is None:
        return None
    found = await connection.fetchval("select version_num from alembic_version")
    return None if found is None else str(found)


async def upgrade(
    url: str, report: Report = _ignore, patience: Patience = Patience(), pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Migrate to the newest revision; nothing to do is quick and takes no table's lock.

    `report` hears what is waited for: which lock, held by which session. Raises DatabaseUnavailable with that sentence when the patience is
    over; the schema is then as it was. Raises DatabaseUnsuitable for a schema of a newer version.
    """
    end = time.monotonic() + patience.limit.total_seconds()
    async with _sole(url, report, end, pause) as holder:
        found = await _current(holder)
        if found == head():
            return
        _refuse_unknown(found)
        while (blocked := await _attempt(url, holder)) is not None:
            report(f"the migration waits for {blocked}")
            if time.monotonic() >= end:
                raise DatabaseUnavailable(reason=f"the migration could not get its locks: it waits for {blocked}")
            await pause(patience.pause.total_seconds())


def _refuse_unknown(revision: str | None) -> None:
    known = {each.revision for each in ScriptDirectory.from_config(config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise DatabaseUnsuitable(
            reason=f"its schema has revision {revision}, which this version does not know: a newer one has worked with it",
            remedy="install that version again, or restore a backup from before it",
        )


@asynccontextmanager
async def _sole(url: str, report: Report, end: float, pause: Callable[[float], Awaitable[None]]) -> AsyncIterator[Connection]:
    """Hold the session lock of migrations, on a connection that does nothing else but look."""
    holder = await connect.connect(url, "migration lock", HOLDER)
    try:
        while not await holder.fetchval("select pg_try_advisory_lock($1)", LOCK_KEY):
            other = await _holder_of_lock(holder)
            report(f"another manager migrates: {other}")
            if time.monotonic() >= end:
                raise DatabaseUnavailable(reason=f"the migration could not begin: the lock of migrations is held by {other}")
            await pause(LOOK)
        yield holder
    finally:
        await holder.close()


async def _holder_of_lock(connection: Connection) -> str:
    found = await connection.fetchrow(
        f"""
        select {_SESSION} from pg_locks l join pg_stat_activity a using (pid)
        where l.locktype = 'advisory' and l.granted and l.objsubid = 1
          and l.database = (select oid from pg_database where datname = current_database())
          and (l.classid::bigint << 32 | l.objid::bigint) = $1
        """,
        LOCK_KEY,
    )
    return "a session that just ended" if found is None else _session(found)


_SESSION = "a.pid, a.usename, a.application_name, a.client_addr, a.state, a.xact_start, left(a.query, 120) as query"


def _session(row: asyncpg.Record) -> str:
    whence = f" from {row['client_addr']}" if row["client_addr"] else ""
    since = f" since {row['xact_start']:%H:%M:%S} UTC" if row["xact_start"] else ""
    about = f"{row['application_name'] or 'no name'}{whence}, {row['state']}{since}"
    return f"session {row['pid']} of {row['usename']} ({about}: {' '.join(row['query'].split())})"


async def _attempt(url: str, looker: Connection) -> str | None:
    """Run all pending migrations in one transaction. Gives what stood in the way, or None when they are done."""
    engine = connect.create_engine(url, "migration", size=1, limits=MIGRATION)
    seen = _Seen()
    try:
        async with engine.connect() as connection:
            pid = int((await connection.exec_driver_sql("select pg_backend_pid()")).scalar_one())
            await connection.rollback()
            watch = asyncio.create_task(_watch(looker, pid, seen))
            try:
                await connection.run_sync(_run)
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
        return None
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in BLOCKED:
            raise
        return seen.sentence or "a lock whose holder has ended"
    finally:
        await engine.dispose()


def _run(connection: SyncConnection) -> None:
    settings = config()
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


@dataclass
class _Seen:
    sentence: str = ""


async def _watch(looker: Connection, pid: int, seen: _Seen) -> None:
    """Note who blocks the migration while it waits: afterwards nobody can tell."""
    while True:
        row = await looker.fetchrow(
            f"""
            select {_SESSION}, l.mode, l.relation::regclass::text as relation
            from pg_locks l cross join lateral unnest(pg_blocking_pids(l.pid)) b (pid) join pg_stat_activity a on a.pid = b.pid
            where l.pid = $1 and not l.granted limit 1
            """,
            pid,
        )
        if row is not None:
            seen.sentence = f"{row['mode']} on {row['relation'] or 'a row'}, which {_session(row)} holds"
        await asyncio.sleep(LOOK)
