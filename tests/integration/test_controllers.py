"""What the controllers do by themselves: months, retention, logins, silence, blocks."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

from sqlalchemy import func, select, text

from fabricmgr.controllers import liveness, logins, retention, sweep
from fabricmgr.domain.account import FIRST_ADMINISTRATOR, Lockout
from fabricmgr.domain.events import ClusterCreated
from fabricmgr.loop import Outcome, State
from fabricmgr.services import accounts, clusters
from fabricmgr.services.passwords import Passwords
from fabricmgr.settings import ManagerSettings
from fabricmgr.store import account_rows, audit_rows, connect, partitions
from fabricmgr.store.audit_rows import AuditRow
from fabricmgr.store.tables import audit, block, event, history, login_failure, node, outbox, pool, prefix, session
from fabricmgr.store.tx import Database, HistoryRow, Tx
from tests.support.database import NOW, opened
from tests.support.rows import insert_block, insert_node

SETTINGS = ManagerSettings()
DAY = timedelta(days=1)


# --- the history's months ------------------------------------------------------------------------------------------------


async def tables_of(database: Database) -> list[str]:
    async with database.read() as tx:
        return await partitions.existing(tx)


async def remember(database: Database, at: datetime, address: str = "10.0.0.1") -> None:
    row = vars(HistoryRow("allocated", address=ip_address(address))) | {"at": at}
    await database.run(lambda tx: tx.change(history.insert(), row))


async def stored(database: Database) -> list[tuple[str, str]]:
    """Each history row's table and time."""
    async with database.read() as tx:
        rows = await tx.all(text("select tableoid::regclass::text as place, at from history order by at"))
    return [(row.place, f"{row.at:%Y-%m-%d}") for row in rows]


async def test_the_months_are_made_two_ahead_and_repeating_it_changes_nothing(database_url: str) -> None:
    async with opened(database_url) as database:
        first = await retention.make_months(database, datetime(2026, 11, 30, 23, tzinfo=UTC))
        second = await retention.make_months(database, datetime(2026, 11, 30, 23, tzinfo=UTC))

        assert await tables_of(database) == ["history_2026_11", "history_2026_12", "history_2027_01"]
        assert first.sentence.startswith("made 2026-11")
        assert second == Outcome.done("all months are made")


async def test_what_the_default_partition_caught_moves_into_its_month(database_url: str) -> None:
    async with opened(database_url) as database:
        await remember(database, NOW)
        await remember(database, NOW + timedelta(days=400))

        await retention.make_months(database, NOW)

        assert await stored(database) == [("history_2026_03", "2026-03-01"), ("history_default", "2027-04-05")]


async def test_no_insert_fails_while_a_month_is_made(database_url: str) -> None:
    async with opened(database_url) as database:
        await remember(database, NOW)

        async def keep_writing() -> None:
            for number in range(60):
                await remember(database, NOW + timedelta(days=number))

        writing = [asyncio.create_task(keep_writing()) for _ in range(3)]
        await retention.make_months(database, NOW)
        await asyncio.gather(*writing)

        async with database.read() as tx:
            assert await tx.value(select(func.count()).select_from(history)) == 181


async def test_a_month_that_a_reader_keeps_from_being_made_leaves_the_history_as_it_was(database_url: str) -> None:
    async with opened(database_url) as database:
        await remember(database, NOW)
        reader = await connect.connect(database_url, "dump", connect.MIGRATION)
        await reader.execute("begin; select count(*) from history")

        outcome = await retention.make_months(database, NOW)
        await reader.close()

        assert outcome.state is State.AGAIN
        assert await stored(database) == [("history_default", "2026-03-01")]


async def test_old_months_are_dropped_and_old_rows_of_the_others_deleted(database_url: str) -> None:
    async with opened(database_url) as database:
        await retention.make_months(database, NOW - 60 * DAY)
        for days in (65, 40, 10, 2):
            await remember(database, NOW - days * DAY)
        settings = ManagerSettings(history_retention=5 * DAY)

        outcome = await retention.cut(database, settings, NOW)

        assert outcome.sentence == "dropped 2 months, 1 history rows, 0 audit rows, 0 events"
        assert await stored(database) == [("history_2026_02", "2026-02-27")]


# --- events, audit, logins -------------------------------------------------------------------------------------------------


async def test_old_events_go_but_never_the_newest_so_that_positions_go_on(database_url: str) -> None:
    async with opened(database_url) as database:
        rows = [{"position": n, "at": NOW - 100 * DAY, "what": "ClusterCreated", "about": {}} for n in range(1, 6)]
        await database.run(lambda tx: tx.change(event.insert(), rows))

        await retention.cut(database, SETTINGS, NOW)

        async with database.read() as tx:
            assert [row.position for row in await tx.all(select(event.c.position))] == [5]


async def test_events_that_wait_for_a_position_are_never_cut(database_url: str) -> None:
    async with opened(database_url, now=NOW - 1000 * DAY) as database:

        async def use(tx: Tx) -> None:
            tx.emit(ClusterCreated("east", by="test"))

        await database.run(use)
        await retention.cut(database, SETTINGS, NOW)

        async with database.read() as tx:
            assert len(await tx.all(select(outbox))) == 1


async def test_old_audit_rows_go_with_the_history(database_url: str) -> None:
    async with opened(database_url) as database:
        old, new = (AuditRow(NOW - days * DAY, "anna", "192.0.2.1", "POST", "/v1/pools", 201) for days in (100, 10))
        await database.run(lambda tx: audit_rows.insert(tx, [old, new]))

        await retention.cut(database, SETTINGS, NOW)

        async with database.read() as tx:
            assert [row.at for row in await tx.all(select(audit.c.at))] == [new.at]


async def test_sessions_that_timed_out_and_old_failures_are_forgotten(database_url: str, tmp_path: Path) -> None:
    passwords = Passwords(b"k" * 32)
    async with opened(database_url) as database:
        await accounts.ensure_first_administrator(database, passwords, tmp_path, NOW)

        async def use(tx: Tx) -> None:
            account = await accounts.get(tx, FIRST_ADMINISTRATOR)
            await account_rows.insert_session(tx, uuid4(), b"old", account.id, "192.0.2.1", NOW - timedelta(hours=1))
            await account_rows.insert_session(tx, uuid4(), b"new", account.id, "192.0.2.1", NOW)
            await account_rows.count_failure(tx, "anna", "192.0.2.1", Lockout(), NOW - timedelta(hours=1))
            await account_rows.count_failure(tx, "bert", "192.0.2.1", Lockout(), NOW)

        await database.run(use)
        outcome = await logins.forget(database, SETTINGS, NOW)

        async with database.read() as tx:
            assert [row.digest for row in await tx.all(select(session.c.digest))] == [b"new"]
            assert [row.account for row in await tx.all(select(login_failure.c.account))] == ["bert"]
    assert outcome == Outcome.done("forgot 1 sessions that timed out and 1 failed logins")
    passwords.close()


# --- nodes -----------------------------------------------------------------------------------------------------------------


async def cluster_id(tx: Tx) -> int:
    await clusters.ensure_default(tx, NOW)
    return int(await tx.value(text("select id from cluster")))


async def told(database: Database) -> list[tuple[str, dict[str, object]]]:
    async with database.read() as tx:
        rows = await tx.all(select(outbox).where(outbox.c.what.like("Node%")).order_by(outbox.c.id))
        return [(row.what, row.about) for row in rows]


async def test_a_silent_node_is_suspect_once_and_keeps_everything(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.run(partial(silent_node, seen_at=NOW - timedelta(seconds=40)))

        await liveness.look(database, NOW)
        again = await liveness.look(database, NOW)

        async with database.read() as tx:
            states = [(row.name, row.state) for row in await tx.all(select(node).order_by(node.c.name))]
            held = [row.state for row in await tx.all(select(block))]
        assert states == [("n1", "suspect"), ("n2", "added")]
        assert held == ["confirmed"]
        assert await told(database) == [("NodeSuspected", {"cluster": "default", "node": "n1", "silent_seconds": 40})]
        assert again == Outcome.done("no node fell silent and none came back")


async def test_a_node_that_is_heard_again_has_recovered(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.run(partial(silent_node, seen_at=NOW - timedelta(seconds=40)))
        await liveness.look(database, NOW)

        await database.run(lambda tx: tx.change(node.update().values(seen_at=NOW).where(node.c.name == "n1")))
        await liveness.look(database, NOW)

        assert [what for what, _ in await told(database)] == ["NodeSuspected", "NodeRecovered"]


async def silent_node(tx: Tx, seen_at: datetime) -> None:
    where = await cluster_id(tx)
    number = await insert_node(tx, where, "n1", state="enrolled", seen_at=seen_at)
    await insert_node(tx, where, "n2")
    await pods(tx)
    await insert_block(tx, "10.0.0.0/26", "confirmed", number, claim=1)


async def pods(tx: Tx) -> None:
    made = await tx.value(pool.insert().returning(pool.c.id), {"name": "pods", "purpose": "Pod", "created_at": NOW})
    row = {"pool_id": made, "scope": 0, "cidr": "10.0.0.0/16", "block_len": 26, "central": False, "created_at": NOW}
    number = await tx.value(prefix.insert().values(row).returning(prefix.c.id))
    await tx.change(text("insert into supply (prefix_id) values (:id)").bindparams(id=number))


# --- blocks ----------------------------------------------------------------------------------------------------------------


async def test_a_claim_nobody_confirmed_is_withdrawn_and_a_rested_block_freed_but_a_confirmed_one_stays(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.run(blocks_of_a_silent_node)

        outcome = await sweep.blocks_back(database, NOW)

        async with database.read() as tx:
            states = {str(row.cidr): row.state for row in await tx.all(select(block))}
    assert states == {
        "10.0.0.0/26": "confirmed",
        "10.0.0.64/26": "unclaimed",
        "10.0.0.128/26": "pending",
        "10.0.0.192/26": "unclaimed",
        "10.0.1.0/26": "releasing",
    }
    assert outcome.state is State.DONE
    assert outcome.sentence == "withdrew 1 claims that nobody confirmed, freed 1 rested blocks"


async def blocks_of_a_silent_node(tx: Tx) -> None:
    await pods(tx)
    number = await insert_node(tx, await cluster_id(tx), "n1", state="suspect", seen_at=NOW - 9 * DAY)
    await insert_block(tx, "10.0.0.0/26", "confirmed", number, claim=1, since=NOW - 9 * DAY)
    await insert_block(tx, "10.0.0.64/26", "pending", number, claim=1, since=NOW - timedelta(seconds=61))
    await insert_block(tx, "10.0.0.128/26", "pending", number, claim=1, since=NOW - timedelta(seconds=59))
    await insert_block(tx, "10.0.0.192/26", "releasing", number, claim=1, rested_at=NOW - timedelta(seconds=1))
    await insert_block(tx, "10.0.1.0/26", "releasing", number, claim=1, rested_at=NOW + timedelta(seconds=1))
