"""A real Kubernetes with fabricmgr as its only pods' network: from `kubectl apply` to addresses that are given back."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network

import pytest

from fabricmgr.agent.install import conf_file
from tests.support.kube import objects
from tests.support.kube.cluster import Cluster, Json, addresses, condition
from tests.support.kube.options import NETWORK, PODS
from tests.support.node_agent import wait_for


@contextmanager
def deployed(cluster: Cluster, name: str, replicas: int) -> Iterator[list[Json]]:
    """Pods that run; afterwards they are gone, and nothing of them is left."""
    cluster.apply(objects.deployment(name, replicas))
    try:
        yield cluster.rolled_out(name)
    finally:
        cluster.delete("deployment", name)
        wait_for(f"the pods of {name} are gone", lambda: not cluster.pods(name), 60)
    nothing_is_left(cluster)


@contextmanager
def another_network(cluster: Cluster, name: str, *prefixes: str) -> Iterator[None]:
    """Beside the usual one, which nodes have again afterwards."""
    with cluster.manager.network_for_a_while(name, *prefixes):
        try:
            yield
        finally:
            for node in cluster.nodes:
                node.install(NETWORK)


def nothing_is_left(cluster: Cluster) -> None:
    """Not in the kernel, not in a journal, not in the database."""
    wait_for("no link of a pod is left", lambda: not any(node.links() for node in cluster.nodes), 20)
    wait_for("no journal has an attachment", lambda: not any(node.state().attachments for node in cluster.nodes), 60)
    wait_for("the manager holds nothing for a pod", lambda: not cluster.manager.allocations(), 20)


def test_both_nodes_are_ready_with_our_network_alone(cluster: Cluster) -> None:
    lists = [node.lists() for node in cluster.nodes]

    assert cluster.ready_nodes() == {"node1", "node2"}
    assert lists == [[conf_file(NETWORK)]] * 2
    assert not any(each["spec"].get("podCIDRs") for each in cluster.items("nodes"))


def test_a_deployment_runs_on_both_nodes_with_addresses_that_the_manager_knows(cluster: Cluster) -> None:
    with deployed(cluster, "web", 4) as pods:
        for node in cluster.nodes:
            node.settled()
        held = {(each["pod"], each["node"], its["address"]) for each in cluster.manager.allocations() for its in each["addresses"]}

        assert Counter(pod["spec"]["nodeName"] for pod in pods) == {"node1": 2, "node2": 2}
        assert held == {(pod["metadata"]["name"], pod["spec"]["nodeName"], address) for pod in pods for address in addresses(pod)}
        assert all(ours(address) for pod in pods for address in addresses(pod))
        assert all(len(addresses(pod)) == 2 for pod in pods)


def ours(address: str) -> bool:
    return any(ip_address(address) in ip_network(prefix) for prefix in PODS.values())


def test_every_pod_reaches_every_other_one_by_ping_and_http(cluster: Cluster) -> None:
    with deployed(cluster, "mesh", 4) as pods:
        pings = {(a["metadata"]["name"], there): cluster.ping(a, there) for a in pods for b in pods if a != b for there in addresses(b)}
        answers = {there: cluster.curl(pods[0], there) for pod in pods[1:] for there in addresses(pod)}

        assert len(pings) == 24
        assert all(pings.values()), pings
        assert answers == {there: pod["metadata"]["name"] for pod in pods[1:] for there in addresses(pod)}


def test_an_agent_that_restarts_leaves_its_node_ready_and_its_pods_connected(cluster: Cluster) -> None:
    """STATUS is asked every 5 s; a failure that lasts makes the node NotReady, and evicts."""
    with deployed(cluster, "steady", 2) as pods:
        here, there = sorted(pods, key=lambda pod: str(pod["spec"]["nodeName"]))
        node = cluster.node_of(here)
        before = transition(cluster, node.name)

        node.agent.kill()
        alone = cluster.ping(here, addresses(there)[0])
        node.start_agent()
        wait_for("STATUS was asked again, twice", lambda: node.calls().get("STATUS 0", 0) >= 2, 20)

        assert alone
        assert cluster.ping(here, addresses(there)[0])
        assert transition(cluster, node.name) == before
        assert {pod["metadata"]["uid"] for pod in cluster.pods("steady")} == {pod["metadata"]["uid"] for pod in pods}


def transition(cluster: Cluster, node: str) -> tuple[str, str]:
    """Whether it is Ready, and since when."""
    found = cluster.get("node", node)
    ready = next(each for each in found["status"]["conditions"] if each["type"] == "Ready")
    return condition(found, "Ready"), ready["lastTransitionTime"]


def test_deletions_come_more_than_once_for_a_pod_and_all_of_them_succeed(cluster: Cluster) -> None:
    before = [Counter(node.calls()) for node in cluster.nodes]

    def calls() -> list[Counter[str]]:
        return [Counter(node.calls()) - was for node, was in zip(cluster.nodes, before, strict=True)]

    with deployed(cluster, "brief", 2):
        pass
    wait_for("a second deletion on each node", lambda: all(each["DEL 0"] >= 2 for each in calls()), 90)

    assert [each["ADD 0"] for each in calls()] == [1, 1]
    assert {name for each in calls() for name in each if not name.endswith(" 0")} == set()


def test_a_pod_that_lived_when_its_nodes_network_changed_gives_its_address_back(cluster: Cluster) -> None:
    """Its deletion comes under the new network's name, since a runtime asks by the list it has then: the look at the kernel finds it."""
    with another_network(cluster, "later", "10.79.0.0/20"), deployed(cluster, "elder", 2):
        for node in cluster.nodes:
            node.install("later")


@pytest.mark.parametrize("families", [(4,), (6,), (4, 6)], ids=["ipv4", "ipv6", "both"])
def test_pods_have_the_families_of_their_network(cluster: Cluster, families: tuple[int, ...]) -> None:
    ready = {node.name: transition(cluster, node.name) for node in cluster.nodes}
    name = "only" + "".join(map(str, families))
    prefixes = {4: f"10.7{len(families)}.0.0/20", 6: f"2001:db8:7{len(families)}::/116"}
    with another_network(cluster, name, *(prefixes[family] for family in families)):
        for node in cluster.nodes:
            node.install(name)
            node.ready(name)
        with deployed(cluster, name, 2) as pods:
            here, there = pods

            assert sorted(ip_address(each).version for each in addresses(here)) == list(families)
            assert all(cluster.ping(here, each) for each in addresses(there))
            assert {cluster.curl(here, each) for each in addresses(there)} == {there["metadata"]["name"]}
            assert {node.name: transition(cluster, node.name) for node in cluster.nodes} == ready
