"""What a manager did in a test cluster, as the API server wrote it down, and work that takes each of its rights once."""

import json
from collections.abc import Iterable

from fabricmgr.controllers.kube_nodes import NO_ADDRESSES
from tests.support.kube import manifests, objects
from tests.support.kube.cluster import Cluster, Json
from tests.support.kube.options import NETWORK, PODS
from tests.support.netns import namespace
from tests.support.node_agent import wait_for

Right = tuple[str, str, str]
"""Verb, API group, resource with its subresource."""

ACCOUNT = {"kind": "ServiceAccount", "name": "fabricmgr-manager", "namespace": manifests.SPACE}
CENTRAL: Json = {"name": "chosen", "labels": {"fabricmgr.io/pod-pools": "allowed"}}
FRONT = "198.51.100.8/30"


# --- what is allowed, and what was done --------------------------------------------------------------------------------------


def bound(cluster: Cluster) -> set[str]:
    """Names of the roles that the manager's service account is bound to."""
    return {each["roleRef"]["name"] for each in cluster.items("clusterrolebindings") if ACCOUNT in each.get("subjects", [])}


def listed(cluster: Cluster, roles: Iterable[str]) -> set[Right]:
    """What roles allow, as they are in the cluster."""
    named = {*roles}
    rules = [rule for role in cluster.items("clusterroles") if role["metadata"]["name"] in named for rule in role["rules"]]
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


# --- work --------------------------------------------------------------------------------------------------------------------


def give_a_service_its_address_and_take_it_back(cluster: Cluster) -> None:
    cluster.manager.make_pool("front", FRONT, purpose="Service", cooldown_seconds=0)
    cluster.apply(objects.service("rights", kind="LoadBalancer", loadBalancerClass="fabricmgr.io/lb"))
    wait_for("it has an address", lambda: cluster.get("service", "rights")["status"]["loadBalancer"].get("ingress"), 20)
    cluster.delete("service/rights")
    cluster.manager.ask("DELETE", "/v1/pools/front")


def run_out_of_addresses(cluster: Cluster) -> None:
    """Reserving all that is free stands for a full pool."""
    wait_for("nothing is held", lambda: not cluster.manager.allocations(), 60)
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
    before = len(recorded(cluster))
    node = cluster.node("node1")

    def asked() -> bool:
        with namespace("ghost") as ns:
            args = "K8S_POD_NAMESPACE=chosen;K8S_POD_NAME=ghost;K8S_POD_UID=7f4c1f0e-55a1-4d37-8a5c-000000000001"
            node.add("ghost", ns, args=args, config={"name": NETWORK})
            node.delete("ghost", ns, args=args, config={"name": NETWORK})
        return wanted <= used(recorded(cluster)[before:])

    wait_for("the API server is asked who a pod is", asked, 30)
