"""Blocks of nodes: one holder at any time, by claim; and addresses that the manager decides for attachments."""

import asyncio
from ipaddress import ip_network
from uuid import uuid4

import pytest

from fabricmgr import wire
from fabricmgr.domain.errors import (
    NodeIsGone,
    PoolExhausted,
    Unauthenticated,
)
from fabricmgr.services import blocks
from tests.support.accounting import broken
from tests.support.block_site import copy, enrolled, pods, state
from tests.support.writing import change, held, site

pytestmark = pytest.mark.anyio


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
