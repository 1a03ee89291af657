"""A room in which the embedded Postgres runs as root and as an ordinary user."""

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from fabricmgr.store import connect
from fabricmgr.store.connect import Connection
from tests.support.supervised import NOBODY, Room, room

# A test that starts servers as another user must be root itself; an ordinary user tests with what it is.
USERS = [0, NOBODY] if os.geteuid() == 0 else [os.geteuid()]
OLD = Path("/usr/lib/postgresql/15/bin")
BUSY = "select count(*) from generate_series(1, 1000000000) a"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="not root")


@pytest.fixture(scope="module")
def shared_room() -> Iterator[Room]:
    with room() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(shared_room: Room) -> Iterator[None]:
    yield
    shared_room.end_running()


@pytest.fixture(params=USERS, ids=lambda uid: pwd.getpwuid(uid).pw_name)
def uid(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def home(shared_room: Room, uid: int) -> Path:
    return shared_room.home(uid)


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Connection]:
    connection = await connect.connect(url, "test", connect.MIGRATION)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def fill(url: str, rows: int = 1000) -> None:
    async with session(url) as connection:
        await connection.execute(f"create table t as select generate_series(1, {rows}) n")


async def count(url: str) -> int:
    async with session(url) as connection:
        return int(await connection.fetchval("select count(*) from t"))


async def keep_busy(url: str) -> "asyncio.Task[None]":
    """A backend in the middle of a long computation, which does not look up when its postmaster dies."""
    began = asyncio.Event()

    async def work() -> None:
        async with session(url) as connection:
            began.set()
            await connection.execute(BUSY)

    task = asyncio.create_task(work())
    await began.wait()
    await asyncio.sleep(0.2)  # until the statement has reached the server
    return task


async def broken_off(task: "asyncio.Task[None]") -> bool:
    """Whether the statement ended because its server did."""
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return isinstance(result, asyncpg.PostgresError | asyncpg.InterfaceError | OSError)


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}
