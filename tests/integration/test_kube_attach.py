"""Pods of a cluster with an API server: who a pod is decides which pool it gets addresses of, and its node decides nothing of that."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from uuid import uuid4

import pytest

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.errors import AddressHeld, ApiUnreachable, FabricError, Invalid, PodElsewhere, PoolRefused
from fabricmgr.domain.kube import KubeNamespace, KubeNode, KubePod
from fabricmgr.domain.names import DEFAULT_CLUSTER, network_name, pool_name
from fabricmgr.domain.network import Decide, NetworkChange
from fabricmgr.domain.pool import PoolChange
from fabricmgr.domain.selectors import Selectors
from fabricmgr.services import desired, networks, pools, selecting
from fabricmgr.services.kube_pods import Shown
from fabricmgr.store import kube_rows
from fabricmgr.store.tx import Tx
from tests.support.writing import Site, site

SHOP, PLAIN, RACK = "10.20.0.0/24", "10.10.0.0/24", "10.30.0.0/24"
NO_ONE = Shown(None, None)


class Cluster:
    """A site whose cluster has an API server, that `shown` plays."""

    def __init__(self, here: Site, cluster_id: int, node: NodePrincipal) -> None:
        self.here = here
        self.id = cluster_id
        self.node = node
        self.asked: list[tuple[str, str, str]] = []
        self.shown: Shown | FabricError = NO_ONE
        here.desk = replace(here.desk, ask=self._ask)

    async def _ask(self, cluster: str, namespace: str, pod: str) -> Shown:
        self.asked.append((cluster, namespace, pod))
        if isinstance(self.shown, FabricError):
            raise self.shown
        return self.shown

    async def select(self, pool: str, selectors: Selectors | None = None, auto_assign: bool | None = None) -> None:
        wanted = PoolChange(selectors=selectors, auto_assign=auto_assign)
        await self.here.database.run(lambda tx: pools.change(tx, pool_name(pool), wanted, None, "anna", self.here.clock()))

    async def follow(self, *found: KubeNamespace | KubePod | KubeNode) -> None:
        """What following the cluster brings into the rows."""

        async def write(tx: Tx) -> None:
            await kube_rows.write_nodes(tx, self.id, [each for each in found if isinstance(each, KubeNode)], self.here.clock())
            await kube_rows.write_namespaces(tx, self.id, [each for each in found if isinstance(each, KubeNamespace)])
            await kube_rows.write_pods(tx, self.id, [each for each in found if isinstance(each, KubePod)])
            await selecting.refresh(tx, self.id)

        await self.here.database.run(write)

    async def spec(self) -> wire.NetworkSpec:
        async with self.here.database.read() as tx:
            return (await desired.of_node(tx, self.node.node_id)).networks[0]

    async def pool_of(self, pod: KubePod, *, uid: str | None = None, families: tuple[int, ...] = ()) -> str:
        """Attach it from the node that the site has; the prefix that its address is of."""
        said = pod.uid if uid is None else uid
        got = await self.here.attach(self.node, uuid4().hex, namespace=pod.namespace, pod=pod.name, uid=said, families=list(families))
        address = ip_address(got.addresses[0].address)
        return next(each for each in (SHOP, PLAIN, RACK) if address in ip_network(each))


@asynccontextmanager
async def cluster(url: str) -> AsyncIterator[Cluster]:
    """Networks over three pools: shop, rack and plain. The API server is known, and shows nothing yet."""
    async with site(url) as here:
        made = [await here.pool(name, cidr, block=28, central=name == "shop") for name, cidr in (("shop", SHOP), ("rack", RACK))]
        await here.network("pods", await here.pool("plain", PLAIN, block=28), *made)
        number = await here.sql.fetchval(
            "insert into cluster_api (cluster_id, server, in_cluster) select id, 'https://k', true from cluster returning cluster_id"
        )
        yield Cluster(here, number, await here.node("w1"))


def pod(name: str = "web-1", *, namespace: str = "shop", node: str = "w1", uid: str = "", **annotations: str) -> KubePod:
    kept: Mapping[str, str] = {f"fabricmgr.io/{key}": value for key, value in annotations.items()}
    return KubePod(namespace, name, uid or f"uid-of-{name}", node, annotations=kept)


ALLOWED = KubeNamespace("shop", "s-1", {"fabricmgr.io/pod-pools": "allowed"})


async def test_a_pods_namespace_leads_to_the_pool_that_selects_it(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.select("shop", selectors=Selectors(("shop",)))
        await here.follow(KubeNamespace("shop", "s-1"), KubeNamespace("blog", "b-1"), pod(), pod(namespace="blog"))

        assert await here.pool_of(pod()) == SHOP
        assert await here.pool_of(pod(namespace="blog")) == PLAIN
        assert here.asked == []


async def test_namespaces_that_selectors_match_reach_the_agents_and_leave_them_again(database_url: str) -> None:
    async with cluster(database_url) as here:
        before = await here.spec()
        await here.select("shop", selectors=Selectors(namespace_labels={"team": ("a",)}))
        await here.follow(KubeNamespace("one", "1", {"team": "a"}), KubeNamespace("two", "2", {"team": "b"}))
        matched = await here.spec()
        await here.follow(KubeNamespace("one", "1"))
        relabelled = await here.spec()

        assert (before.decide, before.namespaces, before.pools) == (wire.Decide.AGENT, [], ["plain", "shop", "rack"])
        assert (matched.decide, matched.namespaces, matched.pools) == (wire.Decide.NAMESPACES, ["one"], ["plain", "rack"])
        assert (relabelled.decide, relabelled.namespaces) == (wire.Decide.AGENT, [])


async def test_namespaces_named_by_hand_stay_beside_those_found(database_url: str) -> None:
    async with cluster(database_url) as here:
        by_hand = NetworkChange(decide=Decide.NAMESPACES, namespaces=("zoo",))
        name = network_name("pods")
        await here.here.database.run(lambda tx: networks.change(tx, DEFAULT_CLUSTER, name, by_hand, None, "anna", here.here.clock()))

        await here.follow(ALLOWED)

        assert (await here.spec()).namespaces == ["shop", "zoo"]


async def test_a_pod_that_the_rows_do_not_show_is_asked_for_once(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.select("shop", selectors=Selectors(("shop",)))
        here.shown = Shown(pod(), KubeNamespace("shop", "s-1"))

        assert await here.pool_of(pod()) == SHOP
        assert here.asked == [("default", "shop", "web-1")]


async def test_a_pod_that_came_back_under_its_name_is_asked_for(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.select("shop", selectors=Selectors(("shop",)))
        await here.follow(KubeNamespace("shop", "s-1"), pod(uid="old", node="w2"))
        here.shown = Shown(pod(uid="new"), None)

        assert await here.pool_of(pod(uid="new")) == SHOP


async def test_the_end_of_a_pod_whose_name_another_has_by_now_frees_its_own_address(database_url: str) -> None:
    """F048: an end never asks who the pod is, though the API server shows another one, or is away."""
    async with cluster(database_url) as here:
        await here.follow(KubeNamespace("shop", "s-1"), pod(uid="old"))
        old = await here.here.attach(here.node, "c-old", namespace="shop", pod="web-1", uid="old")
        await here.follow(pod(uid="new"))
        new = await here.here.attach(here.node, "c-new", namespace="shop", pod="web-1", uid="new")
        here.shown = ApiUnreachable("https://192.0.2.1", "refused")
        here.asked.clear()

        await here.here.detach(here.node, "c-old", old.addresses[0].generation)
        await here.here.detach(here.node, "c-old", old.addresses[0].generation)

        held = await here.here.sql.fetch("select container_id from allocation where released_at is null")
        assert [row["container_id"] for row in held] == ["c-new"]
        assert new.addresses != old.addresses
        assert here.asked == []


async def test_a_pod_that_the_api_does_not_show_is_served_without_selectors(database_url: str) -> None:
    """F048: no API pod at all."""
    async with cluster(database_url) as here:
        await here.select("shop", selectors=Selectors(("shop",)))

        assert await here.pool_of(pod()) == PLAIN
        assert here.asked == [("default", "shop", "web-1")]


async def test_a_static_pod_is_served_whatever_its_uid_though_the_api_is_away(database_url: str) -> None:
    """F048: the runtime names a hash, the API a mirror with a UUID of its own, on whichever node it says."""
    async with cluster(database_url) as here:
        await here.select("shop", selectors=Selectors(("shop",)))
        here.shown = ApiUnreachable("https://192.0.2.1", "refused")
        mirror = replace(pod(), uid=str(uuid4()), annotations={"kubernetes.io/config.mirror": "0" * 32})

        hashed = await here.pool_of(pod(), uid=uuid4().hex)
        await here.follow(KubeNamespace("shop", "s-1"), mirror)

        assert hashed == PLAIN
        assert await here.pool_of(mirror, uid=uuid4().hex) == PLAIN
        assert await here.pool_of(mirror) == PLAIN
        assert here.asked == []


@pytest.mark.parametrize("uid", ["uid-of-web-1", ""])
async def test_a_pod_of_another_node_is_refused(database_url: str, uid: str) -> None:
    """F048: a forged pod."""
    async with cluster(database_url) as here:
        await here.follow(KubeNamespace("shop", "s-1"), pod(node="w2"))

        with pytest.raises(PodElsewhere) as refused:
            await here.pool_of(pod(), uid=uid)

        assert (refused.value.pod, refused.value.node, refused.value.shown) == ("shop/web-1", "w1", "w2")
        assert await here.here.sql.fetchval("select count(*) from allocation") == 0


async def test_while_the_api_is_away_a_new_pod_waits_only_where_it_matters_who_it_is(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.select("shop", selectors=Selectors(("shop",)))
        here.shown = ApiUnreachable("https://192.0.2.1", "timed out")

        assert await here.pool_of(pod(namespace="blog")) == PLAIN
        with pytest.raises(ApiUnreachable):
            await here.pool_of(pod())


async def test_annotations_of_a_pod_count_where_its_namespace_allows_them(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.select("shop", auto_assign=False)
        asking = pod(pool="shop")
        await here.follow(KubeNamespace("shop", "s-1"), asking)

        ignored = await here.pool_of(asking)
        await here.follow(ALLOWED)
        taken = await here.pool_of(asking)

        assert (ignored, taken) == (PLAIN, SHOP)


async def test_an_annotation_of_the_namespace_counts_and_its_pods_own_goes_before_it(database_url: str) -> None:
    async with cluster(database_url) as here:
        annotated = replace(ALLOWED, annotations={"fabricmgr.io/pool": "rack"})
        await here.follow(annotated, pod(), pod("own", pool="shop"))

        assert await here.pool_of(pod()) == RACK
        assert await here.pool_of(pod("own")) == SHOP


async def test_an_unknown_pool_in_an_annotation_is_named_in_the_refusal(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.follow(ALLOWED, pod(pool="nowhere"))

        with pytest.raises(PoolRefused) as refused:
            await here.pool_of(pod())

        assert refused.value.subject == "pod shop/web-1"
        assert "names pool 'nowhere', and there is none of that name" in refused.value.reason


async def test_an_address_asked_for_by_annotation_is_that_pods_alone(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.select("shop", selectors=Selectors(("shop",)))
        await here.follow(ALLOWED, pod(addresses="10.20.0.77"), pod("web-2", addresses="10.20.0.77"), pod("odd", addresses="10.20.0.x"))

        got = await here.here.attach(here.node, "c1", namespace="shop", pod="web-1", uid="uid-of-web-1", families=[4])

        assert [each.address for each in got.addresses] == ["10.20.0.77"]
        with pytest.raises(AddressHeld):
            await here.pool_of(pod("web-2"))
        with pytest.raises(Invalid) as refused:
            await here.pool_of(pod("odd"), families=(4,))
        assert refused.value.field == "fabricmgr.io/addresses"


async def test_a_node_claims_blocks_by_its_labels_and_none_of_a_pool_that_selects_namespaces(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.select("rack", selectors=Selectors(node_labels={"rack": ("r1",)}))
        await here.select("plain", selectors=Selectors(("shop",)))
        await here.follow(KubeNode("w1", "n-1", labels={"rack": "r1"}), KubeNode("w2", "n-2", labels={"rack": "r2"}))
        life, boot = uuid4(), uuid4()
        other = await here.here.node("w2")
        for node in (here.node, other):
            await here.here.hello(node, life, boot)

        mine = await here.here.want(here.node, life, ("pods", 4, 2))
        others = await here.here.want(other, life, ("pods", 4, 2))

        assert {each.pool for each in mine.blocks} == {"rack"}
        assert len(mine.blocks) == 2
        assert others.blocks == []
