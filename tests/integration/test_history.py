"""Who holds what, who had it, and events by position."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from fabricmgr.domain.addresses import parse_address, parse_prefix
from fabricmgr.domain.allocation import AllocationFilter, AllocationState
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.names import DEFAULT_CLUSTER, network_name, node_name, pool_name
from fabricmgr.domain.page import Page
from fabricmgr.domain.pool import PoolDraft, PrefixDraft
from fabricmgr.services import allocations, clusters, events, history, pools
from fabricmgr.store.tables import allocation, event
from fabricmgr.store.tables import history as history_table
from fabricmgr.store.tx import Database, Tx
from tests.support.database import NOW, opened
from tests.support.rows import insert_allocation, insert_node

ADDRESS = parse_address("2001:db8::5")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


async def write(database: Database, *rows: tuple[str, float, UUID, int]) -> None:
    """History lines: what, seconds after NOW, owner, generation."""

    async def insert(tx: Tx) -> None:
        for what, seconds, owner, generation in rows:
            detail = {"owner": f"pod {str(owner)[:8]}", "namespace": "db"} | ({} if what == "assigned" else {"reason": "DEL"})
            line = {"at": after(seconds), "what": what, "owner": owner, "scope": 0, "address": ADDRESS, "generation": generation}
            await tx.change(history_table.insert(), line | {"actor": "node default/n1", "detail": detail})

    await database.run(insert)


async def owners_at(database: Database, seconds: float, text: str = "2001:db8::5") -> list[UUID | None]:
    async with database.read() as tx:
        return [each.owner for each in await history.who_had(tx, parse_address(text), after(seconds))]


async def test_who_had_an_address_is_told_after_any_number_of_reuses(database_url: str) -> None:
    owners = [uuid4() for _ in range(300)]
    lines = []
    for n, owner in enumerate(owners):
        lines += [("assigned", n * 10.0, owner, n), ("released", n * 10 + 5.0, owner, n), ("gone", n * 10 + 6.0, owner, n)]
    async with opened(database_url) as database:
        await write(database, *lines)

        first, middle, last = [await owners_at(database, seconds) for seconds in (0, 1504.9, 2990)]
        carried = await owners_at(database, 1505.5)
        gap = await owners_at(database, 1507)
        before = await owners_at(database, -1)
        spelt = await owners_at(database, 0, "2001:DB8:0::0005")
    assert (first, middle, last) == ([owners[0]], [owners[150]], [owners[299]])
    assert carried == [owners[150]]
    assert (gap, before) == ([], [])
    assert spelt == [owners[0]]


async def test_holdings_come_newest_first_with_their_ends_and_reasons(database_url: str) -> None:
    owners = [uuid4() for _ in range(3)]
    async with opened(database_url) as database:
        await write(
            database,
            ("assigned", 0, owners[0], 1),
            ("assigned", 10, owners[1], 2),
            ("released", 15, owners[1], 2),
            ("gone", 16, owners[1], 2),
            ("assigned", 20, owners[2], 3),
        )

        pages = []
        page = Page(2)
        async with database.read() as tx:
            while True:
                got = await history.holdings(tx, ADDRESS, page)
                pages.append(got.items)
                if got.next is None:
                    break
                page = Page(2, got.next)
    told = [(each.owner, each.until_at, each.gone_at, each.reason) for items in pages for each in items]
    assert [len(items) for items in pages] == [2, 1]
    assert told == [
        (owners[2], None, None, ""),
        (owners[1], after(15), after(16), "DEL"),
        (owners[0], after(10), None, ""),
    ]
    newest = pages[0][0]
    assert (newest.label, newest.by, newest.about) == (f"pod {str(owners[2])[:8]}", "node default/n1", {"namespace": "db"})


async def test_a_late_release_ends_only_the_assignment_of_its_own_generation(database_url: str) -> None:
    one, other = uuid4(), uuid4()
    async with opened(database_url) as database:
        await write(database, ("assigned", 0, one, 1), ("assigned", 10, other, 2), ("released", 20, one, 1))

        assert await owners_at(database, 25) == [other]


async def test_what_happened_to_an_owner_and_to_an_address_comes_in_pages(database_url: str) -> None:
    owner = uuid4()
    async with opened(database_url) as database:
        await write(database, ("assigned", 0, owner, 1), ("released", 0, owner, 1), ("gone", 0, owner, 1), ("assigned", 9, uuid4(), 2))

        async with database.read() as tx:
            first = await history.of_owner(tx, owner, Page(2))
            second = await history.of_owner(tx, owner, Page(2, first.next))
            whole = await history.of_address(tx, ADDRESS, Page())
    assert [each.what for each in (*first.items, *second.items)] == ["gone", "released", "assigned"]
    assert second.next is None
    assert [each.what for each in whole.items] == ["assigned", "gone", "released", "assigned"]


@pytest.mark.parametrize("text", ["", "yesterday", "2026-03-01T12:00:00+00:00", "2026-03-01T12:00:00/5", f"{NOW.isoformat()}/{2**70}"])
async def test_a_place_in_a_list_that_is_none_of_ours_is_refused(database_url: str, text: str) -> None:
    async with opened(database_url) as database, database.read() as tx:
        with pytest.raises(Invalid):
            await history.of_owner(tx, uuid4(), Page(after=text))
        with pytest.raises(Invalid):
            await allocations.list_all(tx, AllocationFilter(), Page(after=text))


async def prepare(database: Database) -> list[UUID]:
    """Two pods on two nodes, one of them with both families, and a client's address of another pool."""

    async def make(tx: Tx) -> list[UUID]:
        cluster = await clusters.ensure_default(tx, NOW)
        for name, texts in (("pods", ("10.0.0.0/16", "2001:db8::/64")), ("racks", ("10.9.0.0/24",))):
            await pools.create(tx, PoolDraft(pool_name(name), tuple(PrefixDraft(parse_prefix(t)) for t in texts)), "anna", NOW)
        one, two = [await insert_node(tx, cluster.id, name) for name in ("n1", "n2")]
        about = {"namespace": "db", "pod": "pg-0"}
        of_pod: dict[str, Any] = {"cluster_id": cluster.id, "network": "podnet", "container_id": "c1", "ifname": "eth0"}
        both = await insert_allocation(tx, "10.0.0.5", node_id=one, about=about, **of_pod)
        six = {"address6": ADDRESS, "generation6": 4, "prefix6": (await pools.get(tx, pool_name("pods"))).prefixes[1].id}
        await tx.change(allocation.update().where(allocation.c.owner == both).values(six))
        left = await insert_allocation(tx, "10.0.0.6", node_id=two, released_at=NOW, **of_pod)
        direct = await insert_allocation(tx, "10.9.0.1", kind="direct", name="web1", cluster_id=cluster.id)
        return [both, left, direct]

    return await database.run(make)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (AllocationFilter(), {0, 1, 2}),
        (AllocationFilter(pool=pool_name("pods")), {0, 1}),
        (AllocationFilter(pool=pool_name("racks")), {2}),
        (AllocationFilter(cluster=DEFAULT_CLUSTER, node=node_name("n1")), {0}),
        (AllocationFilter(network=network_name("podnet"), state=AllocationState.HELD), {0}),
        (AllocationFilter(state=AllocationState.RELEASED), {1}),
        (AllocationFilter(namespace="db", pod="pg-0"), {0}),
        (AllocationFilter(namespace="db", pod="pg-1"), set()),
        (AllocationFilter(address=parse_address("2001:DB8:0::0005")), {0}),
        (AllocationFilter(address=parse_address("10.9.0.1")), {2}),
        (AllocationFilter(address=parse_address("192.0.2.1")), set()),
        (AllocationFilter(pool=pool_name("none")), set()),
    ],
)
async def test_allocations_are_found_by_every_filter(database_url: str, wanted: AllocationFilter, expected: set[int]) -> None:
    """F015 in part: an address is found in any spelling."""
    async with opened(database_url) as database:
        owners = await prepare(database)

        async with database.read() as tx:
            found = await allocations.list_all(tx, wanted, Page())
    assert {each.owner for each in found.items} == {owners[n] for n in expected}


async def test_an_allocation_shows_its_addresses_its_pod_and_its_owner(database_url: str) -> None:
    async with opened(database_url) as database:
        owners = await prepare(database)

        async with database.read() as tx:
            pod, _, direct = [await allocations.get(tx, owner) for owner in owners]
    assert [(str(each.address), each.pool, each.generation) for each in pod.addresses] == [
        ("10.0.0.5", "pods", 1),
        ("2001:db8::5", "pods", 4),
    ]
    assert (pod.namespace, pod.pod, pod.node, pod.cluster) == ("db", "pg-0", "n1", "default")
    assert pod.label == "container c1 interface eth0 network podnet node n1"
    assert (direct.label, direct.node, direct.state) == ("web1 (pool racks)", None, AllocationState.HELD)


async def test_pages_of_allocations_make_the_whole(database_url: str) -> None:
    async with opened(database_url) as database:
        owners = await prepare(database)

        async with database.read() as tx:
            first = await allocations.list_all(tx, AllocationFilter(), Page(2))
            second = await allocations.list_all(tx, AllocationFilter(), Page(2, first.next))
    assert [each.owner for each in (*first.items, *second.items)] == sorted(owners)
    assert second.next is None


async def test_events_are_read_behind_a_position(database_url: str) -> None:
    async with opened(database_url) as database:
        async with database.read() as tx:
            assert (await events.oldest(tx), await events.newest(tx)) == (0, 0)
        rows = [{"position": n, "at": NOW, "what": "PoolCreated", "about": {"pool": f"p{n}"}} for n in range(3, 8)]
        await database.run(lambda tx: tx.change(event.insert(), rows))

        async with database.read() as tx:
            got = await events.after(tx, 4, 2)
            assert (await events.oldest(tx), await events.newest(tx)) == (3, 7)
            for position, limit in ((-1, 1), (2**63, 1), (0, 0), (0, 1001)):
                with pytest.raises(Invalid):
                    await events.after(tx, position, limit)
    assert [(each.position, each.about) for each in got] == [(5, {"pool": "p5"}), (6, {"pool": "p6"})]
