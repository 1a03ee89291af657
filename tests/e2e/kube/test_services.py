"""Services of type LoadBalancer on a real cluster: an external address that kube-proxy serves, kept, shared, waited for, given back."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from fabricmgr.kube.write import FINALIZER
from tests.support.kube import manifests, objects
from tests.support.kube.cluster import Cluster, Json
from tests.support.node_agent import wait_for

POOL, PREFIX = "front", "198.51.100.8/30"  # without its ends: two addresses
CLASS = "fabricmgr.io/lb"


@pytest.fixture(scope="module")
def served(cluster: Cluster) -> Iterator[Cluster]:
    """The manager follows the cluster with the rights of our roles, and has a pool for Services."""
    manifests.grant(cluster)
    cluster.manager.ask("POST", "/v1/pools", {"name": POOL, "purpose": "Service", "cooldown_seconds": 0, "prefixes": [{"prefix": PREFIX}]})
    yield cluster
    wait_for("nothing is held", lambda: not of_services(cluster), 20)
    cluster.manager.ask("DELETE", f"/v1/pools/{POOL}")


def of_services(cluster: Cluster) -> list[Json]:
    return [each for each in cluster.manager.allocations() if "Service" in str(each) or "198.51.100." in str(each)]


def balanced(name: str, *, port: int = 80, annotations: dict[str, str] | None = None, **more: Any) -> Json:
    made = objects.service(name, kind="LoadBalancer", port=port, **({"loadBalancerClass": CLASS} | more))
    made["metadata"]["annotations"] = {f"fabricmgr.io/{key}": value for key, value in (annotations or {}).items()}
    return made


def external(cluster: Cluster, name: str) -> str:
    found = cluster.get("service", name)["status"]["loadBalancer"].get("ingress", [])
    return str(found[0]["ip"]) if found else ""


def has_one(cluster: Cluster, name: str, seconds: float = 15) -> str:
    wait_for(f"{name} has an address", lambda: external(cluster, name), seconds)
    return external(cluster, name)


def said(cluster: Cluster, name: str) -> str:
    return "".join(each["message"] for each in cluster.get("service", name)["status"].get("conditions", []))


def test_a_service_gets_an_address_that_answers_from_outside_and_gives_it_back(served: Cluster) -> None:
    served.apply(objects.deployment("lb", 2), balanced("lb"))
    try:
        address = has_one(served, "lb")
        shown = served.get("service", "lb")
        (held,) = of_services(served)
        served.rolled_out("lb")
        served.hub.run("ip", "route", "replace", f"{address}/32", "via", served.node("node1").addresses[0])
        wait_for("it answers", lambda: served.curl(served.hub, address, 80).startswith("lb-"), 20)
    finally:
        served.hub.run("ip", "route", "flush", "198.51.100.0/24", check=False)
        served.delete("service", "lb")
        served.delete("deployment", "lb")

    assert shown["status"]["loadBalancer"]["ingress"] == [{"ip": address, "ipMode": "VIP"}]
    assert address in str(held)
    assert FINALIZER in shown["metadata"]["finalizers"]
    wait_for("nothing is held", lambda: not of_services(served), 10)


def test_addresses_are_asked_for_shared_and_waited_for(served: Cluster) -> None:
    names = ("asked", "beside", "second", "third", "others")
    served.apply(balanced("asked", annotations={"addresses": "198.51.100.10", "sharing-key": "edge"}))
    try:
        asked = has_one(served, "asked")
        served.apply(balanced("beside", port=81, annotations={"sharing-key": "edge"}), balanced("second"))
        beside, second = has_one(served, "beside"), has_one(served, "second")
        served.apply(balanced("third"), balanced("others", loadBalancerClass="someone.else/lb"))
        wait_for("the third says why it waits", lambda: "no free IPv4 address" in said(served, "third"), 15)
        waiting = external(served, "third")
        served.manager.ask("POST", f"/v1/pools/{POOL}/prefixes", {"prefix": "198.51.100.16/30"})
        third = has_one(served, "third", 8)
        other = served.get("service", "others")
    finally:
        served.kubectl("delete", "service", *names, "--ignore-not-found")

    assert asked == beside == "198.51.100.10"
    assert (second, waiting, third) == ("198.51.100.9", "", "198.51.100.17")
    assert other["status"] == {"loadBalancer": {}}
    assert "finalizers" not in other["metadata"]


def test_a_service_that_becomes_of_another_type_keeps_nothing_of_ours(served: Cluster) -> None:
    served.apply(balanced("turned"))
    try:
        has_one(served, "turned")
        served.kubectl("patch", "service", "turned", "--type=json", "-p", TURN)
        wait_for("our finalizer is gone", lambda: "finalizers" not in served.get("service", "turned")["metadata"], 15)
        after = served.get("service", "turned")
    finally:
        served.delete("service", "turned")

    assert after["status"] == {"loadBalancer": {}}
    assert not of_services(served)


def test_a_namespace_goes_with_its_service_and_a_waiting_one_is_not_written_again_and_again(served: Cluster) -> None:
    """F026, F049: nothing is written where nothing changed, and what cannot be written any more holds up no finalizer."""
    served.kubectl("create", "namespace", "leaving")
    made = [balanced(name) | {"metadata": {"name": name, "namespace": "leaving"}} for name in ("one", "two", "three", "four", "five")]
    try:
        served.apply(*made)
        wait_for("one waits", lambda: [each for each in shown_in(served, "leaving") if waits(each)], 20)
        before = next(each for each in shown_in(served, "leaving") if waits(each))
        time.sleep(8)  # two more tries
        after = served.get("service", before["metadata"]["name"], "-n", "leaving")
    finally:
        served.kubectl("delete", "namespace", "leaving", "--timeout=60s")

    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert not of_services(served)


def shown_in(cluster: Cluster, namespace: str) -> list[Json]:
    return cluster.items("services", "-n", namespace)


def waits(service: Json) -> bool:
    return any(each["reason"] == "Pending" for each in service["status"].get("conditions", []))


TURN = '[{"op":"replace","path":"/spec/type","value":"ClusterIP"},{"op":"remove","path":"/spec/loadBalancerClass"}]'
