"""A database that is older than what agents know: a standby promoted too early, or a backup. Row by row of what is done then."""

from ipaddress import ip_network
from uuid import UUID, uuid4

import pytest

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.store.mark import is_past
from tests.support.accounting import broken
from tests.support.writing import Site, at_block, change, held, owned, site

pytestmark = pytest.mark.anyio

BOOT = UUID(int=1)


async def pods(here: Site) -> None:
    await here.network("pods", await here.pool("pods", "10.10.0.0/24", block=28))


async def later_mark(here: Site) -> str:
    """As an agent has it that saw more of this database's log than the database itself has."""
    row = await here.sql.fetchrow("select system_identifier::text as s from pg_control_system()")
    assert row is not None
    return f"{row['s']}:1:FFFF/0"


async def holding(here: Site, name: str, prefix: str, claim: int, *attachments: wire.Owned) -> tuple[NodePrincipal, wire.Welcome]:
    """A node whose agent says that it holds a block, with a mark this database does not reach."""
    node = await here.node(name)
    said = [wire.HeldBlock(prefix=prefix, claim=claim, generation=9)]
    mark = await later_mark(here)
    return node, await here.hello(node, uuid4(), BOOT, mark=mark, blocks=said, attachments=list(attachments))


async def state(here: Site, prefix: str) -> tuple[str, int, int] | None:
    row = await here.sql.fetchrow("select state, claim, generation from block where cidr = $1", ip_network(prefix))
    return None if row is None else (row["state"], row["claim"], row["generation"])


async def test_a_block_the_database_does_not_know_is_adopted_with_its_pods(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        spot = wire.BlockAddress(address="10.10.0.35", generation=8, block="10.10.0.32/28", claim=1)

        node, welcome = await holding(here, "n1", "10.10.0.32/28", 1, owned("c1", spot))

        assert (welcome.lost, welcome.conflicts) == ([], [])
        assert [(each.prefix, each.claim, each.state, each.generation) for each in welcome.blocks] == [("10.10.0.32/28", 1, "confirmed", 9)]
        assert await here.sql.fetchval("select host(address4) from allocation where node_id = $1", node.node_id) == "10.10.0.35"


async def test_a_block_that_became_unclaimed_in_the_lost_past_is_adopted(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        await here.sql.execute(
            "insert into block (prefix_id, cidr, len, scope, state, claim, since, rested_at)"
            " select id, '10.10.0.32/28', 28, 0, 'unclaimed', 2, now(), now() from prefix"
        )

        _, welcome = await holding(here, "n1", "10.10.0.32/28", 3)

        assert [(each.prefix, each.claim) for each in welcome.blocks] == [("10.10.0.32/28", 3)]


async def test_without_a_later_mark_the_database_is_right_and_the_block_is_lost(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node = await here.node("n1")
        said = [wire.HeldBlock(prefix="10.10.0.32/28", claim=5, generation=9)]

        welcome = await here.hello(node, uuid4(), BOOT, blocks=said)

        assert (welcome.blocks, welcome.lost) == ([], ["10.10.0.32/28"])
        assert await state(here, "10.10.0.32/28") is None


async def test_a_block_that_two_hold_is_held_back_and_told(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        first, life = await here.node("n1"), uuid4()
        await here.hello(first, life, BOOT)
        (block,) = await here.hold(first, life, 1)

        _, welcome = await holding(here, "n2", block.prefix, block.claim)

        assert welcome.lost == [block.prefix]
        assert (await state(here, block.prefix) or ("",))[0] == "held_back"
        assert await here.sql.fetchval("select count(*) from outbox where what = 'BlockHeldBack'") == 1
        again = await here.want(first, life, ("pods", 4, 1))
        assert [each.state for each in again.blocks if each.prefix == block.prefix] == ["held_back"]


async def test_a_stale_claim_on_anothers_block_is_lost_and_holds_nothing_back(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        first, life = await here.node("n1"), uuid4()
        await here.hello(first, life, BOOT)
        (block,) = await here.hold(first, life, 1)
        await here.sql.execute("update block set claim = 7")

        _, welcome = await holding(here, "n2", block.prefix, 6)

        assert welcome.lost == [block.prefix]
        assert (await state(here, block.prefix) or ("",))[0] == "confirmed"


async def test_central_addresses_that_the_journal_has_are_assigned_anew_with_their_generation(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        central = wire.BlockAddress(address="10.10.0.70", generation=4)
        node, life = await here.node("n1"), uuid4()

        welcome = await here.hello(node, life, BOOT, mark=await later_mark(here), attachments=[owned("c1", central)])
        row = await here.sql.fetchrow("select host(address4) as a, generation4 as g from allocation")
        await here.report(node, life, 1, change("released", "c1", central), change("gone", "c1", central))

        assert welcome.conflicts == []
        assert row is not None
        assert (row["a"], row["g"]) == ("10.10.0.70", 4)
        assert await here.sql.fetchval("select count(*) from allocation") == 0
        assert await broken(here) == []


async def test_a_central_address_that_another_owner_has_by_now_is_a_conflict_for_both_to_see(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        given = await here.take("pods", "web1")
        address = str(given.addresses[0].address)
        node = await here.node("n1")
        central = wire.BlockAddress(address=address, generation=4)

        welcome = await here.hello(node, uuid4(), BOOT, mark=await later_mark(here), attachments=[owned("c1", central)])

        assert welcome.conflicts == [address]
        assert await here.sql.fetchval("select name from allocation") == "web1"
        assert await here.sql.fetchval("select count(*) from outbox where what = 'AddressConflictDetected'") == 1


async def test_what_a_node_holds_inside_its_block_is_as_its_agent_says(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life = await here.node("n1"), uuid4()
        await here.hello(node, life, BOOT)
        (block,) = await here.hold(node, life, 1)
        await here.report(node, life, 1, change("assigned", "c1", at_block(block, 3, 1)))

        shown = [owned("c2", at_block(block, 3, 2))]
        await here.hello(node, life, BOOT, blocks=[held(block)], attachments=shown, last_number=4, mark=await later_mark(here))
        ack = await here.report(node, life, 5)

        rows = await here.sql.fetch("select container_id, generation4 from allocation")
        assert [tuple(row) for row in rows] == [("c2", 2)]
        assert ack.number == 5


@pytest.mark.parametrize(
    ("quoted", "past"),
    [
        ("", True),
        ("7:1:0/10", True),
        ("7:1:1/0", True),
        ("7:1:1/1", False),
        ("7:1:2/0", False),
        ("7:2:0/10", False),
        ("8:1:0/10", False),
        ("nonsense", False),
        ("7:1:x/y", False),
    ],
)
def test_a_mark_is_past_only_on_the_same_timeline_of_the_same_system(quoted: str, past: bool) -> None:
    assert is_past(quoted, "7:1:1/0") is past


async def test_marks_only_go_up_and_an_acknowledged_report_lies_in_the_past(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life = await here.node("n1"), uuid4()
        first = (await here.hello(node, life, BOOT)).mark
        second = (await here.report(node, life, 1)).mark
        third = (await here.report(node, life, 2)).mark

        assert is_past(first, second)
        assert is_past(second, third)
        assert not is_past(third, first)
