"""Services' addresses on the nodes' segment: a client that knows nothing but layer 2 reaches them, whatever becomes of who announces."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.e2e.kube.test_services import balanced
from tests.support.kube import objects
from tests.support.kube.cluster import Cluster, Json
from tests.support.kube.node import KubeNode
from tests.support.node_agent import wait_for
from tests.support.probing import probed
from tests.support.segment_client import Client, segment_client

POOL = "edge"
PREFIXES = ("192.168.250.128/28", "2001:db8:250::1000/124")
LIMIT = 2.0  # seconds that a failover may take


@pytest.fixture(scope="module")
def served(cluster: Cluster) -> Iterator[Cluster]:
    """The manager follows the cluster, and has a pool for Services on the nodes' segment."""
    manager = cluster.manager
    manager.ask("PATCH", "/v1/clusters/default", {"kubeconfig": cluster.kubeconfig.read_text()})
    prefixes = [{"prefix": each} for each in PREFIXES]
    manager.ask("POST", "/v1/pools", {"name": POOL, "purpose": "Service", "cooldown_seconds": 0, "prefixes": prefixes})
    yield cluster
    wait_for("nothing is held", lambda: not manager.allocations(pool=POOL), 30)
    manager.ask("DELETE", f"/v1/pools/{POOL}")


@pytest.fixture(scope="module")
def client(served: Cluster) -> Iterator[Client]:
    with segment_client(served) as made:
        yield made


@pytest.fixture
def web(served: Cluster, client: Client) -> Iterator[list[str]]:
    """A Service of both families in front of a pod on each node; its addresses, which answer."""
    service = balanced("edge", ipFamilyPolicy="RequireDualStack", externalTrafficPolicy="Local")
    service["metadata"]["annotations"]["fabricmgr.io/pool"] = POOL
    served.apply(objects.deployment("edge", 2), service)
    try:
        served.rolled_out("edge")
        wait_for("it has its addresses", lambda: len(ingress(served)) == 2, 20)
        with client.hearing(*ingress(served)):
            for each in ingress(served):
                answers(client, each, 20)
            yield ingress(served)
    finally:
        served.delete("service", "edge")
        served.delete("deployment", "edge")


def ingress(cluster: Cluster, name: str = "edge") -> list[str]:
    return [each["ip"] for each in cluster.get("service", name)["status"]["loadBalancer"].get("ingress", [])]


def mac(node: KubeNode) -> str:
    return str(msgspec.json.decode(node.run("ip", "-j", "link", "show", "uplink").stdout)[0]["address"])


def holder(cluster: Cluster, client: Client, address: str) -> KubeNode:
    """The node whose MAC answers for an address."""
    wait_for(f"somebody answers for {address}", lambda: client.speaker(address), 10)
    return next(each for each in cluster.nodes if mac(each) == client.speaker(address))


def answers(client: Client, address: str, seconds: float = 10) -> None:
    wait_for(f"{address} answers", lambda: client.curl(address).startswith("edge-"), seconds)


def other(cluster: Cluster, node: KubeNode) -> KubeNode:
    return next(each for each in cluster.nodes if each is not node)


def conditions(cluster: Cluster, name: str = "edge") -> dict[str, Json]:
    found = cluster.get("service", name)["status"].get("conditions", [])
    return {each["type"].removeprefix("fabricmgr.io/"): each for each in found}


def said(cluster: Cluster, name: str) -> str:
    return str(conditions(cluster).get(name, {}).get("message", ""))


def shown(cluster: Cluster) -> list[Json]:
    found: list[Json] = cluster.manager.ask("GET", "/v1/services/default/default/edge")["addresses"]
    return found


def test_a_client_on_the_segment_reaches_both_addresses_at_one_mac_which_the_service_names(
    served: Cluster, client: Client, web: list[str]
) -> None:
    since = time.monotonic()
    time.sleep(1.0)
    macs = {each: {answer.mac for answer in client.answers if answer.address == each and answer.at > since} for each in web}

    names = {each: holder(served, client, each).name for each in web}

    assert [len(each) for each in macs.values()] == [1, 1]
    wait_for(
        "the condition names them",
        lambda: all(f"{each}: {names[each]} announces it" in said(served, "AddressAnnounced") for each in web),
        5,
    )
    assert conditions(served)["AddressAnnounced"]["status"] == "True"
    assert {each["address"]: (each["node"], each["announced"]) for each in shown(served)} == {
        each: (names[each], "speaking") for each in web
    }


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_node_whose_agent_dies_is_followed_within_two_seconds(served: Cluster, client: Client, web: list[str], family: int) -> None:
    address = web[family]
    node = holder(served, client, address)
    follower = other(served, node)

    begun = time.monotonic()
    node.agent.kill(signal.SIGKILL)
    try:
        took = client.back(address, begun)
        after = holder(served, client, address)
    finally:
        node.start_agent()
        node.ready()
    time.sleep(1.5)  # it asks the wire before it would speak

    print(f"{address}: agent of {node.name} killed, answered after {took:.2f} s, two MACs for {client.overlap(address, begun):.2f} s")
    assert took < LIMIT
    assert after is holder(served, client, address) is follower
    assert client.overlap(address, begun) == 0.0


def test_a_host_that_asks_for_the_addresses_without_end_does_not_hold_a_failover_up(
    served: Cluster, client: Client, web: list[str]
) -> None:
    """Ten probes a second (RFC 5227, RFC 4862) from the client's own link."""
    address = web[0]
    node = holder(served, client, address)
    with probed(client.where, *web):
        time.sleep(1.0)
        begun = time.monotonic()
        node.agent.kill(signal.SIGKILL)
        try:
            took = client.back(address, begun)
        finally:
            node.start_agent()
            node.ready()
        time.sleep(1.5)
    told = conditions(served)

    print(f"{address}: agent of {node.name} killed amid probes, answered after {took:.2f} s")
    assert took < LIMIT
    assert "AddressConflictDetected" not in told


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_node_whose_link_dies_is_followed_within_two_seconds(served: Cluster, client: Client, web: list[str], family: int) -> None:
    address = web[family]
    node = holder(served, client, address)
    follower = other(served, node)

    begun = time.monotonic()
    served.hub.run("ip", "link", "set", f"port{node.number + 1}", "down")
    try:
        took = client.back(address, begun, asks=False)  # the announcement turns the client to the other node
    finally:
        served.hub.run("ip", "link", "set", f"port{node.number + 1}", "up")
    wait_for(f"{node.name} is ready", lambda: node.name in served.ready_nodes(), 60)
    wait_for(f"{node.name} is heard", lambda: node.status() is not None, 20)
    time.sleep(3)  # it is told, and would have spoken by now

    print(f"{address}: link of {node.name} cut, answered after {took:.2f} s, two MACs for {client.overlap(address, begun):.2f} s")
    assert took < LIMIT
    assert holder(served, client, address) is follower
    assert client.overlap(address, begun) < LIMIT


def test_a_holder_that_only_lost_the_manager_goes_on_speaking(served: Cluster, client: Client, web: list[str]) -> None:
    before = {each: holder(served, client, each).name for each in web}
    process = served.manager.process
    begun = time.monotonic()
    process.kill(signal.SIGKILL)
    try:
        lost = [address for _ in range(25) for address in web if not client.curl(address)]
        time.sleep(2)
    finally:
        process.start()
        served.manager.wait_ready()
    time.sleep(8)  # longer than a leader waits before a silence counts

    assert lost == []
    assert {each: holder(served, client, each).name for each in web} == before
    assert [client.overlap(each, begun) for each in web] == [0.0, 0.0]


def test_a_foreign_answerer_is_named_by_its_mac(served: Cluster, client: Client, web: list[str]) -> None:
    """F028: the kernel of another node has the address on lo and answers for it."""
    address = web[0]
    node = other(served, holder(served, client, address))
    node.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0")
    node.run("ip", "address", "add", f"{address}/32", "dev", "lo")
    try:
        wait_for("the Service says so", lambda: mac(node) in said(served, "AddressConflictDetected"), 15)
        told = said(served, "AddressConflictDetected")
        events = [each for each in served.manager.ask("GET", "/v1/events?limit=1000")["items"] if "AddressConflictDetected" in str(each)]
    finally:
        node.run("ip", "address", "del", f"{address}/32", "dev", "lo")
    wait_for("it is over", lambda: "AddressConflictDetected" not in conditions(served), 20)

    assert told.startswith(f"{mac(node)} ({node.name}) answers for {address} too: ")
    assert "arp_ignore=1" in told
    assert any(mac(node) in str(each) for each in events)


def test_with_local_traffic_the_address_follows_its_pod(served: Cluster, client: Client, web: list[str]) -> None:
    address = web[0]
    there = holder(served, client, address)
    elsewhere = other(served, there)
    spec: dict[str, Any] = {"nodeName": elsewhere.name, "topologySpreadConstraints": None}
    patch = {"spec": {"replicas": 1, "template": {"spec": spec}}}

    served.kubectl("patch", "deployment", "edge", "--type=merge", "-p", msgspec.json.encode(patch).decode())
    served.rolled_out("edge")

    wait_for("the other node answers", lambda: client.speaker(address) == mac(elsewhere), 15)
    wait_for("it is served", lambda: client.curl(address).startswith("edge-"), 5)


def test_a_labelled_node_announces_nothing_and_where_all_are_labelled_the_service_says_so(
    served: Cluster, client: Client, web: list[str]
) -> None:
    """F022."""
    label = "node.kubernetes.io/exclude-from-external-load-balancers"
    address = web[0]
    first = holder(served, client, address)
    second = other(served, first)
    try:
        served.kubectl("label", "node", first.name, f"{label}=false")
        wait_for("the other node answers", lambda: client.speaker(address) == mac(second), 10)
        served.kubectl("label", "node", second.name, f"{label}=")
        wait_for("the Service says why", lambda: label in said(served, "AddressAnnounced"), 10)
        wait_for("nobody answers", lambda: not client.speaker(address, 0.5), 5)
    finally:
        served.kubectl("label", "node", first.name, second.name, f"{label}-")
    answers(client, address)


def test_another_address_answers_before_the_old_one_is_gone_and_the_old_one_is_silent_then(
    served: Cluster, client: Client, web: list[str]
) -> None:
    """F027."""
    old, new = web[0], "192.168.250.140"

    served.kubectl("annotate", "service", "edge", f"fabricmgr.io/addresses={new}")
    begun = time.monotonic()
    took = client.back(new, begun)
    wait_for("the old one is given back", lambda: not any(old in str(each) for each in served.manager.allocations(pool=POOL)), 5)

    print(f"{new} answered {took:.2f} s after it was asked for")
    assert took < LIMIT
    assert ingress(served)[0] == new
    assert client.curl(old) == ""
    wait_for("nobody answers for the old one", lambda: not client.speaker(old, 0.5), 2)
