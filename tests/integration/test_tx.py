"""One transaction: what commits with it, what is tried again, and what the database's errors mean."""

import asyncio
from datetime import timedelta
from ipaddress import ip_address

import pytest
from sqlalchemy import select, text

from fabricmgr.domain.errors import AlreadyExists, Busy, DatabaseUnavailable, InUse, PrefixOverlap
from fabricmgr.domain.events import ClusterCreated, ClusterDeleted
from fabricmgr.store import connect
from fabricmgr.store.tables import cluster, history, outbox, pool, prefix
from fabricmgr.store.tx import Database, HistoryRow, Tx
from fabricmgr.store.wake import OUTBOX_CHANNEL
from tests.support.database import NOW, opened


async def insert_cluster(tx: Tx, name: str) -> int:
    found = await tx.value(cluster.insert().returning(cluster.c.id), {"name": name, "created_at": NOW})
    return int(found)


async def insert_prefix(tx: Tx, name: str, cidr: str, scope: int = 0) -> None:
    pool_id = await tx.value(pool.insert().returning(pool.c.id), {"name": name, "purpose": "Pod", "created_at": NOW, "scope": scope})
    row = {"pool_id": pool_id, "scope": scope, "cidr": cidr, "block_len": 26, "central": False, "created_at": NOW}
    await tx.change(prefix.insert(), row)


async def test_a_change_its_history_and_its_events_commit_together(database_url: str) -> None:
    async def change(tx: Tx) -> None:
        tx.emit(ClusterCreated("east", by="anna"))
        tx.remember(HistoryRow("allocated", address=ip_address("10.0.0.5"), scope=0, actor="anna", detail={"pool": "pods"}))
        tx.emit(ClusterDeleted("east", by="anna"))

    async with opened(database_url) as database:
        await database.run(change)

        async with database.read() as tx:
            events = await tx.all(select(outbox).order_by(outbox.c.id))
            kept = await tx.all(select(history))
    assert [(e.what, e.about) for e in events] == [
        ("ClusterCreated", {"cluster": "east", "by": "anna"}),
        ("ClusterDeleted", {"cluster": "east", "by": "anna"}),
    ]
    assert [(h.what, h.address, h.detail, h.at) for h in kept] == [("allocated", ip_address("10.0.0.5"), {"pool": "pods"}, NOW)]


async def test_a_use_case_that_raises_leaves_nothing(database_url: str) -> None:
    async def fail(tx: Tx) -> None:
        await insert_cluster(tx, "east")
        tx.emit(ClusterCreated("east", by="anna"))
        raise AlreadyExists("cluster", "east")

    async with opened(database_url) as database:
        with pytest.raises(AlreadyExists):
            await database.run(fail)

        async with database.read() as tx:
            assert await tx.all(select(cluster.c.name).where(cluster.c.name == "east")) == []
            assert await tx.all(select(outbox)) == []


async def test_an_overlap_names_both_prefixes_and_the_other_pool(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.run(lambda tx: insert_prefix(tx, "pods", "10.0.0.0/16"))

        with pytest.raises(PrefixOverlap) as refused:
            await database.run(lambda tx: insert_prefix(tx, "services", "10.0.128.0/24"))

    assert refused.value == PrefixOverlap("10.0.128.0/24", "10.0.0.0/16", "pods")


async def test_prefixes_of_two_scopes_may_overlap(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.run(lambda tx: insert_prefix(tx, "pods", "10.0.0.0/16"))
        await database.run(lambda tx: insert_prefix(tx, "apart", "10.0.0.0/16", scope=7))

        async with database.read() as tx:
            assert len(await tx.all(select(prefix))) == 2


async def test_a_name_taken_and_a_row_still_referred_to_have_errors_of_their_own(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.run(lambda tx: insert_prefix(tx, "pods", "10.0.0.0/16"))

        with pytest.raises(AlreadyExists) as taken:
            await database.run(lambda tx: insert_prefix(tx, "pods", "10.1.0.0/16"))
        with pytest.raises(InUse):
            await database.run(lambda tx: tx.change(pool.delete()))

    assert taken.value == AlreadyExists("pool", "pods")


async def test_a_deadlock_is_tried_again_and_both_sides_get_through(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.run(lambda tx: insert_cluster(tx, "east"))
        await database.run(lambda tx: insert_cluster(tx, "west"))
        both_began = asyncio.Barrier(2)
        tries: list[str] = []

        async def cross(first: str, second: str) -> None:
            async def use(tx: Tx) -> None:
                tries.append(first)
                await touch(tx, first)
                if len(tries) <= 2:
                    await both_began.wait()
                await touch(tx, second)

            await database.run(use)

        await asyncio.gather(cross("east", "west"), cross("west", "east"))

        async with database.read() as tx:
            versions = await tx.all(select(cluster.c.version).where(cluster.c.name.in_(["east", "west"])))
    assert [row.version for row in versions] == [3, 3]
    assert len(tries) > 2


async def touch(tx: Tx, name: str) -> None:
    await tx.change(cluster.update().where(cluster.c.name == name).values(version=cluster.c.version + 1))


async def test_a_connection_that_was_cut_is_replaced_unseen(database_url: str) -> None:
    async with opened(database_url, connections=1) as database:
        pid = await backend(database)
        other = await connect.connect(database_url, "operator")
        await other.execute("select pg_terminate_backend($1, 2000)", pid)
        await other.close()

        again = await backend(database)

    assert again != pid


async def backend(database: Database) -> int:
    async def ask(tx: Tx) -> int:
        return int(await tx.value(text("select pg_backend_pid()")))

    return await database.run(ask)


async def test_a_database_that_is_away_is_said_so_after_the_tries() -> None:
    async with opened("postgresql://nobody@127.0.0.1:1/none") as database:
        with pytest.raises(DatabaseUnavailable):
            await backend(database)
        with pytest.raises(DatabaseUnavailable):
            async with database.read() as tx:
                await tx.value(text("select 1"))


async def test_a_read_changes_nothing(database_url: str) -> None:
    async with opened(database_url) as database:
        with pytest.raises(DatabaseUnavailable):
            async with database.read() as tx:
                await insert_cluster(tx, "east")

        await database.run(lambda tx: insert_cluster(tx, "east"))


async def test_a_statement_that_waits_too_long_for_a_lock_is_tried_again(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.run(lambda tx: insert_cluster(tx, "east"))
        holder = await connect.connect(database_url, "slow", connect.MIGRATION)
        await holder.execute("begin; select from cluster where name = 'east' for update")
        release = asyncio.get_running_loop().call_later(2.5, lambda: asyncio.ensure_future(holder.close()))

        await database.run(lambda tx: touch(tx, "east"))
        release.cancel()

        async with database.read() as tx:
            assert await tx.value(select(cluster.c.version).where(cluster.c.name == "east")) == 2
    assert connect.WRITER.lock < timedelta(seconds=2.5)


async def test_a_change_that_is_no_event_wakes_those_who_wait_and_one_that_fails_wakes_nobody(database_url: str) -> None:
    woken = asyncio.Queue[str]()
    listener = await connect.connect(database_url, "listener", connect.HOLDER)
    await listener.add_listener(OUTBOX_CHANNEL, lambda *heard: woken.put_nowait(str(heard[2])))

    async def change(tx: Tx) -> None:
        tx.wake()

    async def fail(tx: Tx) -> None:
        tx.wake()
        raise AlreadyExists("cluster", "east")

    async with opened(database_url) as database:
        with pytest.raises(AlreadyExists):
            await database.run(fail)
        await database.run(change)
        await asyncio.wait_for(woken.get(), 5)

        async with database.read() as tx:
            assert await tx.all(select(outbox)) == []
    await listener.close()
    assert woken.empty()


async def test_a_caller_that_gets_no_connection_is_told_so_and_the_others_go_on(database_url: str) -> None:
    began, done = asyncio.Event(), asyncio.Event()

    async def hold(tx: Tx) -> None:
        await insert_cluster(tx, "east")
        began.set()
        await done.wait()

    database = await Database.open(database_url, clock=lambda: NOW, connections=1, turn=0.1, name="test")
    holding = asyncio.create_task(database.run(hold))
    await began.wait()
    with pytest.raises(Busy):
        await backend(database)
    done.set()
    await holding

    assert await backend(database) > 0
    await database.close()


async def test_a_look_sees_what_is_committed_and_can_change_nothing(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.run(lambda tx: insert_cluster(tx, "east"))

        async with database.look() as tx:
            seen = await tx.all(select(cluster.c.name))
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            async with database.look() as tx:
                await insert_cluster(tx, "west")

    assert "east" in [row.name for row in seen]
