"""Nodes given up, and what each node is told it should be."""

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from uuid import uuid4

import pytest
from sqlalchemy import select

from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.addresses import parse_prefix
from fabricmgr.domain.errors import InUse, NodeIsGone, NotFound, TokenRefused
from fabricmgr.domain.names import DEFAULT_CLUSTER, network_name, node_name, pool_name
from fabricmgr.domain.network import NetworkChange, NetworkDraft, Routing
from fabricmgr.domain.node import NodeState, TokenPolicy
from fabricmgr.domain.pool import PoolDraft, PrefixDraft
from fabricmgr.services import blocks, clusters, desired, identity, networks, nodes, pools
from fabricmgr.store import connect
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tables import allocation, block, certificate, node, outbox, report, spare
from fabricmgr.store.tx import Database, Tx
from fabricmgr.store.wake import OUTBOX_CHANNEL
from fabricmgr.wire import BlocksWanted, Desired, HeldBlock, Route
from tests.support.database import NOW, opened
from tests.support.enrol import request, serial_of
from tests.support.rows import insert_allocation, insert_block, insert_node

POLICY = TokenPolicy("0" * 64, timedelta(hours=1), secrets.token_bytes)
N1, N2 = node_name("n1"), node_name("n2")


async def prepare(database: Database) -> dict[str, int]:
    """Networks `one` and `two` over the pool `pods` of both families, and three nodes, of which n3 has said no address yet."""

    async def make(tx: Tx) -> dict[str, int]:
        cluster = await clusters.ensure_default(tx, NOW)
        prefixes = tuple(PrefixDraft(parse_prefix(text)) for text in ("10.0.0.0/16", "2001:db8::/64"))
        await pools.create(tx, PoolDraft(pool_name("pods"), prefixes), "anna", NOW)
        for name in ("one", "two"):
            await networks.create(tx, NetworkDraft(DEFAULT_CLUSTER, network_name(name), (pool_name("pods"),)), "anna", NOW)
        own = {"n1": ["192.0.2.1", "2001:db8:ff::1"], "n2": ["192.0.2.2", "192.0.2.22"], "n3": []}
        made = {}
        for name, texts in own.items():
            addresses = [ip_address(text) for text in texts]
            made[name] = await insert_node(tx, cluster.id, name, state="enrolled", addresses=addresses)
        return made

    return await database.run(make)


async def desired_of(database: Database, node_id: int) -> Desired:
    async with database.read() as tx:
        return await desired.of_node(tx, node_id)


async def test_a_node_is_told_its_networks_its_blocks_and_the_way_to_others(database_url: str) -> None:
    async with opened(database_url) as database:
        ids = await prepare(database)

        async def fill(tx: Tx) -> None:
            cluster_id = (await clusters.get(tx, DEFAULT_CLUSTER)).id
            await insert_block(tx, "10.0.0.0/26", "confirmed", ids["n1"], claim=3)
            await insert_block(tx, "10.0.0.64/26", "confirmed", ids["n2"])
            await insert_block(tx, "10.0.0.128/26", "pending", ids["n2"])
            await insert_block(tx, "10.0.0.192/26", "confirmed", ids["n3"])
            await insert_block(tx, "2001:db8::/122", "releasing", ids["n2"])
            await insert_block(tx, "10.0.1.0/26", "central")
            for address, name in (("10.0.1.1", "n1"), ("10.0.1.2", "n2"), ("10.0.0.65", "n2")):
                await insert_allocation(tx, address, node_id=ids[name], cluster_id=cluster_id, network="two")
            await insert_allocation(tx, "10.0.1.3", node_id=ids["n2"], cluster_id=cluster_id, network="two", released_at=NOW)
            await pools.reserve(tx, pool_name("pods"), parse_prefix("10.0.0.8/30"), "printers", "anna", NOW)

        await database.run(fill)
        one, two = await desired_of(database, ids["n1"]), await desired_of(database, ids["n2"])

    assert [(each.name, each.families, each.prefixes) for each in one.networks] == [
        ("one", [4, 6], ["10.0.0.0/16", "2001:db8::/64"]),
        ("two", [4, 6], ["10.0.0.0/16", "2001:db8::/64"]),
    ]
    assert [(each.prefix, each.claim, each.state, each.reserved) for each in one.blocks] == [
        ("10.0.0.0/26", 3, "confirmed", ["10.0.0.0", "10.0.0.8/30"])
    ]
    assert one.routes == [
        Route(prefix="10.0.0.64/26", via="192.0.2.2", network="one"),
        Route(prefix="10.0.1.2/32", via="192.0.2.2", network="two"),
    ]
    assert [(route.prefix, route.via) for route in two.routes] == [("10.0.0.0/26", "192.0.2.1"), ("10.0.1.1/32", "192.0.2.1")]


async def test_where_the_underlay_routes_no_routes_are_told(database_url: str) -> None:
    async with opened(database_url) as database:
        ids = await prepare(database)
        await database.run(lambda tx: insert_block(tx, "10.0.0.64/26", "confirmed", ids["n2"]))

        async def underlay(tx: Tx) -> None:
            for name in ("one", "two"):
                await networks.change(tx, DEFAULT_CLUSTER, network_name(name), NetworkChange(routing=Routing.NONE), None, "anna", NOW)

        await database.run(underlay)

        assert (await desired_of(database, ids["n1"])).routes == []


async def test_the_version_stands_for_the_content_and_not_for_generations(database_url: str) -> None:
    async with opened(database_url) as database:
        ids = await prepare(database)
        await database.run(lambda tx: insert_block(tx, "10.0.0.0/26", "confirmed", ids["n1"]))
        first = await desired_of(database, ids["n1"])

        await database.run(lambda tx: tx.change(block.update().values(generation=block.c.generation + 7)))
        same = await desired_of(database, ids["n1"])
        await database.run(lambda tx: insert_block(tx, "10.0.0.64/26", "confirmed", ids["n2"]))
        other = await desired_of(database, ids["n1"])

    assert same.version == first.version
    assert same.blocks[0].generation == 7
    assert other.version != first.version


async def test_a_node_given_up_loses_all_it_held_after_a_cooldown(database_url: str) -> None:
    async with opened(database_url) as database:
        ids = await prepare(database)

        async def fill(tx: Tx) -> None:
            await insert_block(tx, "10.0.0.0/26", "confirmed", ids["n1"], claim=3)
            await insert_block(tx, "10.0.1.0/26", "central")
            await insert_allocation(tx, "10.0.0.5", node_id=ids["n1"])
            await insert_allocation(tx, "10.0.1.5", node_id=ids["n1"])
            await insert_allocation(tx, "10.0.1.6", node_id=ids["n2"])

        await database.run(fill)
        with pytest.raises(InUse):
            await database.run(lambda tx: nodes.remove(tx, DEFAULT_CLUSTER, N1, "anna", NOW))
        gone = await database.run(lambda tx: nodes.declare_gone(tx, DEFAULT_CLUSTER, N1, "anna", NOW))
        again = await database.run(lambda tx: nodes.declare_gone(tx, DEFAULT_CLUSTER, N1, "otto", NOW + timedelta(seconds=9)))

        async with database.read() as tx:
            left = [row.address4 for row in await tx.all(select(allocation.c.address4))]
            taken = await tx.only(select(block).where(block.c.state == "unclaimed"))
            resting = [(row.address, row.released_at) for row in await tx.all(select(spare))]
            told = await tx.only(select(outbox.c.about).where(outbox.c.what == "NodeGone"))
            usage = await pools.usage(tx, pool_name("pods"), NOW)
        await database.run(lambda tx: nodes.remove(tx, DEFAULT_CLUSTER, N1, "anna", NOW))
    assert (gone.state, gone.gone_at) == (NodeState.GONE, NOW)
    assert again == gone
    assert left == [ip_address("10.0.1.6")]
    assert (taken.claim, taken.node_id, taken.rested_at) == (4, None, NOW + timedelta(seconds=60))
    assert taken.generation >= 2**40
    assert resting == [(ip_address("10.0.1.5"), NOW)]
    assert told.about == {"cluster": "default", "node": "n1", "released": 2, "blocks": 1, "by": "anna"}
    assert usage[0].cooling == 63 + 1


async def test_a_node_that_comes_back_after_it_was_given_up_needs_a_new_token(database_url: str) -> None:
    async with opened(database_url) as database:
        ours = await database.run(lambda tx: identity.authority(tx, Sealer(b"m" * 32), timedelta(days=30), NOW))
        await database.run(lambda tx: clusters.ensure_default(tx, NOW))
        _, token = await database.run(lambda tx: nodes.add(tx, DEFAULT_CLUSTER, N2, POLICY, "anna", NOW))
        enrolled = await database.run(lambda tx: identity.enrol(tx, request(token), ours, NOW))

        await database.run(lambda tx: nodes.declare_gone(tx, DEFAULT_CLUSTER, N2, "anna", NOW))

        with pytest.raises(NodeIsGone):
            await database.run(lambda tx: identity.node_of_certificate(tx, serial_of(enrolled), NOW))
        with pytest.raises(TokenRefused):
            await database.run(lambda tx: identity.enrol(tx, request(token), ours, NOW))
        newer = await database.run(lambda tx: nodes.new_token(tx, DEFAULT_CLUSTER, N2, replace(POLICY), "anna", NOW))
        await database.run(lambda tx: identity.enrol(tx, request(newer), ours, NOW))
        async with database.read() as tx:
            back = await tx.only(select(node.c.state, node.c.gone_at).where(node.c.name == "n2"))
    assert (back.state, back.gone_at) == ("enrolled", None)


async def test_agents_that_wait_share_one_look_and_none_gets_one_begun_before_it_asked(database_url: str) -> None:
    async with opened(database_url) as database:
        ids = await prepare(database)
        views = desired.Views(database)

        many = await asyncio.gather(*(views.get(DEFAULT_CLUSTER) for _ in range(50)))
        early = asyncio.create_task(views.get(DEFAULT_CLUSTER))
        await asyncio.sleep(0)
        await database.run(lambda tx: insert_block(tx, "10.0.0.0/26", "confirmed", ids["n1"]))
        late = await views.get(DEFAULT_CLUSTER)
        await early

    assert all(each is many[0] for each in many)
    assert [each.prefix for each in late.document(ids["n1"]).blocks] == ["10.0.0.0/26"]
    assert late.version(ids["n1"]) != many[0].version(ids["n1"])


async def test_a_look_that_fails_fails_those_who_wait_and_no_later_one(database_url: str) -> None:
    async with opened(database_url) as database:
        views = desired.Views(database)

        with pytest.raises(NotFound):
            await views.get(DEFAULT_CLUSTER)
        ids = await prepare(database)

        assert (await views.get(DEFAULT_CLUSTER)).document(ids["n2"]).node == "n2"


async def test_a_block_names_what_is_kept_out_of_it_around_it_or_in_it(database_url: str) -> None:
    async with opened(database_url) as database:
        ids = await prepare(database)

        async def fill(tx: Tx) -> None:
            for text in ("10.0.0.8/30", "10.0.0.12/32", "10.0.0.128/25", "10.0.0.250/32"):
                await pools.reserve(tx, pool_name("pods"), parse_prefix(text), "printers", "anna", NOW)
            for text in ("10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26"):
                await insert_block(tx, text, "confirmed", ids["n1"])

        await database.run(fill)
        found = await desired_of(database, ids["n1"])

    assert [each.reserved for each in found.blocks] == [["10.0.0.0", "10.0.0.8/30", "10.0.0.12"], [], ["10.0.0.128/26"]]


async def test_a_confirmed_block_wakes_the_other_agents_and_is_a_route_then(database_url: str) -> None:
    woken = asyncio.Event()
    listener = await connect.connect(database_url, "listener", connect.HOLDER)
    async with opened(database_url) as database:
        ids = await prepare(database)
        life = uuid4()

        async def begin(tx: Tx) -> None:
            await insert_block(tx, "10.0.0.0/26", "pending", ids["n1"], claim=1)
            made = {"serial": "7", "node_id": ids["n1"], "machine_id": "m1", "fingerprint": b"", "pem": ""}
            await tx.change(certificate.insert(), made | {"not_before": NOW, "not_after": NOW + timedelta(days=1)})
            row = {"node_id": ids["n1"], "life": life, "boot_id": life, "last_number": 0, "at": NOW}
            await tx.change(report.insert(), row)

        await database.run(begin)
        await listener.add_listener(OUTBOX_CHANNEL, lambda *_: woken.set())
        assert (await desired_of(database, ids["n2"])).routes == []
        who = NodePrincipal(ids["n1"], N1, DEFAULT_CLUSTER, "7", "m1")
        asked = BlocksWanted(life=life, confirm=[HeldBlock(prefix="10.0.0.0/26", claim=1, generation=0)])
        await database.run(lambda tx: blocks.wanted(tx, who, asked, NOW))

        await asyncio.wait_for(woken.wait(), 5)
        after = await desired_of(database, ids["n2"])
    await listener.close()
    assert after.routes == [Route(prefix="10.0.0.0/26", via="192.0.2.1", network="one")]
