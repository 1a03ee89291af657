"""What people ask of their workloads: why this pool, who the peers are, whether a manifest fits; and what was said comes true."""

from dataclasses import replace
from ipaddress import ip_address
from uuid import uuid4

import pytest

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.kube import KubeNamespace, KubeNode, KubePod
from fabricmgr.domain.names import DEFAULT_CLUSTER
from fabricmgr.domain.selectors import Selectors
from fabricmgr.services import explain, peers, simulate
from fabricmgr.services.simulate import Simulated
from tests.integration.test_kube_attach import ALLOWED, Cluster, cluster, pod

pytestmark = pytest.mark.anyio


def manifest(kind: str, replicas: int, annotations: str = "{}", spec: str = "{}") -> str:
    head = f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: web}}\n"
    return f"{head}spec: {{replicas: {replicas}, template: {{metadata: {{annotations: {annotations}}}, spec: {spec}}}}}\n"


async def simulated(here: Cluster, text: str, namespace: str = "shop") -> Simulated:
    async with here.here.database.read() as tx:
        return await simulate.simulate(tx, DEFAULT_CLUSTER, "", text, namespace, here.here.clock())


def left(found: Simulated) -> dict[str, int]:
    return {each.pool: each.after for each in found.left}


async def test_what_a_deployment_is_said_to_take_is_what_it_takes(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.select("shop", selectors=Selectors(("shop",)))
        await here.follow(KubeNamespace("shop", "s-1"), *(pod(f"web-{n}") for n in range(6)))

        before = await simulated(here, manifest("Deployment", 6))
        for n in range(6):
            await here.pool_of(pod(f"web-{n}"))
        after = await simulated(here, manifest("Deployment", 0))

        assert before.fits
        assert [(each.pool, each.count) for each in before.objects[0].taken] == [("shop", 6)]
        assert left(before) == left(after)


async def test_what_overflows_its_pool_goes_on_in_the_next_and_what_is_too_much_does_not_fit(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.select("shop", selectors=Selectors(("shop",)))
        await here.follow(KubeNamespace("shop", "s-1"))

        over = await simulated(here, manifest("Deployment", 260))
        much = await simulated(here, manifest("StatefulSet", 2000))

        assert {each.pool for each in over.objects[0].taken} == {"shop", "plain"}
        assert over.fits
        assert not much.fits
        assert "of 2000 pods find no IPv4 address" in much.objects[0].reason


async def test_where_nodes_decide_the_rounding_to_blocks_is_told(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.follow(KubeNamespace("blog", "b-1"), KubeNode("w1", "1", labels={"disk": "ssd"}), KubeNode("w2", "2"))

        deployed = await simulated(here, manifest("Deployment", 20), "blog")
        everywhere = await simulated(here, manifest("DaemonSet", 0, spec="{nodeSelector: {disk: ssd}}"), "blog")

        assert deployed.fits
        assert "2 to 2 blocks of 16 addresses of plain on 2 nodes" in deployed.objects[0].reason
        assert [each.count for each in everywhere.objects[0].taken] == [1]


async def test_annotations_of_the_template_count_as_they_will(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.follow(ALLOWED)

        named = await simulated(here, manifest("Deployment", 2, "{fabricmgr.io/pool: rack}"))
        unknown = await simulated(here, manifest("Deployment", 2, "{fabricmgr.io/pool: nowhere}"))
        twice = await simulated(here, manifest("Deployment", 2, "{fabricmgr.io/addresses: 10.20.0.9}"))

        assert [each.pool for each in named.objects[0].taken] == ["rack"]
        assert "names pool 'nowhere'" in unknown.objects[0].reason
        assert (twice.fits, "more than once" in twice.objects[0].reason) == (False, True)


async def test_explain_says_of_each_pool_what_the_pod_met(database_url: str) -> None:
    async with cluster(database_url) as here:
        await here.select("shop", selectors=Selectors(("shop",)))
        await here.select("rack", selectors=Selectors(node_labels={"rack": ("r2",)}))
        await here.follow(KubeNamespace("shop", "s-1"), KubeNode("w1", "1", labels={"rack": "r1"}), pod(pool="rack"))

        async with here.here.database.read() as tx:
            told = await explain.pod(tx, DEFAULT_CLUSTER, "shop", "web-1", here.here.clock())
            with pytest.raises(NotFound):
                await explain.pod(tx, DEFAULT_CLUSTER, "shop", "web-9", here.here.clock())

        (network,) = told
        assert network.decides.startswith("the manager, since selectors")
        assert "passed over" in network.decides
        assert [(each.pool, each.place) for each in network.pools] == [("shop", 1), ("plain", 2), ("rack", 0)]
        assert network.pools[2].why == "its selectors want label rack=r2; its node has rack=r1"
        assert await here.pool_of(pod()) == "10.20.0.0/24"


async def test_peers_are_the_pods_that_hold_addresses_now(database_url: str) -> None:
    """F047: finished pods keep their address in the status, and those on the host's network show their node's."""
    web = KubePod(
        "shop",
        "web-1",
        "u1",
        "w1",
        labels={"pod-template-hash": "77"},
        owner_kind="ReplicaSet",
        owner_name="web-77",
        phase="Running",
        addresses=(ip_address("10.10.0.20"),),
    )
    async with cluster(database_url) as here:
        await here.follow(
            web,
            replace(web, name="job", uid="u2", phase="Succeeded"),
            replace(web, name="evicted", uid="u3", phase="Failed"),
            replace(web, name="host", uid="u4", host_network=True, addresses=(ip_address("192.0.2.3"),)),
            replace(web, name="pending", uid="u5", phase="Pending", addresses=()),
            replace(web, name="other", uid="u6", owner_name="webby-77"),
            replace(web, name="db-0", uid=str(uuid4()), owner_kind="StatefulSet", owner_name="db", labels={}),
        )

        async with here.here.database.read() as tx:
            found = await peers.of_workload(tx, DEFAULT_CLUSTER, "shop", "web", "Deployment")
            stateful = await peers.of_workload(tx, DEFAULT_CLUSTER, "shop", "db")
            with pytest.raises(NotFound):
                await peers.of_workload(tx, DEFAULT_CLUSTER, "shop", "web", "StatefulSet")

        assert [each.name for each in found] == ["web-1"]
        assert [each.name for each in stateful] == ["db-0"]
