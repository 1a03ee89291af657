"""What one batch of the writer makes of owners who want different things, and of addresses that go to nobody after all."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from random import Random
from uuid import uuid4

import pytest

from fabricmgr.domain.errors import NodeIsGone, OwnerKeyClash, PoolExhausted
from fabricmgr.domain.owner import OwnerKind, owner_key
from fabricmgr.store.connect import Connection, connect
from fabricmgr.store.writer_allocate import Pair, Taken, Want
from tests.support.accounting import broken
from tests.support.writer_process import direct
from tests.support.writing import Site, site

pytestmark = pytest.mark.anyio


async def batch(here: Site, pools: Pair, wants: Sequence[Want]) -> list[Taken | BaseException]:
    """All at once: the lane sends them together."""
    return await asyncio.gather(*(here.writer.allocate(pools, want) for want in wants), return_exceptions=True)


def given(answer: Taken | BaseException) -> list[str]:
    assert isinstance(answer, Taken), answer
    return [str(each.address) for each in answer.addresses]


async def test_columns_that_agree_in_part_are_stored_as_each_owner_asked(database_url: str) -> None:
    """First and last alike and others not, all alike, none at all, and a batch of one."""
    async with site(database_url) as here:
        pool = await here.pool("pods", "10.1.0.0/24")
        macs = ["02:00:00:00:00:01", None, "02:00:00:00:00:02", "02:00:00:00:00:01"]
        wants = [direct(f"w{n}")._replace(mac=mac, about='{"pod": "a"}', actor="ci", cluster_id=1) for n, mac in enumerate(macs)]
        lone = direct("alone")._replace(about='{"pod": "b"}')

        got = [*await batch(here, (pool, None), wants), *await batch(here, (pool, None), [lone])]

        rows = {
            row["name"]: row for row in await here.sql.fetch("select name, mac, about->>'pod' as pod, cluster_id, address4 from allocation")
        }
        assert [(rows[want.name]["mac"], rows[want.name]["pod"], rows[want.name]["cluster_id"]) for want in wants] == [
            (mac, "a", 1) for mac in macs
        ]
        assert (rows["alone"]["mac"], rows["alone"]["pod"], rows["alone"]["cluster_id"]) == (None, "b", None)
        assert [given(each) for each in got] == [[str(rows[want.name]["address4"])] for want in [*wants, lone]]
        details = await here.sql.fetch("select host(address) as address, detail, actor from history")
        assert {row["address"] for row in details if row["actor"] == "ci"} == {given(each)[0] for each in got[:4]}


async def test_who_holds_some_and_whose_node_is_out_takes_nothing_from_the_others_of_a_batch(database_url: str) -> None:
    async with site(database_url) as here:
        pool = await here.pool("pods", "10.1.0.0/29", purpose="Node")
        good, revoked = await here.node("n1"), await here.node("n2")
        await here.sql.execute("update certificate set revoked_at = now() where serial = $1", revoked.serial)
        asking = [(f"c{n}", node) for n, node in enumerate((good, revoked, good, None, revoked, good))]
        wants = [
            attachment(name, node.node_id if node else good.node_id)._replace(
                serial=node.serial if node else None, node=node.name if node else None
            )
            for name, node in asking
        ]
        held = given(await here.writer.allocate((pool, None), wants[2]))

        got = await batch(here, (pool, None), wants)

        assert [isinstance(each, NodeIsGone) for each in got] == [node is revoked for _, node in asking]
        assert given(got[2]) == held
        assert len({given(got[n])[0] for n in (0, 2, 3, 5)}) == 4
        assert [each.made for each in got if isinstance(each, Taken)] == [True, False, True, True]
        assert await here.sql.fetchval("select count(*) from history") == 4
        assert await broken(here) == []


def attachment(container: str, node_id: int) -> Want:
    owner = owner_key(OwnerKind.ATTACHMENT, str(node_id), container)
    return Want(owner, "attachment", container, node_id=node_id, network="pods", container=container, ifname="eth0")


async def test_a_batch_of_which_all_come_from_nodes_that_are_out_takes_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        pool = await here.pool("pods", "10.1.0.0/29", purpose="Node")
        node = await here.node("n1")
        await here.sql.execute("update node set state = 'gone'")
        wants = [attachment(f"c{n}", node.node_id)._replace(serial=node.serial, node=node.name) for n in range(3)]

        got = await batch(here, (pool, None), wants)

        assert [type(each) for each in got] == [NodeIsGone] * 3
        assert await here.sql.fetchval("select count(*) from block") == 0


async def test_of_a_pool_that_is_short_of_one_family_as_many_get_both_as_there_are_and_nothing_is_lost(database_url: str) -> None:
    async with site(database_url) as here:
        pool = await here.pool("dual", "10.1.0.0/28", "2001:db8:1::/126", purpose="Node")
        wants = [direct(f"w{n}") for n in range(6)]

        got = await batch(here, (pool, pool), wants)
        single = [given(await here.writer.allocate((pool, None), direct(f"s{n}"))) for n in range(12)]

        served = [each for each in got if isinstance(each, Taken)]
        assert [len(each.addresses) for each in served] == [2, 2]
        assert [type(each) for each in got if not isinstance(each, Taken)] == [PoolExhausted] * 4
        assert len({each[0] for each in [*single, *map(given, served)]}) == 14
        assert await here.sql.fetchval("select count(*) from history") == await here.sql.fetchval("select count(*) from outbox") == 16
        assert await broken(here) == []


async def test_pools_of_their_own_for_each_family_serve_one_batch_in_whichever_order_they_were_made(database_url: str) -> None:
    async with site(database_url) as here:
        first6 = await here.pool("six", "2001:db8:1::/120", purpose="Node")
        four = await here.pool("four", "10.1.0.0/28", purpose="Node")
        later6 = await here.pool("later", "2001:db8:2::/120", purpose="Node")

        down, up = await batch(here, (four, first6), [direct("a")]), await batch(here, (four, later6), [direct("b")])

        assert [given(each) for each in [*down, *up]] == [["10.1.0.1", "2001:db8:1::1"], ["10.1.0.2", "2001:db8:2::1"]]
        pools = await here.sql.fetch("select about->>'pool' as pool from outbox order by id")
        assert [row["pool"] for row in pools] == ["four", "six", "four", "later"]


async def test_rested_fresh_and_cooling_addresses_of_one_batch_have_their_own_generations(database_url: str) -> None:
    async with site(database_url) as here:
        pool = await here.pool("early", "10.1.0.0/29", purpose="Node", cooldown=60, reuse_early=True)
        for name in ("rests", "cools"):
            await here.take("early", name)
        await here.give("early", "rests")
        here.clock.go(60)
        await here.give("early", "cools")

        got = await batch(here, (pool, None), [direct(f"w{n}") for n in range(6)])

        answers = sorted((given(each)[0], each.v4.generation, each.early) for each in got if isinstance(each, Taken) and each.v4)
        assert answers == [("10.1.0.1", 2, False), ("10.1.0.2", 2, True), *((f"10.1.0.{n}", 1, False) for n in range(3, 7))]
        assert await broken(here) == []


async def test_an_owner_whom_another_manager_serves_in_the_middle_of_the_batch_gets_that_and_its_address_goes_to_the_next(
    database_url: str,
) -> None:
    async with site(database_url) as here, rival(database_url) as other:
        pool = await here.pool("hosts", "10.1.0.0/28", purpose="Node")
        wants = sorted((direct(f"w{n}") for n in range(5)), key=lambda want: want.owner.int)
        clashing = Want(wants[3].owner, "direct", "x", name="another")
        begun = other.transaction()
        await begun.start()
        for want, address in ((wants[1], "10.1.0.9"), (clashing, "10.1.0.10")):
            await insert(other, want, address)

        waiting = asyncio.create_task(batch(here, (pool, None), wants))
        await blocked(here.sql)
        await begun.commit()
        got = await waiting
        later = [given(await here.writer.allocate((pool, None), direct(f"later{n}")))[0] for n in range(2)]

        assert given(got[1]) == ["10.1.0.9"]
        assert isinstance(got[3], OwnerKeyClash)
        assert [given(got[n])[0] for n in (0, 2, 4)] == ["10.1.0.1", "10.1.0.3", "10.1.0.5"]
        assert later == ["10.1.0.2", "10.1.0.4"]
        told = await here.sql.fetch("select about->>'address' as address from outbox order by id")
        assert [row["address"] for row in told] == ["10.1.0.1", "10.1.0.3", "10.1.0.5", "10.1.0.2", "10.1.0.4"]


@asynccontextmanager
async def rival(url: str) -> AsyncIterator[Connection]:
    """Another manager's hand on the database."""
    made = await connect(url, "rival")
    try:
        yield made
    finally:
        await made.close()


async def insert(sql: Connection, want: Want, address: str) -> None:
    await sql.execute(
        "insert into allocation (owner, scope, prefix4, address4, generation4, kind, name, at)"
        " select $1, 0, id, $2, 1, 'direct', $3, now() from prefix",
        want.owner,
        ip_address(address),
        want.name,
    )


async def blocked(sql: Connection) -> None:
    """Wait until a batch of the writer waits for somebody else's transaction."""
    end = asyncio.get_running_loop().time() + 20
    while not await sql.fetchval(
        "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like '%allocate_batch%'"
        " and datname = current_database())"
    ):
        assert asyncio.get_running_loop().time() < end, "no batch waits"
        await asyncio.sleep(0.01)


async def test_a_manager_of_the_former_version_goes_on_beside_and_no_address_goes_out_twice(database_url: str) -> None:
    async with site(database_url) as here, rival(database_url) as older:
        pool = await here.pool("pods", "10.1.0.0/22", cooldown=0)
        former: list[str] = []

        async def ask_as_before(lap: int) -> None:
            owners = sorted((uuid4() for _ in range(20)), key=lambda owner: owner.int)
            rows = await older.fetch(FORMER, pool, here.clock(), owners, [f"o{lap}-{n}" for n in range(20)])
            former.extend(str(row["address4"]) for row in rows)

        ours: list[str] = []
        for lap in range(12):
            got, _ = await asyncio.gather(batch(here, (pool, None), [direct(f"{lap}-{n}") for n in range(20)]), ask_as_before(lap))
            ours.extend(given(each)[0] for each in got)
            for n in range(0, 20, 3):
                await here.give("pods", f"{lap}-{n}")

        rows = await here.sql.fetch("select host(address4) as address, name from allocation")
        assert {row["address"] for row in rows if row["name"].startswith("o")} == set(former)
        assert (len(former), len(ours)) == (240, 240)
        assert len({row["address"] for row in rows}) == len(rows)
        assert await broken(here) == []


FORMER = """
select address4 from allocate_batch_1($1, null, $2, $3, array_fill('direct'::text, array[20]), null, null, null, null, null, $4, null,
  array_fill('{}'::jsonb, array[20]), null, $4, null, null)
"""


async def test_stretches_without_obstacles_are_the_same_by_arithmetic_as_by_looking_each_up(database_url: str) -> None:
    """Random reservations, nested ones too, gateways, ends and windows of both families, against the former function."""
    chance = Random(20261125)
    async with site(database_url) as here:
        for number in range(60):
            prefix = ip_network(
                f"10.{number}.0.0/{chance.randint(24, 32)}" if number % 2 else f"2001:db8:{number}::/{chance.randint(118, 128)}"
            )
            inside = [chance.choice(list(prefix)) for _ in range(chance.randint(0, 6))]
            reserved = {ip_network((str(each), chance.randint(prefix.prefixlen, prefix.max_prefixlen)), strict=False) for each in inside}
            pool = await here.pool(f"p{number}", str(prefix), purpose="Node", reserved=[str(each) for each in reserved])
            gateway = chance.choice([None, *list(prefix)[:9]])
            await here.sql.execute("update prefix set gateway = $2 where pool_id = $1", pool, gateway)

        differing = await here.sql.fetch(BOTH)

        assert differing == []
        assert await here.sql.fetchval("select count(*) from reservation") > 50


BOTH = """
select p.cidr, p.gateway, ends, a, z, f1, f2 from prefix p
cross join lateral (select case family(p.cidr) when 4 then 32 else 128 end as wide) w
cross join lateral (select set_masklen(p.cidr::inet, wide) as low, set_masklen(broadcast(p.cidr), wide) as high) e
cross join (values (true), (false)) v (ends)
cross join lateral generate_series(0, least(high - low, 255), 3) i
cross join lateral generate_series(i, least(high - low, 255), 17) j
cross join lateral (select low + i as a, low + j as z) s
cross join lateral (select free_run_1(p, ends, a, z) as f1, free_run_2(p, ends, a, z) as f2) f
where f1 is distinct from f2 and ((f1).first is not null or (f2).first is not null)
"""


async def test_what_is_told_of_a_batch_is_the_same_whether_columns_agree_or_not(database_url: str) -> None:
    async with site(database_url) as here:
        pool = await here.pool("pods", "10.1.0.0/24", purpose="Node")
        same = [attachment(f"s{n}", 7)._replace(label="l", node="n7", actor="a", about='{"uid": "1"}') for n in range(3)]
        differing = [each._replace(owner=uuid4(), container=f"d{n}", label=f"l{n}") for n, each in enumerate(same)]

        await batch(here, (pool, None), same)
        await batch(here, (pool, None), differing)

        events = await here.sql.fetch(
            "select about->>'owner' as owner, about->>'node' as node, about->>'pool' as pool from outbox order by id"
        )
        history = await here.sql.fetch("select node_id, actor, detail->>'uid' as uid, detail->>'owner' as owner from history order by id")
        names = sorted((want for want in differing), key=lambda want: want.owner.int)
        assert [tuple(row) for row in events] == [("l", "n7", "pods")] * 3 + [(want.label, "n7", "pods") for want in names]
        assert [tuple(row) for row in history] == [(7, "a", "1", "l")] * 3 + [(7, "a", "1", want.label) for want in names]
