"""Pods of other makers than Deployments, pods that ended, and pods on their node's network, on a real cluster."""

import time

from tests.support.kube import objects
from tests.support.kube.cluster import Cluster, Json, addresses
from tests.support.node_agent import wait_for


def daemon_set(name: str) -> Json:
    made = objects.deployment(name, 1)
    template = made["spec"]["template"]
    del template["spec"]["topologySpreadConstraints"]
    return made | {"kind": "DaemonSet", "spec": {"selector": made["spec"]["selector"], "template": template}}


def told(cluster: Cluster, **about: str) -> list[str]:
    position, found = 0, []
    while items := cluster.manager.ask("GET", f"/v1/events?after={position}&limit=1000")["items"]:
        position = items[-1]["position"]
        found += [each["what"] for each in items if about.items() <= each["about"].items()]
    return found


def phase(cluster: Cluster, pod: str) -> str:
    return str(cluster.get("pod", pod)["status"].get("phase", ""))


def test_a_daemon_set_a_pod_that_ended_and_one_on_its_nodes_network_raise_no_alarm(cluster: Cluster) -> None:
    """F047: what ended keeps its address in the status, and a pod on its node's network shows the node's."""
    cluster.manager.ask("PATCH", "/v1/clusters/default", {"kubeconfig": cluster.kubeconfig.read_text()})
    ended = objects.pod("ended", spec={"activeDeadlineSeconds": 4, "restartPolicy": "Never"})
    outside = objects.pod("outside", spec={"hostNetwork": True, "containers": objects.pod_spec()["containers"]})
    cluster.apply(daemon_set("everywhere"), ended, outside)
    try:
        wait_for("it was over", lambda: phase(cluster, "ended") == "Failed", 60)
        cluster.kubectl("rollout", "status", "daemonset/everywhere", "--timeout=60s")
        cluster.kubectl("wait", "--for=condition=Ready", "pod/outside", "--timeout=60s")
        wait_for("its address is given back", lambda: not cluster.manager.allocations(pod="ended"), 20)
        wait_for("it is complete", lambda: "WorkloadComplete" in told(cluster, name="everywhere", kind="DaemonSet"), 20)
        time.sleep(20)  # what differs for longer than a report takes would have been told by now
        everywhere, (over, host) = cluster.pods("everywhere"), (cluster.get("pod", each) for each in ("ended", "outside"))
        peers = cluster.manager.ask("GET", "/v1/workloads/default/default/everywhere/peers?kind=DaemonSet")["items"]
        alarms = [name for each in ("ended", "outside") for name in told(cluster, name=each) if name == "PodAddressMismatch"]
        held = {address["address"] for each in cluster.manager.allocations() for address in each["addresses"]}
    finally:
        cluster.delete("daemonset", "everywhere")
        cluster.delete("pod", "ended", "outside")

    assert {pod["spec"]["nodeName"] for pod in everywhere} == {"node1", "node2"}
    assert {address for each in peers for address in each["addresses"]} == {each for pod in everywhere for each in addresses(pod)}
    assert {each for pod in everywhere for each in addresses(pod)} <= held
    assert addresses(over) or over["status"]["phase"] == "Failed"
    assert set(addresses(host)) <= set(cluster.node(host["spec"]["nodeName"]).addresses)
    assert not set(addresses(host)) & held
    assert alarms == []
