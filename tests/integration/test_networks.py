"""Clusters and networks on Postgres."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from fabricmgr.domain.addresses import Family, parse_prefix
from fabricmgr.domain.errors import AlreadyExists, InUse, Invalid, NotFound, VersionConflict
from fabricmgr.domain.names import DEFAULT_CLUSTER, ClusterName, cluster_name, network_name, pool_name
from fabricmgr.domain.network import Decide, Network, NetworkChange, NetworkDraft, Routing
from fabricmgr.domain.page import Page
from fabricmgr.domain.pool import PoolDraft, PrefixDraft, Purpose
from fabricmgr.services import clusters, networks, pools
from fabricmgr.store.tables import outbox
from fabricmgr.store.tx import Database, Tx
from tests.support.database import NOW, opened
from tests.support.rows import insert_allocation, insert_node

PODNET = network_name("podnet")


async def prepare(database: Database) -> None:
    async def make(tx: Tx) -> None:
        await clusters.ensure_default(tx, NOW)
        await clusters.create(tx, cluster_name("west"), "anna", NOW)
        for name, cidr, purpose, cluster in (
            ("four", "10.0.0.0/16", Purpose.POD, None),
            ("six", "2001:db8::/64", Purpose.POD, None),
            ("services", "10.96.0.0/16", Purpose.SERVICE, None),
            ("of-west", "10.7.0.0/16", Purpose.POD, cluster_name("west")),
        ):
            draft = PoolDraft(pool_name(name), (PrefixDraft(parse_prefix(cidr)),), purpose, cluster)
            await pools.create(tx, draft, "anna", NOW)

    await database.run(make)


def draft(*names: str) -> NetworkDraft:
    return NetworkDraft(DEFAULT_CLUSTER, PODNET, tuple(pool_name(name) for name in names))


async def create(database: Database, wanted: NetworkDraft) -> Network:
    return await database.run(lambda tx: networks.create(tx, wanted, "anna", NOW))


async def change(database: Database, wanted: NetworkChange, quoted: int | None) -> Network:
    return await database.run(lambda tx: networks.change(tx, DEFAULT_CLUSTER, PODNET, wanted, quoted, "anna", NOW))


async def delete_cluster(database: Database, name: ClusterName) -> None:
    await database.run(lambda tx: clusters.delete(tx, name, "anna", NOW))


async def test_a_network_takes_families_and_prefixes_from_its_pools_in_order(database_url: str) -> None:
    async with opened(database_url) as database:
        await prepare(database)

        made = await create(database, replace(draft("six", "four"), masquerade=True, mtu=9000, direct=(parse_prefix("192.0.2.0/24"),)))

    assert made.pools == ("six", "four")
    assert [str(each) for each in made.prefixes] == ["2001:db8::/64", "10.0.0.0/16"]
    assert made.families == (Family.IPV4, Family.IPV6)
    assert (made.mtu, made.masquerade, made.direct) == (9000, True, (parse_prefix("192.0.2.0/24"),))


@pytest.mark.parametrize("pool", ["services", "of-west"])
async def test_a_pool_of_another_purpose_or_cluster_serves_no_network(database_url: str, pool: str) -> None:
    async with opened(database_url) as database:
        await prepare(database)

        with pytest.raises(Invalid):
            await create(database, draft(pool))


async def test_an_unknown_pool_and_a_taken_name_are_refused(database_url: str) -> None:
    async with opened(database_url) as database:
        await prepare(database)
        await create(database, draft("four"))

        with pytest.raises(AlreadyExists):
            await create(database, draft("six"))
        with pytest.raises(NotFound):
            await create(database, replace(draft("none"), name=network_name("other")))


async def test_a_change_names_what_changed_and_grows_the_version(database_url: str) -> None:
    wanted = NetworkChange(pools=(pool_name("four"),), mtu=1400, decide=Decide.NAMESPACES, namespaces=("db",), routing=Routing.HOST_GW)
    async with opened(database_url) as database:
        await prepare(database)
        made = await create(database, draft("four", "six"))

        changed = await change(database, wanted, made.version)
        with pytest.raises(VersionConflict):
            await change(database, wanted, made.version)

        async with database.read() as tx:
            told = [row.about for row in await tx.all(select(outbox).where(outbox.c.what == "NetworkChanged"))]
    assert (changed.pools, changed.mtu, changed.decide, changed.namespaces) == (("four",), 1400, Decide.NAMESPACES, ("db",))
    assert changed.version == made.version + 1
    assert told == [{"cluster": "default", "network": "podnet", "changed": ["decide", "mtu", "namespaces", "pools"], "by": "anna"}]


async def test_namespaces_without_their_policy_are_refused_whichever_field_changes(database_url: str) -> None:
    async with opened(database_url) as database:
        await prepare(database)
        await create(database, replace(draft("four"), decide=Decide.NAMESPACES, namespaces=("db",)))

        for wanted in (NetworkChange(decide=Decide.MANAGER), NetworkChange(decide=Decide.AGENT)):
            with pytest.raises(Invalid):
                await change(database, wanted, None)


async def test_a_network_goes_only_when_no_container_holds_an_address_of_it(database_url: str) -> None:
    async with opened(database_url) as database:
        await prepare(database)
        await create(database, draft("four"))

        async def attach(tx: Tx) -> None:
            cluster_id = (await clusters.get(tx, DEFAULT_CLUSTER)).id
            node_id = await insert_node(tx, cluster_id, "n1")
            await insert_allocation(tx, "10.0.0.5", node_id=node_id, cluster_id=cluster_id, network="podnet")

        await database.run(attach)
        with pytest.raises(InUse):
            await database.run(lambda tx: networks.delete(tx, DEFAULT_CLUSTER, PODNET, None, "anna", NOW))


async def test_a_pool_in_use_by_a_network_stays_and_names_it(database_url: str) -> None:
    async with opened(database_url) as database:
        await prepare(database)
        await create(database, draft("four"))

        with pytest.raises(InUse) as refused:
            await database.run(lambda tx: pools.delete(tx, pool_name("four"), None, "anna", NOW))
        await database.run(lambda tx: networks.delete(tx, DEFAULT_CLUSTER, PODNET, None, "anna", NOW))
        await database.run(lambda tx: pools.delete(tx, pool_name("four"), None, "anna", NOW))

    assert "default/podnet" in refused.value.by


async def test_a_cluster_goes_only_when_it_is_empty(database_url: str) -> None:
    async with opened(database_url) as database:
        await prepare(database)
        await create(database, draft("four"))

        for name, reason in ((DEFAULT_CLUSTER, "networks"), (cluster_name("west"), "pools")):
            with pytest.raises(InUse, match=reason):
                await delete_cluster(database, name)


async def test_networks_come_in_pages_across_clusters(database_url: str) -> None:
    async with opened(database_url) as database:
        await prepare(database)
        for cluster in (DEFAULT_CLUSTER, cluster_name("west")):
            for name in ("a", "b"):
                await create(database, replace(draft("four"), cluster=cluster, name=network_name(name)))

        async with database.read() as tx:
            first = await networks.list_all(tx, None, Page(3))
            second = await networks.list_all(tx, None, Page(3, first.next))
            west = await networks.list_all(tx, cluster_name("west"), Page())
    assert [(each.cluster, each.name) for each in (*first.items, *second.items)] == [
        ("default", "a"),
        ("default", "b"),
        ("west", "a"),
        ("west", "b"),
    ]
    assert (second.next, len(west.items)) == (None, 2)
