"""Pools that select pods, on a real cluster: from labels of a namespace to a pod's address, and what kubectl says of a wrong annotation."""

import json
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.support.kube import objects
from tests.support.kube.cluster import Cluster, Json, addresses
from tests.support.kube.options import NETWORK, PODS
from tests.support.node_agent import wait_for

GOLD = "10.78.0.0/24"
NETWORK_PATH = f"/v1/clusters/default/networks/{NETWORK}"
OPEN = {"fabricmgr.io/pod-pools": "allowed"}


@pytest.fixture(scope="module")
def selecting(cluster: Cluster) -> Iterator[Cluster]:
    """A pool for namespaces of tier gold beside that of all pods, and namespaces of both kinds."""
    ask = cluster.manager.ask
    ask("PATCH", "/v1/clusters/default", {"kubeconfig": cluster.kubeconfig.read_text()})
    selectors = {"namespace_labels": {"tier": ["gold"]}}
    gold = {"name": "gold", "prefixes": [{"prefix": GOLD, "central": True}], "selectors": selectors, "priority": 10, "cooldown_seconds": 1}
    ask("POST", "/v1/pools", gold)
    before = ask("GET", NETWORK_PATH)["pools"]
    ask("PATCH", NETWORK_PATH, {"pools": ["gold", *before]})
    cluster.apply(namespace("gold", tier="gold"), namespace("open", **OPEN))
    wait_for("the manager decides for both", lambda: decided(cluster, "gold") and decided(cluster, "open"), 20)
    time.sleep(2)  # the agents hear of it within a fraction of that
    yield cluster
    cluster.delete("namespace", "gold", "open")
    wait_for("nothing of it is held", lambda: not of_gold(cluster), 30)
    ask("PATCH", NETWORK_PATH, {"pools": before})
    ask("DELETE", "/v1/pools/gold")


def namespace(name: str, **labels: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def decided(cluster: Cluster, name: str) -> bool:
    """Whether the network's page says that the manager decides for pods of a namespace."""
    return name in cluster.manager.ask("GET", NETWORK_PATH)["namespaces_found"]


def of_gold(cluster: Cluster) -> list[Json]:
    return [each for each in cluster.manager.allocations() if "10.78.0." in str(each)]


def within(made: Json, where: str) -> Json:
    return made | {"metadata": made["metadata"] | {"namespace": where}}


def first(pod: Json) -> str:
    return next(each for each in addresses(pod) if ":" not in each)


def explained(cluster: Cluster, where: str, pod: str) -> Json:
    found: list[Json] = cluster.manager.ask("GET", f"/v1/clusters/default/explain/pods/{where}/{pod}")["items"]
    return next(each for each in found if each["network"] == NETWORK)


def test_pods_of_a_namespace_get_the_pool_that_selects_it_and_reach_all_others(selecting: Cluster) -> None:
    wanted = within(objects.deployment("rich", 2), "gold")
    plain = objects.deployment("plain", 1)
    asked = {"manifest": json.dumps(wanted), "namespace": "gold", "network": NETWORK}
    said = selecting.manager.ask("POST", "/v1/clusters/default/simulate", asked)
    selecting.apply(wanted, plain)
    try:
        rich, (other,) = selecting.rolled_out("rich", "gold"), selecting.rolled_out("plain")
        wait_for("peers are known", lambda: len(peers(selecting)) == 2, 20)
        reasons = explained(selecting, "gold", rich[0]["metadata"]["name"])
        theirs = explained(selecting, "default", other["metadata"]["name"])
        reached = [selecting.ping(rich[0], first(each)) for each in (rich[1], other)]
        left = selecting.manager.ask("POST", "/v1/clusters/default/simulate", asked)
        known = peers(selecting)
    finally:
        selecting.delete("deployment", "rich", "-n", "gold")
        selecting.delete("deployment", "plain")

    assert {pod["spec"]["nodeName"] for pod in rich} == {"node1", "node2"}
    assert all(ip_address(first(pod)) in ip_network(GOLD) for pod in rich)
    assert ip_address(first(other)) in ip_network(PODS[4])
    assert reached == [True, True]
    assert {name for name, _ in known} == {pod["metadata"]["name"] for pod in rich}
    assert {address for _, has in known for address in has} == {each for pod in rich for each in addresses(pod)}
    assert reasons["decides"].startswith("the manager")
    assert [each["place"] for each in reasons["pools"] if each["pool"] == "gold"] == [1]
    assert "label tier=gold" in next(each["why"] for each in theirs["pools"] if each["pool"] == "gold")
    assert said["objects"][0]["taken"][0] == {"pool": "gold", "family": 4, "count": 2}
    assert of_pool(said, "after") == of_pool(left, "before")


def peers(cluster: Cluster) -> list[tuple[str, list[str]]]:
    found = cluster.manager.ask("GET", "/v1/workloads/default/gold/rich/peers?kind=Deployment")
    return [(each["name"], each["addresses"]) for each in found.get("items", [])]


def of_pool(found: Json, when: str) -> int:
    return next(int(each[when]) for each in found["left"] if (each["pool"], each["family"]) == ("gold", 4))


WRONG = {
    "nowhere": ({"pool": "nowhere"}, "names pool 'nowhere'"),
    "outside": ({"addresses": "203.0.113.7"}, "203.0.113.7"),
    "unreadable": ({"addresses": "10.77.0.300"}, "10.77.0.300"),
    "twice": ({"addresses": "10.77.200.1,10.77.200.2"}, "one address of each family"),
    "mismatch": ({"pool": "gold"}, "tier=gold"),
}


def test_what_is_wrong_with_an_annotation_is_said_at_the_pod_and_nothing_is_held_for_it(selecting: Cluster) -> None:
    made = {name: within(objects.pod(name, annotations=marked(asked)), "open") for name, (asked, _) in WRONG.items()}
    selecting.apply(*made.values())
    try:
        for name, (_, word) in WRONG.items():
            says(selecting, name, word)
        held = [each for each in selecting.manager.allocations() if each.get("namespace") == "open"]
        selecting.apply(within(objects.pod("right", annotations=marked({"addresses": "10.78.0.77"})), "open"))
        says(selecting, "right", "10.78.0.77")
    finally:
        selecting.kubectl("delete", "pod", *WRONG, "right", "-n", "open", "--ignore-not-found", "--wait", "--timeout=60s")

    assert held == []


def marked(asked: dict[str, str]) -> dict[str, str]:
    return {f"fabricmgr.io/{key}": value for key, value in asked.items()}


def says(cluster: Cluster, pod: str, word: str) -> None:
    wait_for(f"{pod} says {word}", lambda: word in events(cluster, pod), 40)


def events(cluster: Cluster, pod: str, where: str = "open") -> str:
    """What kubectl shows at a pod: kubelet repeats what the plugin answered."""
    found = cluster.items("events", "-n", where, "--field-selector", f"involvedObject.name={pod}")
    return "\n".join(str(each["message"]) for each in found)


def test_a_pod_that_comes_back_under_its_old_name_is_another_one(selecting: Cluster) -> None:
    again: list[Any] = []
    for _ in range(2):
        selecting.apply(within(objects.pod("same"), "gold"))
        selecting.kubectl("wait", "--for=condition=Ready", "pod/same", "-n", "gold", "--timeout=60s")
        again.append(selecting.get("pod", "same", "-n", "gold"))
        selecting.kubectl("delete", "pod", "same", "-n", "gold", "--wait", "--timeout=60s")
    wait_for("both are given back", lambda: not of_gold(selecting), 30)
    had = selecting.manager.ask("GET", f"/v1/history?address={first(again[1])}")["items"]

    assert again[0]["metadata"]["uid"] != again[1]["metadata"]["uid"]
    assert all(ip_address(first(each)) in ip_network(GOLD) for each in again)
    assert had


def test_a_pod_that_its_node_has_from_a_file_is_served_though_the_api_server_is_away(selecting: Cluster) -> None:
    """F048: the runtime names the hash of its configuration, and the API shows a mirror with a UUID of its own, later."""
    node, server = selecting.node("node1"), selecting.control.programs["kube-apiserver"]
    file = node.static_pods / "fixed.json"
    server.stop(patience=0.5)
    try:
        file.write_text(json.dumps(within(objects.pod("fixed"), "gold")))
        wait_for("it has an address", lambda: selecting.manager.allocations(pod="fixed-node1"), 60)
    finally:
        server.start()
    try:
        (held,) = selecting.manager.allocations(pod="fixed-node1")
        wait_for("kubectl is answered", lambda: selecting.control.run_kubectl("get", "nodes").returncode == 0, 60)
        selecting.kubectl("wait", "--for=create", "pod/fixed-node1", "-n", "gold", "--timeout=60s")
        selecting.kubectl("wait", "--for=condition=Ready", "pod/fixed-node1", "-n", "gold", "--timeout=60s")
        mirror = selecting.get("pod", "fixed-node1", "-n", "gold")
    finally:
        file.unlink(missing_ok=True)
    wait_for("it is given back", lambda: not selecting.manager.allocations(pod="fixed-node1"), 60)

    assert sorted(each["address"] for each in held["addresses"]) == sorted(addresses(mirror))
    assert ip_address(first(mirror)) in ip_network(PODS[4])
    assert held["uid"] != mirror["metadata"]["uid"]
