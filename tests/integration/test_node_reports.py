"""What nodes report and say when they begin: it takes effect once, and a life that ended says nothing more."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from fabricmgr import wire
from fabricmgr.domain.errors import (
    HelloRequired,
    Invalid,
    LifeRefused,
    MachineRefused,
    NodeIsGone,
    ReportGap,
)
from fabricmgr.services import blocks
from fabricmgr.store.tx import Tx
from tests.support.accounting import broken
from tests.support.block_site import BOOT, copy, enrolled, pods
from tests.support.writing import Site, at_block, change, held, owned, site

pytestmark = pytest.mark.anyio


# --- reports ---------------------------------------------------------------------------------------------------------------


async def test_a_report_takes_effect_once_whatever_is_sent_how_often(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life, (block,) = await enrolled(here, count=1)
        spot = at_block(block, 3, 1)

        first = await here.report(node, life, 1, change("assigned", "c1", spot))
        again = await here.report(node, life, 1, change("assigned", "c1", spot))
        with pytest.raises(ReportGap) as gap:
            await here.report(node, life, 3, change("released", "c1", spot))
        with pytest.raises(HelloRequired):
            await here.report(node, uuid4(), 2, change("released", "c1", spot))
        after = await copy(here)
        last = await here.report(node, life, 2, change("released", "c1", spot), change("gone", "c1", spot))

        assert (first.number, again.number, gap.value.expected, last.number) == (1, 1, 2, 2)
        assert after == [("10.10.0.3", False)]
        assert await copy(here) == []
        history = await here.sql.fetch("select what from history order by id")
        assert [row["what"] for row in history] == ["assigned", "released", "gone"]
        assert await here.sql.fetchval("select count(*) from spare") == 0


async def test_a_report_may_hold_whole_lives_of_one_name_and_one_address(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, cooldown=0)
        node, life, (block,) = await enrolled(here, count=1)
        spots = [at_block(block, 3, n) for n in range(1, 4)]
        changes = [change(kind, "c1", spot) for spot in spots[:2] for kind in ("assigned", "released", "gone")]

        await here.report(node, life, 1, *changes, change("assigned", "c2", spots[2]))

        assert await copy(here) == [("10.10.0.3", False)]
        history = await here.sql.fetch("select what, generation from history order by id")
        assert [tuple(row) for row in history] == [
            (what, generation) for generation in (1, 2) for what in ("assigned", "released", "gone")
        ] + [("assigned", 3)]


async def test_who_had_an_address_while_the_manager_was_away_is_known_afterwards(database_url: str) -> None:
    """By the manager's clock, though the node's is a day behind; the report came ten minutes after the first pod."""
    async with site(database_url) as here:
        await pods(here)
        node, life, (block,) = await enrolled(here, count=1)
        behind = here.clock() - timedelta(days=1, seconds=600)
        changes = [
            change(kind, name, at_block(block, 3, n), at=behind + timedelta(seconds=n * 200 + passed))
            for n, name in enumerate(("c1", "c2", "c3"))
            for kind, passed in (("assigned", 0), ("released", 100), ("gone", 110))
        ]

        await here.report(node, life, 1, *changes[:4], age_ms=600_000)
        await here.report(node, life, 2, *changes[4:], age_ms=300_000)

        assert [await here.had("10.10.0.3", -seconds) for seconds in (650, 590, 495, 450, 390, 280, 190, 110, 80)] == [
            None, "c1", "c1", None, "c2", None, "c3", "c3", None,
        ]  # fmt: skip


async def test_history_keeps_the_order_of_a_nodes_reports_when_its_clock_and_the_way_to_us_do_not(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life, (block,) = await enrolled(here, count=1)
        spot, now = at_block(block, 3, 1), here.clock()

        await here.report(node, life, 1, change("assigned", "c1", spot, at=now))
        await here.report(node, life, 2, change("released", "c1", spot, at=now), age_ms=5_000)
        await here.report(node, life, 3, change("gone", "c1", spot, at=now), age_ms=60_000)

        rows = await here.sql.fetch("select what, at from history order by at, id")
        assert [(row["what"], row["at"]) for row in rows] == [("assigned", now), ("released", now), ("gone", now)]


async def test_a_pod_that_a_node_shows_in_its_hello_has_its_address_since_it_got_it(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life, (block,) = await enrolled(here, count=1)
        fast = here.clock() + timedelta(hours=2)
        shown = owned("c1", at_block(block, 3, 1), at=fast - timedelta(seconds=300))

        await here.hello(node, life, BOOT, blocks=[held(block)], attachments=[shown], now=fast)

        assert [await here.had("10.10.0.3", -seconds) for seconds in (310, 290)] == [None, "c1"]


async def test_a_hello_whose_clock_no_pod_can_be_dated_by_is_refused_and_changes_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life, (block,) = await enrolled(here, count=1)
        shown = owned("c1", at_block(block, 3, 1), at=datetime.min.replace(tzinfo=UTC))

        with pytest.raises(Invalid):
            await here.hello(node, life, BOOT, blocks=[held(block)], attachments=[shown], now=datetime.max.replace(tzinfo=UTC))

        assert await copy(here) == []


async def test_reports_of_blocks_or_claims_that_are_not_the_nodes_change_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life, (mine,) = await enrolled(here, "n1", count=1)
        other, other_life, (theirs,) = await enrolled(here, "n2", count=1)
        old = wire.BlockAddress(address="10.10.0.4", generation=1, block=mine.prefix, claim=mine.claim - 1)
        outside = wire.BlockAddress(address="10.10.0.77", generation=1, block=mine.prefix, claim=mine.claim)
        await here.report(other, other_life, 1, change("assigned", "c9", at_block(theirs, 2, 1)))

        await here.report(
            node,
            life,
            1,
            change("assigned", "c1", at_block(theirs, 3, 1)),
            change("assigned", "c2", old),
            change("assigned", "c3", outside),
            change("gone", "c9", at_block(theirs, 2, 1)),
        )

        assert await copy(here) == [("10.10.0.18", False)]


async def test_an_attachment_may_hold_one_family_from_a_block_and_one_from_the_manager(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, "10.10.0.0/24", "2001:db8::/120", block=None)
        node, life, (block,) = await enrolled(here, count=1)
        central = (await here.attach(node, "c1", families=[6])).addresses[0]
        spot = at_block(block, 3, 1)

        await here.report(node, life, 1, change("assigned", "c1", spot, central))
        row = await here.sql.fetchrow("select host(address4), host(address6) from allocation")
        await here.report(node, life, 2, change("released", "c1", spot, central), change("gone", "c1", spot, central))

        assert row is not None
        assert tuple(row) == ("10.10.0.3", central.address)
        spares = await here.sql.fetch("select host(address) as a from spare where released_at > 'epoch'")
        assert [each["a"] for each in spares] == [central.address]
        assert await broken(here) == []


# --- hello -----------------------------------------------------------------------------------------------------------------


async def test_a_node_that_restarts_without_its_journal_gets_all_its_addresses_back(database_url: str) -> None:
    """F012: a system container restarts under the same boot id; its twin on the same host is undisturbed."""
    async with site(database_url) as here:
        await pods(here, cooldown=60)
        node, life, (block,) = await enrolled(here, "n1", count=1)
        twin, twin_life, (theirs,) = await enrolled(here, "n2", count=1)
        await here.report(node, life, 1, *(change("assigned", f"c{n}", at_block(block, n, n)) for n in range(1, 11)))
        await here.report(twin, twin_life, 1, *(change("assigned", f"c{n}", at_block(theirs, n, n)) for n in range(1, 11)))
        here.clock.go(11)

        new_life = uuid4()
        welcome = await here.hello(node, new_life, BOOT, journal_lost=True)
        mine = next(each for each in welcome.blocks)
        again = [change("assigned", f"d{n}", at_block(mine, n, mine.generation + n)) for n in range(1, 11)]
        await here.report(node, new_life, 1, *again)

        assert (mine.prefix, mine.claim, mine.generation) == (block.prefix, block.claim + 1, 2**40)
        assert mine.rested_at is not None
        assert (mine.rested_at - here.clock()).total_seconds() == 60
        assert await here.sql.fetchval("select count(*) from allocation where node_id = $1", node.node_id) == 10
        assert await here.sql.fetchval("select count(*) from allocation where node_id = $1", twin.node_id) == 10
        stale = await here.sql.fetchval("select count(*) from allocation where container_id like 'c%' and node_id = $1", node.node_id)
        assert stale == 0


async def test_hello_says_again_the_same_and_an_unmentioned_attachment_is_released(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life, (block,) = await enrolled(here, count=1)
        spots = [at_block(block, n, n) for n in (1, 2)]
        await here.report(node, life, 1, *(change("assigned", f"c{n}", spot) for n, spot in enumerate(spots)))
        said = {"blocks": [held(block)], "attachments": [owned("c1", spots[1])], "last_number": 1}

        first = await here.hello(node, life, BOOT, **said)
        again = await here.hello(node, life, BOOT, **said)

        assert first.blocks == again.blocks
        assert (first.last_number, first.lost, first.conflicts) == (1, [], [])
        assert await copy(here) == [("10.10.0.2", False)]


async def test_hello_shows_what_no_report_has_told_yet(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, _, (block,) = await enrolled(here, count=1)
        here.clock.go(60)

        await here.hello(
            node,
            uuid4(),
            UUID(int=2),
            blocks=[held(block)],
            attachments=[owned("c1", at_block(block, 1, 1)), owned("c2", at_block(block, 2, 2), released=True)],
        )

        assert await copy(here) == [("10.10.0.1", False), ("10.10.0.2", True)]


async def test_a_new_boot_releases_all_of_the_old_life_and_central_addresses_rest(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, cooldown=60)
        node, life, (block,) = await enrolled(here, count=1)
        central = (await here.attach(node, "c9")).addresses[0]
        await here.report(node, life, 1, change("assigned", "c1", at_block(block, 1, 1)))
        here.clock.go(11)

        await here.hello(node, uuid4(), UUID(int=2), blocks=[held(block)])

        assert await copy(here) == []
        rows = await here.sql.fetch("select host(address) as a, released_at from spare where released_at > 'epoch'")
        assert [(row["a"], row["released_at"]) for row in rows] == [(central.address, here.clock())]
        assert await broken(here) == []


async def test_another_life_is_refused_while_the_old_one_is_heard(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life, _ = await enrolled(here)
        here.clock.go(9)
        await here.database.run(lambda tx: blocks.heartbeat(tx, node, here.clock()))
        here.clock.go(9)

        with pytest.raises(LifeRefused) as refused:
            await here.hello(node, uuid4(), BOOT)
        here.clock.go(1)
        welcome = await here.hello(node, uuid4(), BOOT)

        assert refused.value.seen_seconds_ago == 9
        assert welcome.node == "n1"
        with pytest.raises(HelloRequired):
            await here.report(node, life, 1)


async def test_a_cloned_image_is_refused(database_url: str) -> None:
    async with site(database_url) as here:
        node = await here.node("n1")

        with pytest.raises(MachineRefused):
            await here.hello(node, uuid4(), BOOT, machine_id="another")


# --- gone ------------------------------------------------------------------------------------------------------------------


async def test_what_a_gone_node_held_rests_and_its_late_words_change_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, cooldown=60)
        node, life, (block,) = await enrolled(here, count=1)
        central = (await here.attach(node, "c9")).addresses[0]
        await here.report(node, life, 1, change("assigned", "c1", at_block(block, 1, 7)))

        async def declare(site: Site) -> blocks.Back:
            async def use_case(tx: Tx) -> blocks.Back:
                return await blocks.take_back(tx, node.node_id, "admin", "declared gone", site.clock())

            await site.sql.execute("update node set state = 'gone'")
            return await site.database.run(use_case)

        back = await declare(here)
        with pytest.raises(NodeIsGone):
            await here.report(node, life, 2, change("assigned", "c2", at_block(block, 2, 8)))
        other, other_life, _ = await enrolled(here, "n2")
        early = await here.want(other, other_life, ("pods", 4, 15))
        here.clock.go(61)
        later = await here.want(other, other_life, ("pods", 4, 15))

        assert (back.released, back.blocks) == (2, 1)
        assert await copy(here) == []
        assert block.prefix not in {each.prefix for each in early.blocks}
        again = next(each for each in later.blocks if each.prefix == block.prefix)
        assert again.claim > block.claim
        assert again.generation >= 2**40
        assert await here.sql.fetchval("select host(address) from spare where released_at > 'epoch'") == central.address
        assert await broken(here) == []
