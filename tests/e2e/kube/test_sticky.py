"""A StatefulSet on a real cluster whose pods keep their addresses, on whichever node they come back."""

from collections.abc import Iterator

import pytest

from tests.support.kube import objects
from tests.support.kube.cluster import Cluster, Json, addresses
from tests.support.kube.options import NETWORK
from tests.support.kube.stage import follow
from tests.support.node_agent import wait_for

SPACE = "keeping"


@pytest.fixture
def space(cluster: Cluster) -> Iterator[Cluster]:
    """A namespace whose pods may say what they want of addresses."""
    follow(cluster)
    cluster.kubectl("create", "namespace", SPACE)
    cluster.kubectl("label", "namespace", SPACE, "fabricmgr.io/pod-pools=allowed")
    network = f"/v1/clusters/default/networks/{NETWORK}"
    wait_for("the network decides centrally there", lambda: SPACE in str(cluster.manager.ask("GET", network)), 20)
    yield cluster
    cluster.kubectl("delete", "namespace", SPACE, "--timeout=100s")
    wait_for("nothing is held", lambda: not cluster.manager.allocations(), 60)


def stateful_set(name: str, replicas: int) -> Json:
    labels = {"app": name}
    template = {"metadata": {"labels": labels, "annotations": {"fabricmgr.io/sticky": "true"}}, "spec": objects.pod_spec(str(objects.PORT))}
    spec = {"replicas": replicas, "serviceName": name, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "namespace": SPACE}, "spec": spec}


def running(cluster: Cluster, replicas: int) -> dict[str, Json]:
    """By name."""
    cluster.kubectl("rollout", "status", "statefulset/db", "-n", SPACE, "--timeout=120s")
    wait_for("there are as many", lambda: len(cluster.pods("db", SPACE)) == replicas, 60)
    return {pod["metadata"]["name"]: pod for pod in cluster.pods("db", SPACE)}


def kinds(cluster: Cluster, ordinal: int) -> list[str]:
    """Of what a place holds itself."""
    return [each["kind"] for each in cluster.manager.allocations() if f"StatefulSet {SPACE}/db ordinal {ordinal} " in each["owner"]]


def test_pods_of_a_statefulset_keep_their_addresses_over_deletion_another_node_and_a_cooldown(space: Cluster) -> None:
    space.apply(stateful_set("db", 2))
    before = running(space, 2)
    node = before["db-0"]["spec"]["nodeName"]

    space.kubectl("cordon", node)
    try:
        space.kubectl("delete", "pod", "db-0", "-n", SPACE)
        moved = running(space, 2)
    finally:
        space.kubectl("uncordon", node)
    space.kubectl("scale", "statefulset/db", "-n", SPACE, "--replicas=1")
    wait_for("db-1 is gone, and keeps nothing", lambda: len(space.pods("db", SPACE)) == 1 and not kinds(space, 1), 60)
    answered = space.curl(moved["db-0"], addresses(moved["db-0"])[0])

    assert moved["db-0"]["metadata"]["uid"] != before["db-0"]["metadata"]["uid"]
    assert moved["db-0"]["spec"]["nodeName"] != node
    assert addresses(moved["db-0"]) == addresses(before["db-0"])
    assert answered == "db-0"


def test_an_address_waits_for_its_pod_while_no_node_takes_it(space: Cluster) -> None:
    space.apply(stateful_set("db", 1))
    before = running(space, 1)["db-0"]
    names = [node.name for node in space.nodes]

    space.kubectl("cordon", *names)
    try:
        space.kubectl("delete", "pod", "db-0", "-n", SPACE)
        wait_for("the place holds it", lambda: kinds(space, 0) == ["statefulset"], 30)
    finally:
        space.kubectl("uncordon", *names)
    after = running(space, 1)["db-0"]

    assert addresses(after) == addresses(before)
    assert not kinds(space, 0)
