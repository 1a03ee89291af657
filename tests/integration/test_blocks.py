"""Blocks of nodes: one holder at any time, by claim; and what hello and reports make of our copy."""

import asyncio
from ipaddress import ip_network
from uuid import UUID, uuid4

import pytest

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.errors import (
    HelloRequired,
    LifeRefused,
    MachineRefused,
    NodeIsGone,
    PoolExhausted,
    ReportGap,
    Unauthenticated,
)
from fabricmgr.services import blocks
from fabricmgr.store.tx import Tx
from tests.support.accounting import broken
from tests.support.writing import Site, at_block, change, held, owned, site

pytestmark = pytest.mark.anyio

BOOT = UUID(int=1)


async def enrolled(here: Site, name: str = "n1", count: int = 0) -> tuple[NodePrincipal, UUID, list[wire.GrantedBlock]]:
    """A node that said hello and holds some blocks."""
    node, life = await here.node(name), uuid4()
    await here.hello(node, life, BOOT)
    return node, life, await here.hold(node, life, count) if count else []


async def pods(here: Site, *prefixes: str, block: int | None = 28, reserved: tuple[str, ...] = (), cooldown: float = 60) -> None:
    await here.network("pods", await here.pool("pods", *(prefixes or ("10.10.0.0/24",)), block=block, reserved=reserved, cooldown=cooldown))


async def state(here: Site, prefix: str) -> tuple[str, int, int]:
    row = await here.sql.fetchrow("select state, claim, generation from block where cidr = $1", ip_network(prefix))
    assert row is not None
    return row["state"], row["claim"], row["generation"]


async def copy(here: Site) -> list[tuple[str, bool]]:
    """Addresses in our copy, and whether they were released."""
    rows = await here.sql.fetch("select host(coalesce(address4, address6)) as a, released_at is not null as r from allocation order by 1")
    return [(row["a"], row["r"]) for row in rows]


# --- claims ----------------------------------------------------------------------------------------------------------------


async def test_only_blocks_with_something_to_give_are_ever_claimed(database_url: str) -> None:
    """F017."""
    async with site(database_url) as here:
        reserved = ("10.30.0.0/25", "10.30.0.128/26", "10.30.0.192/28", "10.30.0.240/28", "10.30.0.209/32")
        await here.network("pods", await here.pool("pods", "10.30.0.0/24", reserved=reserved))
        nodes = [await enrolled(here, f"n{n}") for n in range(3)]

        got = [await here.want(node, life, ("pods", 4, 1)) for node, life, _ in nodes]

        assert [[each.prefix for each in one.blocks] for one in got] == [["10.30.0.208/28"], ["10.30.0.224/28"], []]
        assert got[0].blocks[0].reserved == ["10.30.0.209"]
        assert got[2].pressure == ["pods"]
        with pytest.raises(PoolExhausted):
            await here.take("pods", "central")


async def test_the_last_sixteenth_is_never_claimed_and_the_pool_is_shared_to_its_last_address(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        _, _, held_blocks = await enrolled(here, count=20)

        central = [str((await here.take("pods", f"c{n}")).addresses[0].address) for n in range(15)]

        assert len(held_blocks) == 15
        assert "10.10.0.240/28" not in {each.prefix for each in held_blocks}
        assert central == [f"10.10.0.{n}" for n in range(240, 255)]
        with pytest.raises(PoolExhausted):
            await here.take("pods", "one-more")
        assert await broken(here) == []


async def test_blocks_that_nodes_gave_back_serve_the_central_callers_when_all_else_is_used(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, cooldown=60)
        node, life, mine = await enrolled(here, count=15)
        for n in range(15):
            await here.take("pods", f"c{n}")
        await here.want(node, life, ("pods", 4, 0), give_back=[held(mine[3])])
        here.clock.go(61)
        assert await here.database.run(lambda tx: blocks.free_rested(tx, here.clock())) == 1

        got = await here.take("pods", "central")

        assert got.addresses[0].address in ip_network(mine[3].prefix)
        assert (await state(here, mine[3].prefix))[0] == "central"
        assert await broken(here) == []


async def test_an_unconfirmed_claim_is_withdrawn_after_a_minute_and_its_confirmation_comes_too_late(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life, _ = await enrolled(here)
        pending = (await here.want(node, life, ("pods", 4, 1))).blocks[0]
        early = await here.database.run(lambda tx: blocks.withdraw_unconfirmed(tx, here.clock()))
        here.clock.go(60)

        late = await here.database.run(lambda tx: blocks.withdraw_unconfirmed(tx, here.clock()))
        answer = await here.want(node, life, confirm=[held(pending)])

        assert (early, late) == (0, 1)
        assert answer.blocks == []
        assert await state(here, pending.prefix) == ("unclaimed", pending.claim + 1, 0)
        assert await here.sql.fetchval("select count(*) from outbox where what = 'BlockWithdrawn'") == 1


async def test_a_block_given_back_rests_by_our_clock_and_comes_back_with_its_generation(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, cooldown=60)
        node, life, mine = await enrolled(here, count=1)
        block = mine[0]
        used = wire.HeldBlock(prefix=block.prefix, claim=block.claim, generation=41)

        await here.want(node, life, give_back=[used])
        too_early = await here.database.run(lambda tx: blocks.free_rested(tx, here.clock()))
        here.clock.go(60)
        freed = await here.database.run(lambda tx: blocks.free_rested(tx, here.clock()))
        other, other_life, _ = await enrolled(here, "n2")
        again = (await here.want(other, other_life, ("pods", 4, 1))).blocks[0]

        assert (too_early, freed) == (0, 1)
        assert (again.prefix, again.generation) == (block.prefix, 41)
        assert again.claim > block.claim


async def test_giving_back_under_an_old_claim_changes_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life, mine = await enrolled(here, count=1)
        stale = wire.HeldBlock(prefix=mine[0].prefix, claim=mine[0].claim - 1, generation=0)

        answer = await here.want(node, life, give_back=[stale])

        assert [each.state for each in answer.blocks] == ["confirmed"]


async def test_a_node_cannot_confirm_or_give_back_anothers_block(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        _, _, mine = await enrolled(here, "n1", count=1)
        thief, life, _ = await enrolled(here, "n2")

        answer = await here.want(thief, life, confirm=[held(mine[0])], give_back=[held(mine[0])])

        assert answer.blocks == []
        assert (await state(here, mine[0].prefix))[0] == "confirmed"


async def test_nodes_that_claim_at_once_share_no_block(database_url: str) -> None:
    async with site(database_url) as here, site(database_url) as there:
        await pods(here, "10.10.0.0/22", "2001:db8::/116", block=None)
        nodes = [await enrolled(here, f"n{n}") for n in range(6)]

        asked = [
            (here, there)[n % 2].want(node, life, ("pods", 4, 2), ("pods", 6, 2))
            for n, (node, life, _) in enumerate(nodes)
            for _ in range(2)
        ]
        got = await asyncio.gather(*asked)

        by_node = [{each.prefix for each in got[2 * n].blocks} | {each.prefix for each in got[2 * n + 1].blocks} for n in range(6)]
        assert [len(each) for each in by_node] == [4] * 6
        assert len(set.union(*by_node)) == 24


async def test_a_central_block_whose_addresses_all_wait_and_have_rested_may_be_claimed_again(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, cooldown=60)
        names = [f"h{n}" for n in range(17)]
        for name in names:
            await here.take("pods", name)
        for name in names[1:]:
            await here.give("pods", name)
        here.clock.go(61)
        one_held = await here.database.run(lambda tx: blocks.retire_central(tx, here.clock()))
        await here.give("pods", names[0])
        cooling = await here.database.run(lambda tx: blocks.retire_central(tx, here.clock()))
        here.clock.go(61)

        retired = await here.database.run(lambda tx: blocks.retire_central(tx, here.clock()))
        node, life, _ = await enrolled(here)
        got = (await here.want(node, life, ("pods", 4, 1))).blocks

        assert (one_held, cooling, retired) == (0, 0, 1)
        assert [(each.prefix, each.claim, each.generation) for each in got] == [("10.10.0.0/28", 3, 1)]
        assert await broken(here) == []


# --- attachments the manager decides --------------------------------------------------------------------------------------


async def test_a_released_attachment_stays_taken_until_its_link_is_gone(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, "10.10.0.1/32", block=None)
        node, life, _ = await enrolled(here)
        given = (await here.attach(node, "c1")).addresses[0]

        await here.detach(node, "c1", given.generation)
        with pytest.raises(PoolExhausted):
            await here.attach(node, "c2")
        here.clock.go(600)
        with pytest.raises(PoolExhausted):
            await here.attach(node, "c2")
        await here.report(node, life, 1, change("gone", "c1", given))
        with pytest.raises(PoolExhausted):
            await here.attach(node, "c2")
        here.clock.go(60)
        again = (await here.attach(node, "c2")).addresses[0]

        assert (again.address, again.generation) == (given.address, given.generation + 1)
        assert await broken(here) == []


async def test_detach_with_an_old_generation_or_twice_changes_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, _, _ = await enrolled(here)
        given = (await here.attach(node, "c1")).addresses[0]

        await here.detach(node, "c1", given.generation - 1)
        before = await copy(here)
        await here.detach(node, "c1", given.generation)
        await here.detach(node, "c1", given.generation)
        await here.detach(node, "never-there", 1)

        assert before == [(given.address, False)]
        assert await copy(here) == [(given.address, True)]
        assert await here.sql.fetchval("select count(*) from history where what = 'released'") == 1


async def test_the_same_attachment_made_anew_gets_another_address_while_the_old_link_may_live(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life, _ = await enrolled(here)
        old = (await here.attach(node, "c1")).addresses[0]
        await here.detach(node, "c1", old.generation)

        new = (await here.attach(node, "c1")).addresses[0]
        repeated = await here.attach(node, "c1")
        await here.report(node, life, 1, change("released", "c1", old), change("gone", "c1", old))

        assert new.address != old.address
        assert repeated.addresses == [new]
        assert repeated.repeated
        assert await copy(here) == [(new.address, False)]
        assert await broken(here) == []


async def test_a_gone_node_or_a_revoked_certificate_gets_no_address(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        gone, _, _ = await enrolled(here, "n1")
        revoked, life, _ = await enrolled(here, "n2")
        await here.sql.execute("update node set state = 'gone' where name = 'n1'")
        await here.sql.execute("update certificate set revoked_at = now() where node_id = $1", revoked.node_id)

        for node in (gone, revoked):
            with pytest.raises(NodeIsGone):
                await here.attach(node, "c1")
            with pytest.raises(NodeIsGone):
                await here.attach(node, "c1", asked=["10.10.0.5"])
        with pytest.raises(NodeIsGone):
            await here.report(gone, uuid4(), 1)
        with pytest.raises(Unauthenticated):
            await here.report(revoked, life, 1)
        with pytest.raises(Unauthenticated):
            await here.want(revoked, life)

        assert await copy(here) == []


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
