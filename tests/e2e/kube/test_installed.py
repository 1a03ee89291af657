"""A cluster whose agents come from our manifests, and a manager that has the rights of our roles, as docs/kubernetes.md installs both."""

import json
from collections.abc import Iterator

import pytest

from fabricmgr.controllers.kube_nodes import NO_ADDRESSES
from tests.support.kube import manifests, objects
from tests.support.kube.cluster import Cluster, Json, addresses, until
from tests.support.kube.cluster import cluster as brought_up
from tests.support.kube.options import NETWORK, PODS, Options
from tests.support.netns import namespace
from tests.support.node_agent import wait_for
from tests.support.site import SiteManager

pytestmark = [pytest.mark.manifests, pytest.mark.timeout(600)]

Right = tuple[str, str, str]
"""Verb, API group, resource with its subresource."""

ROLES = {"fabricmgr-follow", "fabricmgr-services", "fabricmgr-headroom", "fabricmgr-node-tokens"}
# Every account may ask for it (the API server's role system:public-info-viewer), so that no role of ours names it.
FOR_ALL = {"/version"}
FRONT = "198.51.100.8/30"
CENTRAL = {"name": "chosen", "labels": {"fabricmgr.io/pod-pools": "allowed"}}


@pytest.fixture(scope="module")
def installed() -> Iterator[Cluster]:
    with brought_up(Options(as_pods=True)) as made:
        yield made


def nodes_of(cluster: Cluster) -> dict[str, Json]:
    return {each["name"]: each for each in cluster.manager.ask("GET", "/v1/clusters/default/nodes")["items"]}


def held(cluster: Cluster) -> set[str]:
    return {each["address"] for found in cluster.manager.allocations() for each in found["addresses"]}


def test_agents_join_by_the_token_of_their_pod_and_pods_get_addresses_of_ours(installed: Cluster) -> None:
    installed.apply(objects.deployment("web", 4))
    try:
        pods = installed.rolled_out("web")
        given = {address for pod in pods for address in addresses(pod)}
        wait_for("all is reported", lambda: given <= held(installed), 20)
        first, last = (next(pod for pod in pods if pod["spec"]["nodeName"] == name) for name in ("node1", "node2"))
        reached = [installed.ping(first, address) for address in addresses(last)]
    finally:
        installed.delete("deployment/web")

    assert {name: each["state"] for name, each in nodes_of(installed).items()} == {"node1": "enrolled", "node2": "enrolled"}
    assert len(given) == 8
    assert reached == [True, True]


def test_an_agents_pod_that_is_replaced_is_the_same_node_and_pods_keep_their_network(installed: Cluster) -> None:
    installed.apply(objects.deployment("kept", 2))
    try:
        one, other = installed.rolled_out("kept")
        before = {name: (each["created_at"], each["machine_id"]) for name, each in nodes_of(installed).items()}

        installed.kubectl("rollout", "restart", "daemonset/fabricmgr-agent", "-n", manifests.SPACE)
        installed.kubectl("rollout", "status", "daemonset/fabricmgr-agent", "-n", manifests.SPACE, "--timeout=120s")
        reached = installed.ping(one, addresses(other)[0])
    finally:
        installed.delete("deployment/kept")

    assert {name: (each["created_at"], each["machine_id"]) for name, each in nodes_of(installed).items()} == before
    assert installed.ready_nodes() == {"node1", "node2"}
    assert reached


# --- rights ---


def listed(cluster: Cluster) -> set[Right]:
    """What the roles allow that the manager's service account is bound to, as they are in the cluster."""
    account = {"kind": "ServiceAccount", "name": "fabricmgr-manager", "namespace": manifests.SPACE}
    bound = {each["roleRef"]["name"] for each in cluster.items("clusterrolebindings") if account in each.get("subjects", [])}
    assert bound == ROLES
    rules = [rule for role in cluster.items("clusterroles") if role["metadata"]["name"] in bound for rule in role["rules"]]
    return {
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }  # fmt: skip


def recorded(cluster: Cluster) -> list[Json]:
    """What the API server wrote down of the manager's requests: whole lines, since it writes on."""
    return [json.loads(line) for line in cluster.control.audit.read_text().rpartition("\n")[0].splitlines()]


def refused(records: list[Json]) -> list[Json]:
    return [each for each in records if each["responseStatus"]["code"] in (401, 403)]


def used(records: list[Json]) -> set[Right]:
    return {(each["verb"], *what(each["objectRef"])) for each in records if "objectRef" in each}


def what(reference: Json) -> tuple[str, str]:
    below = f"/{reference['subresource']}" if "subresource" in reference else ""
    return reference.get("apiGroup", ""), f"{reference['resource']}{below}"


def test_the_manager_uses_every_right_of_the_roles_and_no_other(installed: Cluster) -> None:
    """Each function does its work once: the API server's audit log says what that took."""
    installed.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": CENTRAL})

    give_a_service_its_address_and_take_it_back(installed)
    run_out_of_addresses(installed)
    run_out_of_addresses(installed)  # what was said before is counted, not said anew
    ask_who_a_pod_is(installed)
    records = recorded(installed)

    assert used(records) == listed(installed)
    assert {each["requestURI"] for each in records if "objectRef" not in each} == FOR_ALL
    assert refused(records) == []


def give_a_service_its_address_and_take_it_back(cluster: Cluster) -> None:
    cluster.manager.make_pool("front", FRONT, purpose="Service", cooldown_seconds=0)
    cluster.apply(objects.service("rights", kind="LoadBalancer", loadBalancerClass="fabricmgr.io/lb"))
    wait_for("it has an address", lambda: cluster.get("service", "rights")["status"]["loadBalancer"].get("ingress"), 20)
    cluster.delete("service/rights")
    cluster.manager.ask("DELETE", "/v1/pools/front")


def run_out_of_addresses(cluster: Cluster) -> None:
    """Reserving all that is free stands for a full pool."""
    wait_for("nothing is held", lambda: not held(cluster), 60)
    cluster.manager.ask("POST", f"/v1/pools/{NETWORK}/reservations", {"prefix": PODS[4], "reason": "a test of rights"})
    try:
        wait_for("the nodes are tainted", lambda: tainted(cluster) == {"node1", "node2"}, 40)
    finally:
        cluster.manager.ask("DELETE", f"/v1/pools/{NETWORK}/reservations/{PODS[4]}")
    wait_for("no node is", lambda: not tainted(cluster), 40)


def tainted(cluster: Cluster) -> set[str]:
    return {each["metadata"]["name"] for each in cluster.items("nodes") if NO_ADDRESSES in str(each["spec"].get("taints", []))}


def ask_who_a_pod_is(cluster: Cluster) -> None:
    """Of a pod that nobody has seen: as it is for a moment with each new pod of a namespace that the manager decides for."""
    wanted = {("get", "", "pods"), ("get", "", "namespaces")}
    node = cluster.node("node1")

    def asked() -> bool:
        with namespace("ghost") as ns:
            args = "K8S_POD_NAMESPACE=chosen;K8S_POD_NAME=ghost;K8S_POD_UID=7f4c1f0e-55a1-4d37-8a5c-000000000001"
            node.add("ghost", ns, args=args, config={"name": NETWORK})
            node.delete("ghost", ns, args=args, config={"name": NETWORK})
        return wanted <= used(recorded(cluster))

    wait_for("the API server is asked who a pod is", asked, 30)


# --- a manager in the cluster ---


def test_a_manager_in_the_cluster_follows_it_with_its_own_service_account(installed: Cluster) -> None:
    node = installed.node("node1")
    before = len(recorded(installed))
    installed.kubectl("label", "node", node.name, "fabricmgr.io/manager=true")
    installed.kubectl("apply", "-k", str(manifests.part(installed, "manager")))
    try:
        installed.kubectl("rollout", "status", "deployment/fabricmgr-manager", "-n", manifests.SPACE, "--timeout=180s")
        inside = SiteManager(installed.hub, node.own / "var/lib/fabricmgr", node.addresses[0])
        inside.ask("POST", "/v1/clusters", {"name": "home", "in_cluster": True})
        wait_for("it is followed", lambda: inside.ask("GET", "/v1/clusters/home")["api"]["state"] == "following", 30)
        api = inside.ask("GET", "/v1/clusters/home")["api"]
    finally:
        installed.delete("deployment/fabricmgr-manager", "-n", manifests.SPACE)

    # It has taken the cluster in: the agents here are the other manager's.
    assert (api["server"], api["reason"]) == ("https://10.96.0.1:443", "no agent on node1, node2")
    assert api["server_version"].startswith("v1.")
    assert refused(recorded(installed)[before:]) == []


# --- removal, after which nothing of ours is left ---


def test_removal_takes_list_and_plugin_away_from_every_node_and_pods_keep_their_network(installed: Cluster) -> None:
    installed.apply(objects.deployment("left", 2))
    one, other = installed.rolled_out("left")
    installed.kubectl("delete", "daemonset/fabricmgr-agent", "-n", manifests.SPACE, "--wait")
    without_agents = installed.ping(one, addresses(other)[0])

    installed.kubectl("apply", "-k", str(manifests.part(installed, "removal")))
    installed.kubectl("rollout", "status", "daemonset/fabricmgr-removal", "-n", manifests.SPACE, "--timeout=120s")
    after = installed.ping(one, addresses(other)[0])

    assert without_agents
    assert after
    for node in installed.nodes:
        assert [path.name for path in (node.own / "opt/cni/bin").iterdir()] == []
        assert [path.name for path in (node.own / "etc/cni/net.d").iterdir()] == []
    assert until(lambda: installed.ready_nodes() == set(), 30)
