"""Pools on Postgres: overlaps, block lengths, reservations, usage, growing, and removal of what nobody holds."""

import asyncio
from datetime import timedelta
from ipaddress import ip_address, ip_network
from uuid import uuid4

import pytest
from sqlalchemy import select

from fabricmgr.domain.addresses import Family, parse_prefix
from fabricmgr.domain.errors import (
    AddressOutside,
    AlreadyExists,
    InUse,
    Invalid,
    NotFound,
    PrefixOverlap,
    ReservationHeld,
    VersionConflict,
)
from fabricmgr.domain.names import DEFAULT_CLUSTER, pool_name
from fabricmgr.domain.page import Page
from fabricmgr.domain.pool import (
    Pool,
    PoolChange,
    PoolDraft,
    PoolFilter,
    PrefixDraft,
    Purpose,
    ReservationDraft,
    Usage,
    parse_prefixes,
)
from fabricmgr.services import clusters, pools
from fabricmgr.store.tables import outbox, supply
from fabricmgr.store.tx import Database, Tx
from tests.support.database import NOW, opened
from tests.support.rows import insert_allocation, insert_block, insert_node, insert_spare

PODS = pool_name("pods")


def draft(name: str, *prefixes: str, purpose: Purpose = Purpose.POD, skip_ends: bool = True, keep: tuple[str, ...] = ()) -> PoolDraft:
    cidrs = [cidr for text in prefixes for cidr in parse_prefixes(text)]
    kept = tuple(ReservationDraft(parse_prefix(text), "printers") for text in keep)
    return PoolDraft(pool_name(name), tuple(PrefixDraft(c) for c in cidrs), purpose, skip_ends=skip_ends, reservations=kept)


async def create(database: Database, wanted: PoolDraft) -> Pool:
    return await database.run(lambda tx: pools.create(tx, wanted, "anna", NOW))


async def usage(database: Database, name: str = "pods") -> list[Usage]:
    async with database.read() as tx:
        return await pools.usage(tx, pool_name(name), NOW)


def parts(each: Usage) -> tuple[int, int, int, int, int, int]:
    return each.total, each.held, each.reserved, each.cooling, each.idle, each.free


async def test_a_pool_has_prefixes_of_both_families_and_of_ranges(database_url: str) -> None:
    async with opened(database_url) as database:
        made = await create(database, draft("pods", "10.0.0.0/16", "10.1.0.8-10.1.0.19", "2001:db8::/64"))

        async with database.read() as tx:
            told = await tx.all(select(outbox.c.what, outbox.c.about))
            supplies = await tx.all(select(supply.c.prefix_id))

    assert [str(each.cidr) for each in made.prefixes] == ["10.0.0.0/16", "10.1.0.8/29", "10.1.0.16/30", "2001:db8::/64"]
    assert [each.block_length for each in made.prefixes] == [26, 32, 32, 122]
    assert [each.central for each in made.prefixes] == [False, True, True, False]
    assert made.families() == (Family.IPV4, Family.IPV6)
    assert [row.what for row in told] == ["PoolCreated"]
    assert told[0].about["prefixes"] == ["10.0.0.0/16", "10.1.0.8/29", "10.1.0.16/30", "2001:db8::/64"]
    assert sorted(row.prefix_id for row in supplies) == [each.id for each in made.prefixes]


async def test_nodes_claim_no_blocks_of_a_pool_that_is_not_for_pods(database_url: str) -> None:
    async with opened(database_url) as database:
        made = await create(database, draft("services", "10.96.0.0/16", purpose=Purpose.SERVICE))

    assert made.prefixes[0].central


async def test_an_overlap_with_another_pool_names_it_and_creates_nothing(database_url: str) -> None:
    async with opened(database_url) as database:
        await create(database, draft("pods", "10.0.0.0/16"))

        with pytest.raises(PrefixOverlap) as refused:
            await create(database, draft("services", "10.200.0.0/24", "10.0.3.0/24"))

        async with database.read() as tx:
            with pytest.raises(NotFound):
                await pools.get(tx, pool_name("services"))
    assert refused.value == PrefixOverlap("10.0.3.0/24", "10.0.0.0/16", "pods")


async def test_of_two_racing_pools_with_one_prefix_one_wins_and_the_other_is_told(database_url: str) -> None:
    async with opened(database_url) as database:
        wanted = [draft(f"pool-{n}", "10.0.0.0/16") for n in range(6)]

        answers = await asyncio.gather(*(create(database, each) for each in wanted), return_exceptions=True)

    won = [answer for answer in answers if isinstance(answer, Pool)]
    lost = [answer for answer in answers if isinstance(answer, PrefixOverlap)]
    assert len(won) == 1
    assert len(lost) == 5
    assert {each.pool for each in lost} == {won[0].name}


def test_prefixes_of_one_draft_that_overlap_each_other_are_refused() -> None:
    with pytest.raises(Invalid) as refused:
        draft("pods", "10.0.0.0/16", "10.2.0.0/16", "10.0.4.0/24")

    assert "10.0.0.0/16 and 10.0.4.0/24" in str(refused.value.value)


async def test_a_name_is_taken_once(database_url: str) -> None:
    async with opened(database_url) as database:
        await create(database, draft("pods", "10.0.0.0/16"))

        with pytest.raises(AlreadyExists):
            await create(database, draft("pods", "10.9.0.0/16"))


@pytest.mark.parametrize(
    ("prefix", "addresses"), [("192.0.2.8/31", 2), ("192.0.2.20/32", 1), ("2001:db8:9::/127", 2), ("2001:db8:9::9/128", 1)]
)
async def test_prefixes_of_one_or_two_addresses_give_all_of_them(database_url: str, prefix: str, addresses: int) -> None:
    """F016: skipping first and last address does not apply to so short prefixes; sizes are what they are, never negative."""
    async with opened(database_url) as database:
        await create(database, draft("pods", prefix))

        [counted] = await usage(database)

    assert parts(counted) == (addresses, 0, 0, 0, 0, addresses)


async def test_the_parts_of_the_usage_add_up_in_every_state(database_url: str) -> None:
    """F017 in part: reserved, allocated and free add up to the size."""
    async with opened(database_url) as database:
        await create(database, draft("pods", "10.0.0.0/24", keep=("10.0.0.20/30", "10.0.0.38/32")))

        async def fill(tx: Tx) -> None:
            node_id = await insert_node(tx, (await clusters.ensure_default(tx, NOW)).id, "n1")
            await insert_block(tx, "10.0.0.0/28", "confirmed", node_id)
            await insert_block(tx, "10.0.0.16/28", "releasing", node_id)
            await insert_block(tx, "10.0.0.32/28", "central")
            await insert_block(tx, "10.0.0.48/28", "unclaimed", rested_at=NOW + timedelta(seconds=1))
            await insert_block(tx, "10.0.0.64/28", "unclaimed", rested_at=NOW)
            await insert_allocation(tx, "10.0.0.1", node_id=node_id)
            await insert_allocation(tx, "10.0.0.2", node_id=node_id, released_at=NOW)
            await insert_allocation(tx, "10.0.0.33", released_at=NOW)
            await insert_allocation(tx, "10.0.0.34")
            await insert_spare(tx, "10.0.0.35", NOW - timedelta(seconds=59))
            await insert_spare(tx, "10.0.0.36", NOW - timedelta(seconds=61))

        await database.run(fill)

        [counted] = await usage(database)

    idle = (16 - 1 - 2) + (16 - 4)
    cooling = 2 + 16 + 1
    reserved = 2 + 4 + 1
    assert parts(counted) == (256, 2, reserved, cooling, idle, 256 - 2 - reserved - cooling - idle)


async def test_totals_of_ipv6_exceed_64_bits(database_url: str) -> None:
    async with opened(database_url) as database:
        await create(database, draft("pods", "2001:db8::/32", "2001:db9::/32", "10.0.0.0/16"))

        four, six = await usage(database)

    assert four.total == 65536
    assert six.total == 2 * 2**96
    assert six.free == 2 * (2**96 - 2)


async def test_a_reservation_lies_inside_the_pool_and_over_nothing_that_is_held(database_url: str) -> None:
    async with opened(database_url) as database:
        await create(database, draft("pods", "10.0.0.0/24"))
        await database.run(lambda tx: insert_allocation(tx, "10.0.0.77"))

        with pytest.raises(AddressOutside):
            await database.run(lambda tx: pools.reserve(tx, PODS, parse_prefix("10.0.1.0/28"), "printers", "anna", NOW))
        with pytest.raises(ReservationHeld) as refused:
            await database.run(lambda tx: pools.reserve(tx, PODS, parse_prefix("10.0.0.64/26"), "printers", "anna", NOW))
        once = await database.run(lambda tx: pools.reserve(tx, PODS, parse_prefix("10.0.0.64/29"), "printers", "anna", NOW))
        twice = await database.run(lambda tx: pools.reserve(tx, PODS, parse_prefix("10.0.0.64/29"), "printers", "anna", NOW))

    assert refused.value.held == "10.0.0.77"
    assert [(str(kept.cidr), kept.reason) for kept in once.prefixes[0].reservations] == [("10.0.0.64/29", "printers")]
    assert twice == once


async def test_a_reservation_is_taken_back(database_url: str) -> None:
    async with opened(database_url) as database:
        await create(database, draft("pods", "10.0.0.0/24", keep=("10.0.0.64/29",)))

        after = await database.run(lambda tx: pools.unreserve(tx, PODS, parse_prefix("10.0.0.64/29"), "anna", NOW))
        with pytest.raises(NotFound):
            await database.run(lambda tx: pools.unreserve(tx, PODS, parse_prefix("10.0.0.64/29"), "anna", NOW))

    assert after.prefixes[0].reservations == ()


async def test_a_gateway_is_kept_out_as_long_as_its_prefix_names_it(database_url: str) -> None:
    wanted = PoolDraft(PODS, (PrefixDraft(parse_prefix("10.0.0.0/24"), gateway=ip_address("10.0.0.254")),))
    async with opened(database_url) as database:
        made = await create(database, wanted)

        with pytest.raises(InUse):
            await database.run(lambda tx: pools.unreserve(tx, PODS, parse_prefix("10.0.0.254/32"), "anna", NOW))

    assert [str(kept.cidr) for kept in made.prefixes[0].reservations] == ["10.0.0.254/32"]


async def test_a_pool_grows_and_its_version_with_it(database_url: str) -> None:
    async with opened(database_url) as database:
        made = await create(database, draft("pods", "10.0.0.0/24"))

        grown = await database.run(lambda tx: pools.add_prefix(tx, PODS, PrefixDraft(parse_prefix("10.0.1.0/24")), "anna", NOW))
        again = await database.run(lambda tx: pools.add_prefix(tx, PODS, PrefixDraft(parse_prefix("10.0.1.0/24")), "anna", NOW))

    assert [str(each.cidr) for each in grown.prefixes] == ["10.0.0.0/24", "10.0.1.0/24"]
    assert grown.version == made.version + 1
    assert again == grown


async def test_a_change_that_quotes_an_old_version_changes_nothing(database_url: str) -> None:
    async with opened(database_url) as database:
        made = await create(database, draft("pods", "10.0.0.0/24"))
        wanted = PoolChange(cooldown=timedelta(seconds=5))

        answers = await asyncio.gather(
            *(database.run(lambda tx: pools.change(tx, PODS, wanted, made.version, "anna", NOW)) for _ in range(4)),
            return_exceptions=True,
        )

        async with database.read() as tx:
            now = await pools.get(tx, PODS)
    assert sorted(type(answer).__name__ for answer in answers) == ["Pool"] + ["VersionConflict"] * 3
    assert all(a == VersionConflict("pool", "pods", "1", "2") for a in answers if not isinstance(a, Pool))
    assert (now.cooldown, now.version) == (timedelta(seconds=5), 2)


@pytest.mark.parametrize("holder", ["allocation", "waiting", "block", "resting"])
async def test_a_prefix_goes_only_when_nothing_of_it_is_held(database_url: str, holder: str) -> None:
    cidr = parse_prefix("10.0.1.0/24")
    async with opened(database_url) as database:
        await create(database, draft("pods", "10.0.0.0/24", "10.0.1.0/24"))

        async def hold(tx: Tx) -> None:
            node_id = await insert_node(tx, (await clusters.ensure_default(tx, NOW)).id, "n1")
            if holder in ("allocation", "waiting"):
                await insert_block(tx, "10.0.1.0/28", "central")
                await insert_allocation(tx, "10.0.1.1", released_at=NOW if holder == "waiting" else None)
            elif holder == "block":
                await insert_block(tx, "10.0.1.0/28", "pending", node_id)
            else:
                await insert_block(tx, "10.0.1.0/28", "unclaimed", rested_at=NOW + timedelta(seconds=30))

        await database.run(hold)
        with pytest.raises(InUse):
            await database.run(lambda tx: pools.remove_prefix(tx, PODS, cidr, "anna", NOW))
        with pytest.raises(InUse):
            await database.run(lambda tx: pools.delete(tx, PODS, None, "anna", NOW))

        async with database.read() as tx:
            assert len((await pools.get(tx, PODS)).prefixes) == 2


async def test_a_prefix_and_a_pool_of_which_nothing_is_held_go_with_spares_and_blocks(database_url: str) -> None:
    async with opened(database_url) as database:
        await create(database, draft("pods", "10.0.0.0/24", "10.0.1.0/24", keep=("10.0.1.128/25",)))

        async def use(tx: Tx) -> None:
            await insert_block(tx, "10.0.1.0/28", "central")
            await insert_block(tx, "10.0.0.0/28", "central")
            await insert_spare(tx, "10.0.1.1", NOW)

        await database.run(use)
        left = await database.run(lambda tx: pools.remove_prefix(tx, PODS, parse_prefix("10.0.1.0/24"), "anna", NOW))
        await database.run(lambda tx: pools.delete(tx, PODS, None, "anna", NOW))

        async with database.read() as tx:
            assert (await pools.list_all(tx, PoolFilter(), Page())).items == ()
            assert await tx.all(select(supply)) == []
    assert [str(each.cidr) for each in left.prefixes] == ["10.0.0.0/24"]


async def test_pools_and_blocks_come_in_pages_that_make_the_whole(database_url: str) -> None:
    async with opened(database_url) as database:
        for n in range(5):
            await create(
                database, draft(f"pool-{n}", f"10.{n}.0.0/24", f"2001:db8:{n}::/64", purpose=Purpose.NODE if n == 4 else Purpose.POD)
            )

        async def fill(tx: Tx) -> None:
            for n in range(5):
                await insert_block(tx, f"10.0.0.{16 * n}/28", "central")
            await insert_block(tx, "2001:db8:0::/122", "central")

        await database.run(fill)

        names, after = [], None
        blocks: list[str] = []
        async with database.read() as tx:
            while True:
                got = await pools.list_all(tx, PoolFilter(purpose=Purpose.POD), Page(3, after))
                names += [each.name for each in got.items]
                if (after := got.next) is None:
                    break
            while True:
                page = await pools.blocks(tx, pool_name("pool-0"), Page(2, after))
                blocks += [str(each.prefix) for each in page.items]
                if (after := page.next) is None:
                    break
    assert names == ["pool-0", "pool-1", "pool-2", "pool-3"]
    assert blocks == ["10.0.0.0/28", "10.0.0.16/28", "10.0.0.32/28", "10.0.0.48/28", "10.0.0.64/28", "2001:db8::/122"]


async def test_a_pool_may_belong_to_a_cluster_that_exists(database_url: str) -> None:
    wanted = PoolDraft(PODS, (PrefixDraft(parse_prefix("10.0.0.0/24")),), cluster=DEFAULT_CLUSTER)
    async with opened(database_url) as database:
        with pytest.raises(NotFound):
            await create(database, wanted)
        await database.run(lambda tx: clusters.ensure_default(tx, NOW))
        made = await create(database, wanted)

        with pytest.raises(InUse):
            await database.run(lambda tx: clusters.delete(tx, DEFAULT_CLUSTER, "anna", NOW))
    assert made.cluster == DEFAULT_CLUSTER


async def test_a_release_that_waits_for_its_link_is_no_room_for_a_reservation(database_url: str) -> None:
    async with opened(database_url) as database:
        await create(database, draft("pods", "10.0.0.0/24"))
        await database.run(lambda tx: insert_allocation(tx, "10.0.0.77", released_at=NOW, owner=uuid4()))

        with pytest.raises(ReservationHeld):
            await database.run(lambda tx: pools.reserve(tx, PODS, ip_network("10.0.0.77/32"), "printers", "anna", NOW))
