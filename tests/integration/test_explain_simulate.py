"""What people ask of their workloads: why this pool, who the peers are, whether a manifest fits; and what was said comes true."""

from dataclasses import replace
from ipaddress import ip_address
from uuid import uuid4

import pytest
import yaml

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.kube import ADDRESSES, KubeNamespace, KubeNode, KubePod
from fabricmgr.domain.manifest import ServiceAsked, completed, read
from fabricmgr.domain.names import DEFAULT_CLUSTER
from fabricmgr.domain.selectors import Selectors
from fabricmgr.domain.service import CLASS, Asked
from fabricmgr.services import explain, peers, service_addresses, simulate
from fabricmgr.services.service_addresses import Settled, Shown
from fabricmgr.services.service_leaving import Leaving
from fabricmgr.services.simulate import Simulated
from fabricmgr.store import kube_rows
from tests.integration.test_kube_attach import ALLOWED, SHOP, Cluster, cluster, pod

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
        assert (twice.fits, "addresses of one pod" in twice.objects[0].reason) == (False, True)


async def test_pods_that_are_there_already_count_once(database_url: str) -> None:
    there = KubePod("blog", "web-0", "u0", "w1", owner_kind="StatefulSet", owner_name="web", phase="Running")
    there = replace(there, addresses=(ip_address("10.10.0.2"),))
    async with cluster(database_url) as here:
        await here.follow(KubeNamespace("blog", "b-1"), there, replace(there, name="web-1", uid="u1", deleting=True))

        grown = await simulated(here, manifest("StatefulSet", 3), "blog")
        shrunk = await simulated(here, manifest("StatefulSet", 0), "blog")
        namesake = await simulated(here, manifest("Deployment", 3), "blog")

        assert [each.count for each in grown.objects[0].taken] == [2]
        assert grown.objects[0].reason.startswith("1 of its pods hold addresses already")
        assert (shrunk.objects[0].taken, shrunk.fits) == ((), True)
        assert [each.count for each in namesake.objects[0].taken] == [3]


async def test_places_of_a_stateful_set_that_keep_their_addresses_need_no_others(database_url: str) -> None:
    sticky = {"fabricmgr.io/sticky": "true"}
    first = KubePod("shop", "web-0", "u0", "w1", owner_kind="StatefulSet", owner_name="web", annotations=sticky)
    asked = manifest("StatefulSet", 3, '{fabricmgr.io/sticky: "true"}')
    async with cluster(database_url) as here:
        await here.follow(ALLOWED, first)
        await here.pool_of(first)
        await here.here.database.run(lambda tx: kube_rows.forget_pods(tx, here.id, ["u0"]))

        found = await simulated(here, asked)

        assert [each.count for each in found.objects[0].taken] == [2]


async def test_a_namespace_of_the_manifest_counts_for_what_is_in_it(database_url: str) -> None:
    head = "kind: Namespace\nmetadata: {{name: shop, labels: {{tier: {tier}}}}}\n---\n"
    balanced = "\n---\nkind: Service\nmetadata: {name: web}\nspec: {type: LoadBalancer, loadBalancerClass: fabricmgr.io/lb}\n"
    async with cluster(database_url) as here:
        gold = Selectors(namespace_labels={"tier": ("gold",)})
        await here.here.pool("lb", "192.0.2.0/28", purpose="Service")
        for pool in ("shop", "lb"):
            await here.select(pool, selectors=gold)
        await here.follow(KubeNode("w1", "1"))

        plain = await simulated(here, head.format(tier="tin") + manifest("Deployment", 2) + balanced)
        selected = await simulated(here, head.format(tier="gold") + manifest("Deployment", 2) + balanced)
        await here.follow(KubeNamespace("shop", "s-1", {"tier": "gold"}), pod("web-0"))

        assert [[each.pool for each in found.taken] for found in plain.objects] == [["plain"], []]
        assert [[each.pool for each in found.taken] for found in selected.objects] == [["shop"], ["lb"]]
        assert selected.passed == ("Namespace shop: its labels and annotations count for what is in it",)
        assert await here.pool_of(pod("web-0")) == SHOP


SERVICES = """
{metadata: {name: plain}}
{metadata: {name: both}, spec: {ipFamilyPolicy: PreferDualStack}}
{metadata: {name: strict}, spec: {ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]}}
{metadata: {name: six}, spec: {ipFamilies: [IPv6]}}
{metadata: {name: asked, annotations: {fabricmgr.io/addresses: 192.0.2.9}}}
{metadata: {name: again, annotations: {metallb.io/loadBalancerIPs: 192.0.2.9}}}
{metadata: {name: old}, spec: {loadBalancerIP: 192.0.2.10}}
{metadata: {name: outside, annotations: {fabricmgr.io/pool: lb, fabricmgr.io/addresses: 203.0.113.9}}}
{metadata: {name: nowhere, annotations: {fabricmgr.io/pool: nowhere}}}
{metadata: {name: family, annotations: {fabricmgr.io/addresses: "2001:db8::9"}}}
{metadata: {name: edge-a, annotations: {fabricmgr.io/sharing-key: edge}}}
{metadata: {name: edge-b, annotations: {fabricmgr.io/sharing-key: edge}}, spec: {ports: [{port: 80, protocol: UDP}]}}
{metadata: {name: edge-c, annotations: {fabricmgr.io/sharing-key: edge}}}
{metadata: {name: edge-d, annotations: {fabricmgr.io/sharing-key: edge}}, spec: {ports: [{port: 81}], externalTrafficPolicy: Local}}
{metadata: {name: reserved, annotations: {fabricmgr.io/addresses: 192.0.2.0}}}
{metadata: {name: returning}}
{metadata: {name: resting, annotations: {fabricmgr.io/addresses: 192.0.2.12}}}
{metadata: {name: late}}
"""


def services() -> str:
    made = []
    for line in SERVICES.strip().splitlines():
        found = yaml.safe_load(line)
        spec = {"type": "LoadBalancer", "loadBalancerClass": CLASS, "ports": [{"port": 80}]} | found.get("spec", {})
        made.append(yaml.safe_dump({"apiVersion": "v1", "kind": "Service", **found, "spec": spec}))
    return "---\n".join(made)


async def settled(here: Cluster, found: ServiceAsked) -> Settled:
    shown = Shown(found.namespace, found.name, found.name, found.labels, completed(found.asked, (4, 6)))
    return await here.here.database.run(
        lambda tx: service_addresses.settle(tx, here.id, DEFAULT_CLUSTER, shown, here.here.clock()),
    )


async def withdrawn(here: Cluster, name: str) -> None:
    await here.here.database.run(lambda tx: Leaving(tx, here.id, DEFAULT_CLUSTER, here.here.clock()).withdraw("shop", name))


async def test_what_services_are_said_to_take_and_to_be_refused_for_comes_true(database_url: str) -> None:
    """Every kind of wish, first simulated, then applied: the same addresses are left, and who waits waits for the same reason."""
    async with cluster(database_url) as here:
        await here.here.sql.execute("update cluster_api set service_ranges = '{10.96.0.0/16, fd00:96::/112}'")
        await here.here.pool("lb", "192.0.2.0/28", "2001:db8::/125", purpose="Service", cooldown=600)
        wanted = [each for each in read(simulate.documents(services()), "shop").asked if isinstance(each, ServiceAsked)]
        for name, address in (("returning", "192.0.2.11"), ("gone", "192.0.2.12")):
            asked = Asked(families=("IPv4",), ports=("TCP/80",), annotations={ADDRESSES: address})
            await settled(here, ServiceAsked(name, name, "shop", asked))
            await withdrawn(here, name)

        said = await simulated(here, services())
        outcomes = [await settled(here, each) for each in wanted]
        after = await simulated(here, services())

        refused = {each.what.removeprefix("Service "): each.reason for each in said.objects if not each.fits}
        assert refused == {each.name: outcome.reason for each, outcome in zip(wanted, outcomes, strict=True) if outcome.reason}
        assert set(refused) == {"again", "outside", "nowhere", "family", "edge-c", "edge-d", "reserved", "resting"}
        assert {(each.pool, each.family): each.after for each in said.left} == {
            (each.pool, each.family): each.before for each in after.left
        }
        assert [each.fits for each in after.objects] == [each.fits for each in said.objects]
        assert not any(each.taken for each in after.objects)


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
