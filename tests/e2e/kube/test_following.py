"""A real cluster is followed: what happens to its objects is told, its Nodes are matched and marked, its pods' addresses are compared."""

import json
import time
from typing import Any

import pytest

from fabricmgr.controllers.kube_nodes import DEGRADED, FREE, NO_ADDRESSES
from tests.support.kube import manifests, objects
from tests.support.kube.cluster import Cluster, Json, addresses
from tests.support.kube.options import NETWORK
from tests.support.node_agent import wait_for
from tests.support.postgres import run_sql


@pytest.fixture(scope="module")
def followed(cluster: Cluster) -> Cluster:
    """The manager follows the API server with the rights of our roles, and does so afterwards too: that changes nothing for other tests."""
    manifests.grant(cluster)
    wait_for("the cluster is followed", lambda: api(cluster)["state"] == "following" and api(cluster)["progressed_at"], 30)
    return cluster


def api(cluster: Cluster) -> Json:
    found: Json = cluster.manager.ask("GET", "/v1/clusters/default")["api"]
    return found


def last(cluster: Cluster) -> int:
    """The newest event's position."""
    position = 0
    while items := cluster.manager.ask("GET", f"/v1/events?after={position}&limit=1000")["items"]:
        position = items[-1]["position"]
    return position


def told(cluster: Cluster, after: int, **about: Any) -> list[str]:
    """Names of events about something, in their order."""
    items: list[Json] = cluster.manager.ask("GET", f"/v1/events?after={after}&limit=1000")["items"]
    return [each["what"] for each in items if about.items() <= each["about"].items()]


def test_the_cluster_is_followed_and_says_so(followed: Cluster) -> None:
    found = api(followed)

    assert found["server_version"].startswith("v1.")
    assert found["reason"] == ""
    assert "ClusterFollowed" in told(followed, 0, server=found["server"])


def test_nodes_are_machines_of_ours_and_show_what_they_have_left(followed: Cluster) -> None:
    followed.kubectl("label", "node", "node1", "rack=r7", "--overwrite")

    wait_for("the label is the node's", lambda: followed.manager.ask("GET", "/v1/clusters/default/nodes/node1")["labels"].get("rack"), 10)
    systems = followed.manager.ask("GET", "/redfish/v1/Systems?$expand=.")["Members"]
    shown = {each["HostName"]: each["Oem"]["FabricMgr"]["Kubernetes"] for each in systems}

    assert {name: (each["Node"], each["Ready"]) for name, each in shown.items()} == {"node1": ("node1", True), "node2": ("node2", True)}
    wait_for("both show what is free", lambda: all(int(free(each) or 0) > 0 for each in followed.items("nodes")), 20)


def free(node: Json) -> str:
    found: str = node["metadata"]["labels"].get(FREE, "")
    return found


def test_a_deployment_is_told_of_once_and_in_order(followed: Cluster) -> None:
    before = last(followed)
    about = {"kind": "Deployment", "name": "told"}

    followed.apply(objects.deployment("told", 3))
    try:
        followed.rolled_out("told")
        wait_for("it is complete", lambda: "WorkloadComplete" in told(followed, before, **about), 20)
        followed.kubectl("scale", "deployment/told", "--replicas=0")
        wait_for("no pod is left", lambda: not followed.pods("told"), 60)
        followed.kubectl("scale", "deployment/told", "--replicas=2")
        followed.rolled_out("told")
        wait_for("it is available again", lambda: told(followed, before, **about).count("WorkloadAvailable") == 2, 20)
    finally:
        followed.delete("deployment", "told")
    wait_for("its end is told", lambda: "WorkloadDeleted" in told(followed, before, **about), 20)

    scaled = ["WorkloadProgressing", "WorkloadAvailable", "WorkloadComplete", "WorkloadAvailable"]
    assert told(followed, before, **about) == [*scaled, "WorkloadDeleted"]


def test_pods_that_are_too_large_for_any_node_are_told_once_with_what_is_missing(followed: Cluster) -> None:
    before = last(followed)
    made = objects.deployment("huge", 3)
    made["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "900"}}

    followed.apply(made)
    try:
        wait_for("it is told", lambda: "WorkloadUnschedulable" in told(followed, before, name="huge"), 30)
        time.sleep(5)  # whatever else would be told
        items = followed.manager.ask("GET", f"/v1/events?after={before}&limit=1000")["items"]
    finally:
        followed.delete("deployment", "huge")

    (about,) = [each["about"] for each in items if each["what"] == "WorkloadUnschedulable"]
    assert (about["pods"], about["resource"]) == (3, "cpu")


def test_a_manager_that_was_killed_tells_what_happened_meanwhile_and_repeats_nothing(followed: Cluster) -> None:
    before = last(followed)
    about = {"kind": "Deployment", "name": "through"}
    followed.apply(objects.deployment("through", 2))
    try:
        followed.rolled_out("through")
        wait_for("it is complete", lambda: "WorkloadComplete" in told(followed, before, **about), 20)

        followed.manager.process.kill()
        followed.kubectl("set", "env", "deployment/through", "ROUND=2")
        followed.rolled_out("through")
        followed.manager.process.start()
        followed.manager.wait_ready()
        wait_for("the second rollout is told", lambda: told(followed, before, **about).count("WorkloadComplete") == 2, 40)
    finally:
        followed.delete("deployment", "through")
    wait_for("its end is told", lambda: "WorkloadDeleted" in told(followed, before, **about), 20)

    first = ["WorkloadProgressing", "WorkloadAvailable", "WorkloadComplete"]
    assert told(followed, before, **about) == [*first, "WorkloadProgressing", "WorkloadComplete", "WorkloadDeleted"]


def test_a_node_without_addresses_is_tainted_and_stays_ready_until_there_are_some(followed: Cluster) -> None:
    """Reserving all that is free stands for a full pool."""
    pool = followed.manager.ask("GET", f"/v1/clusters/default/networks/{NETWORK}")["pools"][0]
    prefix = next(each["prefix"] for each in followed.manager.ask("GET", f"/v1/pools/{pool}")["prefixes"] if "." in each["prefix"])
    wait_for("nothing is held", lambda: not followed.manager.allocations(), 60)

    followed.manager.ask("POST", f"/v1/pools/{pool}/reservations", {"prefix": prefix, "reason": "a test of exhaustion"})
    try:
        wait_for("both are tainted", lambda: all(tainted(each) for each in followed.items("nodes")), 40)
        time.sleep(12)  # STATUS is asked twice
        ready = followed.ready_nodes()
        said = followed.kubectl("describe", "node", "node1")
    finally:
        followed.manager.ask("DELETE", f"/v1/pools/{pool}/reservations/{prefix}")
    wait_for("neither is", lambda: not any(tainted(each) for each in followed.items("nodes")), 40)

    assert ready == {"node1", "node2"}
    assert "NoFreeAddresses" in said


def tainted(node: Json, key: str = NO_ADDRESSES) -> bool:
    return key in {each["key"] for each in node["spec"].get("taints", [])}


def test_a_node_whose_network_is_at_fault_is_kept_free_of_new_pods_until_it_is_mended(followed: Cluster) -> None:
    """A chain of somebody's that drops what is forwarded. Pods that run stay, and so does the node's readiness."""
    node = followed.node("node2")
    names = [f"elsewhere-{number}" for number in range(4)]
    node.run("nft", "add table inet strange; add chain inet strange forwarded { type filter hook forward priority 10; policy drop; }")
    try:
        wait_for("it is tainted", lambda: tainted(followed.get("node", "node2"), DEGRADED), 60)
        faults = followed.manager.ask("GET", "/v1/clusters/default/nodes/node2")["faults"]
        followed.apply(*(objects.pod(name) for name in names))
        followed.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in names))
        placed = {followed.get("pod", name)["spec"]["nodeName"] for name in names}
        ready, other = followed.ready_nodes(), tainted(followed.get("node", "node1"), DEGRADED)
    finally:
        node.run("nft", "delete table inet strange")
        followed.delete("pod", *names)
    wait_for("it is not", lambda: not tainted(followed.get("node", "node2"), DEGRADED), 60)

    assert placed == {"node1"}
    assert (ready, other) == ({"node1", "node2"}, False)
    assert "chain forwarded of table inet strange drops" in str(faults)


def test_two_pods_with_one_address_are_told_and_the_one_that_does_not_hold_it_says_so(followed: Cluster) -> None:
    """F047, with a real second one: nobody runs it, its status is written by hand."""
    before = last(followed)
    followed.apply(objects.deployment("odd", 1))
    try:
        (pod,) = followed.rolled_out("odd")
        wait_for("it is held", lambda: followed.manager.allocations(pod=pod["metadata"]["name"]), 20)
        ghost = {"metadata": {"name": "ghost", "namespace": "default"}, "spec": {**pod_spec(pod), "nodeName": "nowhere"}}
        followed.apply({"apiVersion": "v1", "kind": "Pod", **ghost})
        status = {"phase": "Running", "podIP": addresses(pod)[0], "podIPs": [{"ip": each} for each in addresses(pod)]}
        followed.kubectl("patch", "pod", "ghost", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))

        wait_for("it is told", lambda: "PodAddressMismatch" in told(followed, before, name="ghost", what_differs="conflict"), 35)
        wait_for("kubectl shows it", lambda: "AddressMismatch" in followed.kubectl("describe", "pod", "ghost"), 10)
    finally:
        followed.kubectl("delete", "pod", "ghost", "--ignore-not-found", "--force", "--grace-period=0")
        followed.delete("deployment", "odd")

    assert told(followed, before, name=pod["metadata"]["name"]).count("PodAddressMismatch") == 0


def pod_spec(pod: Json) -> Json:
    return {"containers": [{"name": "main", "image": pod["spec"]["containers"][0]["image"]}]}


def test_a_row_that_the_manager_lost_is_told_and_brought_back_by_the_node(followed: Cluster) -> None:
    """The kernel is evidence: the agent is asked to look again, and its hello sets our copy right."""
    before = last(followed)
    followed.apply(objects.deployment("lost", 1))
    try:
        (pod,) = followed.rolled_out("lost")
        name = pod["metadata"]["name"]
        wait_for("it is held", lambda: followed.manager.allocations(pod=name), 20)
        run_sql(followed.manager.database, "delete from allocation where about ->> 'pod' like 'lost-%'")
        lost = followed.manager.allocations(pod=name)

        wait_for("it is told", lambda: "PodAddressMismatch" in told(followed, before, name=name, what_differs="unknown"), 60)
        wait_for("it is held again", lambda: followed.manager.allocations(pod=name), 20)
        (held,) = followed.manager.allocations(pod=name)
    finally:
        followed.delete("deployment", "lost")

    assert lost == []
    assert sorted(each["address"] for each in held["addresses"]) == sorted(addresses(pod))


def test_a_right_that_is_missing_is_named_and_what_does_not_need_it_goes_on(followed: Cluster) -> None:
    """No role over DaemonSets."""
    rules = [
        {
            "apiGroups": ["", "apps", "batch", "discovery.k8s.io", "networking.k8s.io", "k8s.cni.cncf.io"],
            "resources": LISTED,
            "verbs": VERBS,
        },
    ]
    named = {"name": "half-blind"}
    account = {"kind": "ServiceAccount", "name": "half-blind", "namespace": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "half-blind"}
    rbac = "rbac.authorization.k8s.io/v1"
    followed.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**named, "namespace": "default"}},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": named, "rules": rules},
        {"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": named, "roleRef": role, "subjects": [account]},
    )
    access = json.loads(followed.kubeconfig.read_text())
    access["users"][0]["user"] = {"token": followed.kubectl("create", "token", "half-blind").strip()}
    try:
        followed.manager.ask("PATCH", "/v1/clusters/default", {"kubeconfig": json.dumps(access)})
        wait_for("the missing right is named", lambda: "daemonsets.apps" in api(followed)["reason"], 30)
        found = api(followed)
        before = last(followed)
        followed.apply(objects.deployment("seen", 1))
        followed.rolled_out("seen")
        wait_for("it is complete", lambda: "WorkloadComplete" in told(followed, before, name="seen"), 20)
    finally:
        followed.delete("deployment", "seen")
        manifests.grant(followed)
        followed.delete("clusterrolebinding", "half-blind")
    wait_for("no right is missing", lambda: api(followed)["state"] == "following" and "daemonsets" not in api(followed)["reason"], 30)

    assert found["state"] == "following"
    assert "deployments" not in found["reason"]


VERBS = ["get", "list", "watch"]
LISTED = [
    "pods", "nodes", "namespaces", "services", "endpointslices", "deployments", "replicasets", "statefulsets", "jobs", "servicecidrs",
    "network-attachment-definitions",
]  # fmt: skip


def test_an_api_server_that_is_away_is_told_and_what_happened_meanwhile_when_it_is_back(followed: Cluster) -> None:
    before = last(followed)
    server = followed.control.programs["kube-apiserver"]

    server.stop(patience=0.5)
    try:
        wait_for("it is told", lambda: "ClusterUnreachable" in told(followed, before), 60)
    finally:
        server.start()
    wait_for("it is followed again", lambda: told(followed, before).count("ClusterFollowed") == 1, 90)

    assert api(followed)["state"] == "following"
    wait_for("kubectl is answered", lambda: followed.control.run_kubectl("get", "nodes").returncode == 0, 30)
