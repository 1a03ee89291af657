"""fabricmgr beside what others bring into a cluster: plugins chained behind ours, kube-proxy in its modes, Multus."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from fabricmgr.agent.plugin import PLUGIN
from tests.support.kube import objects
from tests.support.kube.cluster import Cluster, Json, addresses, until
from tests.support.kube.options import NETWORK
from tests.support.node_agent import wait_for

OURS: Json = {"type": PLUGIN, "capabilities": {"ips": True, "mac": True}, "hairpinMode": True}


@contextmanager
def listed(cluster: Cluster, name: str, plugins: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """A network list of the administrator's before the agent's."""
    paths = [node.listed(name, plugins) for node in cluster.nodes]
    try:
        yield
    finally:
        for path in paths:
            path.unlink()


@contextmanager
def running(cluster: Cluster, *pods: Json) -> Iterator[list[Json]]:
    """Pods that are ready; afterwards they are gone."""
    names = [pod["metadata"]["name"] for pod in pods]
    cluster.apply(*pods)
    try:
        cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in names))
        yield [cluster.get("pod", name) for name in names]
    finally:
        for name in names:
            cluster.delete("pod", name)


# --- chained behind ours ---


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_a_host_port_leads_to_its_pod_by_portmap_behind_ours(cluster: Cluster, backend: str) -> None:
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True, "backend": backend}
    port = {"containerPort": objects.PORT, "hostPort": 18080}

    with listed(cluster, "00-portmap.conflist", [OURS, portmap]), running(cluster, objects.pod("mapped", ports=[port])) as [pod]:
        node = cluster.node_of(pod)

        assert {address: cluster.curl(cluster.hub, address, 18080) for address in node.addresses} == dict.fromkeys(node.addresses, "mapped")
    assert cluster.curl(cluster.hub, node.addresses[0], 18080) == ""


def test_bandwidth_behind_ours_limits_the_pod_as_its_annotations_say(cluster: Cluster) -> None:
    limits = {"kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "16M"}
    shaping = {"type": "bandwidth", "capabilities": {"bandwidth": True}}

    with listed(cluster, "00-bandwidth.conflist", [OURS, shaping]), running(cluster, objects.pod("slow", annotations=limits)) as [pod]:
        shown = cluster.node_of(pod).run("tc", "-j", "qdisc", "show").stdout
        rates = {each["options"]["rate"] for each in json.loads(shown) if each["kind"] == "tbf"}

        assert rates == {8_000_000 // 8, 16_000_000 // 8}


def test_tuning_behind_ours_sets_what_it_is_told_in_the_pod(cluster: Cluster) -> None:
    tuning = {"type": "tuning", "sysctl": {"net.core.somaxconn": "517"}}

    with listed(cluster, "00-tuning.conflist", [OURS, tuning]), running(cluster, objects.pod("tuned")) as [pod]:
        assert cluster.in_pod(pod, "cat", "/proc/sys/net/core/somaxconn").stdout.strip() == "517"
        assert cluster.curl(cluster.nodes[0].ns, addresses(pod)[0]) == "tuned"


# --- kube-proxy ---


@contextmanager
def proxied(cluster: Cluster, mode: str) -> Iterator[None]:
    """kube-proxy in a mode on every node."""
    kubeconfig = cluster.control.kubeconfig("proxy")
    if mode == cluster.options.proxy:
        yield
        return
    try:
        for node in cluster.nodes:
            node.start_proxy(kubeconfig, mode)
        yield
    finally:
        for node in cluster.nodes:
            node.start_proxy(kubeconfig)


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_services_lead_to_pods_on_both_nodes_from_within_and_from_outside(cluster: Cluster, mode: str) -> None:
    """Also back to the very pod that asks."""
    with proxied(cluster, mode):
        cluster.apply(objects.deployment("served", 2), objects.service("served", kind="NodePort", families=(4, 6)))
        try:
            pods = cluster.rolled_out("served")
            spec = cluster.get("service", "served")["spec"]
            outside = [(cluster.hub, address, spec["ports"][0]["nodePort"]) for node in cluster.nodes for address in node.addresses]
            within = [(pod, address, 80) for pod in pods for address in spec["clusterIPs"]]
            everybody = {pod["metadata"]["name"] for pod in pods}

            for where, address, port in [*within, *outside]:
                assert answers(cluster, where, address, port, everybody), f"{address} port {port}"
        finally:
            cluster.delete("deployment/served", "service/served")
            wait_for("the pods are gone", lambda: not cluster.pods("served"), 60)


def answers(cluster: Cluster, where: Any, address: str, port: int, wanted: set[str]) -> bool:
    """Whether every pod of a Service answers, one time or another, and nobody else."""
    found: set[str] = set()

    def everybody() -> bool:
        found.add(cluster.curl(where, address, port))
        return wanted <= found

    return until(everybody, 20) and found - {""} == wanted


# --- Multus ---

NAD = "network-attachment-definitions.k8s.cni.cncf.io"


@pytest.fixture
def multus(cluster: Cluster) -> Iterator[None]:
    """Multus as the runtime's plugin on every node; it calls ours by the list that the agent wrote."""
    cluster.apply(definition())
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{NAD}")
    agents = f"/etc/cni/net.d/05-fabricmgr-{NETWORK}.conflist"
    plugin = {"type": "multus", "kubeconfig": str(cluster.kubeconfig), "clusterNetwork": agents, "readinessindicatorfile": agents}
    paths = [node.listed("00-multus.conflist", [plugin], "multus") for node in cluster.nodes]
    try:
        yield
    finally:
        for path in paths:
            path.unlink()
        cluster.delete(f"crd/{NAD}")


def definition() -> Json:
    """The kind of which Multus reads second networks."""
    names = {"plural": "network-attachment-definitions", "singular": "network-attachment-definition", "kind": "NetworkAttachmentDefinition"}
    spec = {"type": "object", "properties": {"config": {"type": "string"}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAD},
        "spec": {"group": "k8s.cni.cncf.io", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def second_network(name: str) -> Json:
    """Names one of ours."""
    config = {"cniVersion": "1.0.0", "name": name, "type": PLUGIN}
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name},
        "spec": {"config": json.dumps(config)},
    }


def pinned(name: str, node: str, network: str) -> Json:
    """A pod on a node, with a second interface."""
    return objects.pod(name, annotations={"k8s.v1.cni.cncf.io/networks": network}, spec={"nodeName": node})


@pytest.mark.usefixtures("multus")
def test_multus_gives_a_pod_a_second_interface_from_another_network_of_ours(cluster: Cluster) -> None:
    prefixes = ("10.88.0.0/20", "2001:db8:88::/116")
    with cluster.manager.network_for_a_while("second", *prefixes):
        cluster.apply(second_network("second"))
        for node in cluster.nodes:
            node.ready("second")

        with running(cluster, pinned("left", "node1", "second"), pinned("right", "node2", "second")) as [left, right]:
            for node in cluster.nodes:
                node.settled()
            held = [each for each in cluster.manager.allocations() if each["network"] == "second"]
            there = {each["pod"]: [its["address"] for its in each["addresses"]] for each in held}

            assert {(each["pod"], each["node"], each["ifname"]) for each in held} == {("left", "node1", "net1"), ("right", "node2", "net1")}
            assert all(any(ip_address(each) in ip_network(prefix) for prefix in prefixes) for every in there.values() for each in every)
            assert not set(there["left"]) & set(addresses(left))
            assert interfaces(cluster, left) == {"lo", "eth0", "net1"}
            assert all(cluster.ping(left, address) for address in [*there["right"], *addresses(right)])
        wait_for("nothing is held", lambda: not cluster.manager.allocations(), 60)


def interfaces(cluster: Cluster, pod: Json) -> set[str]:
    return {each["ifname"] for each in json.loads(cluster.in_pod(pod, "ip", "-j", "link").stdout)}
