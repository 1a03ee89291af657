"""Addresses of central blocks: one decider, no address twice, oldest first, all of a pool and no more."""

import asyncio
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest

from fabricmgr.domain.errors import Busy, PoolExhausted
from fabricmgr.domain.owner import OwnerKind, owner_key
from fabricmgr.services import direct
from fabricmgr.store.writer_allocate import Want
from fabricmgr.store.writer_release import Ended
from tests.support.accounting import broken
from tests.support.writing import CLUSTER, Clock, Site, site

pytestmark = pytest.mark.anyio


async def addresses(site: Site, pool: str, count: int, name: str = "host") -> list[str]:
    got = await asyncio.gather(*(site.take(pool, f"{name}{n}") for n in range(count)))
    return [str(each.addresses[0].address) for each in got]


async def test_the_same_name_gets_the_same_address_whoever_asks_and_a_preview_takes_none(database_url: str) -> None:
    """F020."""
    async with site(database_url) as here, site(database_url) as there:
        await here.pool("hosts", "10.1.0.0/24", purpose="Node")

        shown, would = await direct.preview(here.desk, CLUSTER, "hosts", "web1", [], None, "ci", here.clock())
        first, made = await direct.allocate(here.desk, CLUSTER, "hosts", "web1", [], None, "ci", here.clock())
        again, made_again = await direct.allocate(there.desk, CLUSTER, "hosts", "web1", [], None, "another", there.clock())
        preview_again, would_again = await direct.preview(there.desk, CLUSTER, "hosts", "web1", [], None, "x", there.clock())
        other = await there.take("hosts", "web2")

        assert shown == first == again == preview_again
        assert (would, made, made_again, would_again) == (True, True, False, False)
        assert other.addresses[0].address == first.addresses[0].address + 1
        assert await here.sql.fetchval("select count(*) from allocation") == 2
        assert await here.sql.fetchval("select count(*) from history") == 2


@pytest.mark.parametrize(
    ("prefix", "count"), [("192.0.2.8/31", 2), ("192.0.2.20/32", 1), ("2001:db8:9::/127", 2), ("2001:db8:9::9/128", 1)]
)
async def test_the_shortest_prefixes_give_every_address_they_have(database_url: str, prefix: str, count: int) -> None:
    """F016: skipping first and last does not apply to so short ones."""
    async with site(database_url) as here:
        await here.pool("points", prefix, purpose="FabricLink")

        got = await addresses(here, "points", count)

        assert sorted(got) == [str(each) for each in ip_network(prefix)]
        with pytest.raises(PoolExhausted):
            await here.take("points", "one-more")


@pytest.mark.parametrize(("prefix", "central"), [("10.2.0.0/22", True), ("10.2.0.0/22", False), ("2001:db8:5::/118", False)])
async def test_a_pool_gives_its_last_address_and_then_says_it_is_exhausted(database_url: str, prefix: str, central: bool) -> None:
    async with site(database_url) as here:
        await here.pool("pods", prefix, central=central)

        got = await addresses(here, "pods", 1022)

        assert set(got) == {str(each) for each in list(ip_network(prefix))[1:-1]}
        with pytest.raises(PoolExhausted) as refused:
            await here.take("pods", "one-more")
        assert refused.value.pool == "pods"
        assert await broken(here) == []


async def test_released_addresses_come_again_oldest_first_and_only_after_their_cooldown(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("hosts", "10.3.0.0/28", purpose="Node", cooldown=60)
        names = [f"host{n}" for n in (3, 11, 0, 7, 5, 1, 9, 13, 2, 4, 6, 8, 10, 12)]
        await addresses(here, "hosts", 14)
        released = []
        for name in names:
            released.append(str((await direct_get(here, "hosts", name)).addresses[0].address))
            assert await here.give("hosts", name)
            here.clock.go(1)

        here.clock.go(60 - 14)
        assert (await addresses(here, "hosts", 1, "next"))[0] == released[0]
        with pytest.raises(PoolExhausted):
            await here.take("hosts", "too-early")
        here.clock.go(60)
        rest = [str((await here.take("hosts", f"later{n}")).addresses[0].address) for n in range(13)]

        assert rest == released[1:]
        assert await broken(here) == []


async def direct_get(here: Site, pool: str, owner: str) -> direct.Allocation:
    async with here.database.read() as tx:
        return await direct.get(tx, CLUSTER, pool, owner)


async def test_each_assignment_of_an_address_has_a_higher_generation(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("one", "10.3.1.1/32", purpose="Node", cooldown=0)
        seen = []

        for n in range(4):
            seen.append((await here.take("one", f"host{n}")).addresses[0].generation)
            await here.give("one", f"host{n}")

        assert seen == [1, 2, 3, 4]


async def test_a_release_quoting_an_old_generation_frees_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("one", "10.3.1.1/32", purpose="Node", cooldown=0)
        await here.take("one", "a")
        await here.give("one", "a")
        await here.take("one", "a")

        stale = await direct.release(here.desk, CLUSTER, "one", "a", 1, "admin")
        current = await direct.release(here.desk, CLUSTER, "one", "a", 2, "admin")

        assert (stale, current) == (False, True)


async def test_a_pool_that_allows_it_gives_the_oldest_cooling_address_rather_than_none(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("early", "10.3.2.0/31", purpose="Node", cooldown=600, reuse_early=True)
        first, _ = [await here.take("early", name) for name in ("a", "b")]
        await here.give("early", "a")
        here.clock.go(1)
        await here.give("early", "b")

        again = await here.take("early", "c")

        assert again.addresses[0].address == first.addresses[0].address


async def test_a_draining_pool_assigns_nothing_and_repeats_what_it_gave(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("old", "10.3.3.0/24", purpose="Node")
        first = await here.take("old", "a")
        await here.sql.execute("update pool set draining = true")

        again = await here.take("old", "a")
        with pytest.raises(PoolExhausted) as refused:
            await here.take("old", "b")

        assert again == first
        assert refused.value.hint == "it is draining"


async def test_both_families_or_neither(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("dual", "10.4.0.0/24", "2001:db8:4::/126", purpose="Node")

        got = await asyncio.gather(*(here.take("dual", f"h{n}", families=[4, 6]) for n in range(2)))
        with pytest.raises(PoolExhausted) as refused:
            await here.take("dual", "h3", families=[4, 6])
        single = await here.take("dual", "h3", families=[4])

        assert refused.value.family == "IPv6"
        assert all([each.address.version for each in held.addresses] == [4, 6] for held in got)
        assert [each.address.version for each in single.addresses] == [4]
        assert await broken(here) == []


async def test_a_second_family_asked_for_later_joins_the_first(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("dual", "10.4.0.0/24", "2001:db8:4::/120", purpose="Node")
        first = await here.take("dual", "a", families=[4])

        both = await here.take("dual", "a", families=[4, 6])
        again = await here.take("dual", "a", families=[4, 6])

        assert both.addresses[0] == first.addresses[0]
        assert [each.address.version for each in both.addresses] == [4, 6]
        assert again == both
        assert await broken(here) == []


async def test_reserved_stretches_are_jumped_and_come_back_when_they_are_freed(database_url: str) -> None:
    async with site(database_url) as here:
        pool = await here.pool(
            "hosts", "10.5.0.0/24", purpose="Node", block=28, reserved=["10.5.0.0/26", "10.5.0.70/32", "10.5.0.96/27", "10.5.0.128/25"]
        )

        got = await addresses(here, "hosts", 31)
        with pytest.raises(PoolExhausted):
            await here.take("hosts", "none-left")
        await here.sql.execute("delete from reservation where cidr in ('10.5.0.96/27', '10.5.0.70/32')")
        prefix = await here.sql.fetchval("select id from prefix where pool_id = $1", pool)
        for back in ("10.5.0.96/27", "10.5.0.70/32"):
            await here.sql.execute("select unreserved_1($1, $2, $3)", here.clock(), prefix, ip_network(back))
        more = await addresses(here, "hosts", 33, "more")

        assert set(got) == {f"10.5.0.{n}" for n in range(64, 96)} - {"10.5.0.70"}
        assert set(more) == {f"10.5.0.{n}" for n in range(96, 128)} | {"10.5.0.70"}
        assert await broken(here) == []


async def test_a_huge_prefix_mostly_reserved_is_walked_from_obstacle_to_obstacle(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("wide", "2001:db8::/32", "10.0.0.0/8", reserved=["2001:db8::/33", "10.0.0.0/9"])

        got = await here.take("wide", "a", families=[4, 6])

        assert [str(each.address) for each in got.addresses] == ["10.128.0.0", "2001:db8:8000::"]


async def test_the_very_last_addresses_of_the_address_space_can_be_given(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("end4", "255.255.255.240/28", purpose="Node", skip_ends=False)
        await here.pool("end6", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124", purpose="Node", skip_ends=False)

        four = await addresses(here, "end4", 16)
        six = await addresses(here, "end6", 16)

        assert IPv4Address("255.255.255.255") in {ip_address(each) for each in four}
        assert len(set(six)) == 16


async def test_replicas_fill_a_pool_with_each_owner_twice_and_double_nothing(database_url: str) -> None:
    clock = Clock()
    async with (
        site(database_url, clock) as a,
        site(database_url, clock) as b,
        site(database_url, clock) as c,
        site(database_url, clock) as d,
    ):
        await a.pool("pods", "10.6.0.0/20")
        replicas = (a, b, c, d)

        asked = [replicas[(n + twice) % 4].take("pods", f"p{n}") for twice in range(2) for n in range(4094)]
        got = await asyncio.gather(*asked)

        by_name: dict[str, set[Any]] = {}
        for each in got:
            by_name.setdefault(each.owner, set()).add(each.addresses[0].address)
        assert all(len(found) == 1 for found in by_name.values())
        assert len(set.union(*by_name.values())) == 4094
        with pytest.raises(PoolExhausted):
            await b.take("pods", "one-more")
        assert await broken(a) == []


async def test_a_column_that_is_empty_for_some_or_for_all_of_a_batch_is_stored_as_each_asked(database_url: str) -> None:
    async with site(database_url) as here:
        pool = await here.pool("pods", "10.6.0.0/24")
        plain = [Want(owner_key(OwnerKind.DIRECT, f"p{n}"), "direct", f"p{n}", name=f"p{n}") for n in range(6)]
        fuller = [each._replace(mac=f"02:00:00:00:00:0{n}", actor="ci") if n % 2 else each for n, each in enumerate(plain)]
        held = await here.writer.allocate((pool, None), plain[0])

        got = await asyncio.gather(*(here.writer.allocate((pool, None), want) for want in fuller))

        rows = {row["name"]: row for row in await here.sql.fetch("select name, address4, mac, network, node_id from allocation")}
        assert [each.made for each in got] == [False, *[True] * 5]
        assert got[0].v4 == held.v4
        assert [rows[want.name]["mac"] for want in fuller] == [want.mac for want in fuller]
        assert [rows[want.name]["address4"] for want in fuller] == [each.addresses[0].address for each in got]
        assert all(row["network"] is None and row["node_id"] is None for row in rows.values())
        actors = {row["detail"]: row["actor"] for row in await here.sql.fetch("select detail ->> 'owner' as detail, actor from history")}
        assert [actors[want.label] for want in fuller] == [want.actor for want in fuller]


async def test_a_full_lane_answers_busy_and_nothing_is_lost(database_url: str) -> None:
    async with site(database_url) as here:
        pool = await here.pool("pods", "10.7.0.0/18")
        wants = [Want(owner_key(OwnerKind.DIRECT, f"p{n}"), "direct", "p", name=f"p{n}") for n in range(5000)]

        got = await asyncio.gather(*(here.writer.allocate((pool, None), want) for want in wants), return_exceptions=True)

        refused = [each for each in got if isinstance(each, BaseException)]
        assert len(refused) == 5000 - 4096
        assert all(isinstance(each, Busy) for each in refused)
        assert await here.sql.fetchval("select count(*) from allocation") == 4096


async def test_a_caller_that_went_away_gets_the_same_address_when_it_asks_again(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("hosts", "10.8.0.0/24", purpose="Node")
        gone = asyncio.create_task(here.take("hosts", "a"))
        await asyncio.sleep(0)
        gone.cancel()

        other = await here.take("hosts", "b")
        again = await here.take("hosts", "a")

        assert gone.cancelled()
        assert again.addresses[0].address != other.addresses[0].address
        assert await here.sql.fetchval("select count(*) from allocation") == 2


async def test_an_address_already_held_is_kept_out_of_the_writers_hands_and_told(database_url: str) -> None:
    """Whatever brought it about, it costs one address, not the pool."""
    async with site(database_url) as here:
        await here.pool("hosts", "10.9.0.0/24", purpose="Node", cooldown=0)
        await here.take("hosts", "a")
        await here.give("hosts", "a")
        prefix = await here.sql.fetchval("select id from prefix")
        for address in ("10.9.0.1", "10.9.0.3"):
            await here.sql.execute(
                "insert into allocation (owner, scope, prefix4, address4, generation4, kind, at)"
                " values (gen_random_uuid(), 0, $1, $2, 9, 'direct', now())",
                prefix,
                ip_address(address),
            )

        got = await asyncio.gather(*(here.take("hosts", f"x{n}") for n in range(4)))

        assert {str(each.addresses[0].address) for each in got} == {"10.9.0.2", "10.9.0.4", "10.9.0.5", "10.9.0.6"}
        assert await here.sql.fetchval("select count(*) from outbox where what = 'AddressConflictDetected'") == 2
        assert await broken(here) == []


async def test_each_change_leaves_history_and_one_event_for_each_address(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("dual", "10.4.0.0/24", "2001:db8:4::/120", purpose="Node")
        await here.take("dual", "a", families=[4, 6])
        await here.give("dual", "a")

        history = await here.sql.fetch("select what, host(address) as address, actor, detail->>'owner' as owner from history order by id")
        events = await here.sql.fetch("select what, about::text from outbox order by id")

        assert [(row["what"], row["address"]) for row in history] == [
            ("assigned", "10.4.0.1"),
            ("assigned", "2001:db8:4::1"),
            ("released", "10.4.0.1"),
            ("released", "2001:db8:4::1"),
        ]
        assert {(row["actor"], row["owner"]) for row in history} == {("admin", "a (pool dual)")}
        assert [row["what"] for row in events] == ["AddressAllocated"] * 2 + ["AddressReleased"] * 2


async def test_giving_back_what_is_not_there_changes_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("hosts", "10.8.0.0/24", purpose="Node")

        assert await here.give("hosts", "nobody") is False
        assert Ended("absent") is Ended.ABSENT
        assert await here.sql.fetchval("select count(*) from outbox") == 0
