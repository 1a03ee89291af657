"""Positions of events: dense, in the order of changes to one thing, whoever writes and whoever leads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
from sqlalchemy import select, text

from fabricmgr.controllers.leader import Leader
from fabricmgr.controllers.outbox import positioning
from fabricmgr.domain.errors import DatabaseUnavailable
from fabricmgr.domain.events import ClusterCreated, PoolChanged
from fabricmgr.loop import Loop
from fabricmgr.store import connect
from fabricmgr.store.leadership import Leading, lead
from fabricmgr.store.positions import move
from fabricmgr.store.tables import cluster, event, outbox
from fabricmgr.store.tx import Database, Tx
from fabricmgr.store.wake import EVENT_CHANNEL
from tests.support.database import NOW, opened

WRITERS, ROWS, CHANGES = 16, 5, 40


@dataclass
class Standing:
    """A leader under test, and the sessions it led by."""

    leader: Leader
    sessions: list[int] = field(default_factory=list)


@asynccontextmanager
async def standing(url: str, name: str = "leader") -> AsyncIterator[Standing]:
    """A process that leads, or stands by."""
    sessions: list[int] = []

    def duties(leading: Leading) -> list[Loop]:
        sessions.append(leading.since)
        return [positioning(leading)]

    made = Standing(Leader(url, name, duties), sessions)
    task = asyncio.create_task(made.leader.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(database: Database, statement: str, wanted: object, limit: float = 20.0) -> None:
    """Until a question has its answer."""
    found: object = None
    for _ in range(int(limit / 0.02)):
        async with database.read() as tx:
            found = await tx.value(text(statement))
        if found == wanted:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{statement}: {found!r} after {limit} s, not {wanted!r}")


async def until_leads(standing: Standing) -> None:
    for _ in range(1000):
        if standing.leader.leads:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not lead after 10 s")


async def rows(database: Database) -> None:
    values = [{"name": f"c{number}", "created_at": NOW} for number in range(ROWS)]

    async def insert(tx: Tx) -> None:
        await tx.change(cluster.insert(), values)

    await database.run(insert)


async def change(tx: Tx, name: str) -> None:
    """One more version of a row, told with the version it became."""
    found = await tx.value(
        cluster.update().where(cluster.c.name == name).values(version=cluster.c.version + 1).returning(cluster.c.version)
    )
    tx.emit(PoolChanged(name, (str(found),), by="test"))


async def write(database: Database, writer: int) -> None:
    for number in range(CHANGES):
        name = f"c{(writer * 7 + number) % ROWS}"
        await database.run(partial(change, name=name))


async def assert_dense_and_in_order(database: Database, expected: int) -> None:
    await until(database, "select count(*) from event", expected)
    async with database.read() as tx:
        found = await tx.all(select(event).order_by(event.c.position))
        assert await tx.all(select(outbox.c.id)) == []
    assert [row.position for row in found] == list(range(1, expected + 1))
    for name in {row.about["pool"] for row in found}:
        versions = [int(row.about["changed"][0]) for row in found if row.about["pool"] == name]
        assert versions == sorted(versions), f"changes of {name} swapped"


async def test_sixteen_writers_on_five_rows_get_dense_positions_in_the_order_of_their_commits(database_url: str) -> None:
    async with opened(database_url, connections=WRITERS) as database, standing(database_url):
        await rows(database)

        await asyncio.gather(*(write(database, number) for number in range(WRITERS)))

        await assert_dense_and_in_order(database, WRITERS * CHANGES)


async def test_a_leader_that_is_killed_costs_no_event_and_doubles_none(database_url: str) -> None:
    async with opened(database_url, connections=WRITERS) as database:
        await rows(database)
        async with standing(database_url, "one") as first, standing(database_url, "two") as second:
            writing = asyncio.gather(*(write(database, number) for number in range(WRITERS)))
            killer = await connect.connect(database_url, "killer")
            for _ in range(4):
                await asyncio.sleep(0.1)
                await killer.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name in ('fabricmgr one', 'fabricmgr two') "
                    "and datname = current_database() and pid in (select pid from pg_locks where locktype = 'advisory' and granted)"
                )
            await killer.close()
            await writing

            await assert_dense_and_in_order(database, WRITERS * CHANGES)
        assert len(first.sessions) + len(second.sessions) > 1


async def test_only_one_of_two_leads_and_the_other_follows_at_once(database_url: str) -> None:
    async with standing(database_url, "one") as first:
        await until_leads(first)
        async with standing(database_url, "two") as second:
            killer = await connect.connect(database_url, "killer")
            waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted and pid <> pg_backend_pid()"
            for _ in range(1000):
                if await killer.fetchval(waits):
                    break
                await asyncio.sleep(0.01)
            alone = not second.leader.leads

            await killer.execute("select pg_terminate_backend($1)", first.sessions[0])
            await until_leads(second)

            await killer.close()
            assert alone


async def test_a_deposed_leader_moves_nothing(database_url: str) -> None:
    async with opened(database_url) as database, lead(database_url, "old") as old:
        killer = await connect.connect(database_url, "killer")
        await killer.execute("select pg_terminate_backend($1, 2000)", old.since)
        await killer.close()

        await database.run(_told)
        with pytest.raises(DatabaseUnavailable):
            await move(old)

        assert old.lost.is_set()
        async with database.read() as tx:
            assert await tx.all(select(event)) == []
            assert len(await tx.all(select(outbox))) == 1


async def _told(tx: Tx) -> None:
    tx.emit(ClusterCreated("east", by="test"))


async def test_a_change_that_commits_late_is_not_skipped(database_url: str) -> None:
    async with opened(database_url) as database, standing(database_url):
        late = asyncio.Event()
        began = asyncio.Event()

        async def slow(tx: Tx) -> None:
            tx.emit(ClusterCreated("late", by="test"))
            await tx.flush(NOW)
            began.set()
            await late.wait()

        writing = asyncio.create_task(database.run(slow))
        await began.wait()
        await database.run(_told)
        await until(database, "select count(*) from event", 1)
        late.set()
        await writing

        await until(database, "select count(*) from event", 2)
        async with database.read() as tx:
            found = await tx.all(select(event).order_by(event.c.position))
    assert [(row.position, row.about["cluster"]) for row in found] == [(1, "east"), (2, "late")]


async def test_readers_are_woken_by_the_newest_position(database_url: str) -> None:
    async with opened(database_url) as database, standing(database_url):
        heard: asyncio.Queue[object] = asyncio.Queue()
        listening = await connect.connect(database_url, "reader")
        await listening.add_listener(EVENT_CHANNEL, lambda *about: heard.put_nowait(about[3]))

        await database.run(_told)
        payload = await asyncio.wait_for(heard.get(), 5)

        await listening.close()
    assert payload == "1"
