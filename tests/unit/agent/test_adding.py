"""What an ADD comes to before anything is done."""

from ipaddress import ip_address
from typing import Any

import pytest
from msgspec import structs

from fabricmgr.agent import adding
from fabricmgr.agent.networks import NetworkPlan
from fabricmgr.agent.request import CniRequest, Command, Namespace
from fabricmgr.agent.stdin import NetworkConfig
from fabricmgr.domain.errors import AddressOutside, CniConfiguration
from fabricmgr.domain.names import NetworkName
from fabricmgr.domain.owner import Pod
from fabricmgr.wire import Decide, NetworkSpec
from tests.support.agent_records import NOW, address, place

SPEC = NetworkSpec(name="podnet", pools=["pods"], families=[4], prefixes=["10.1.0.0/16"], mtu=1450)
OTHER = NetworkSpec(name="other", pools=["more"], families=[4, 6], prefixes=["10.2.0.0/16", "2001:db8:2::/64"])
PLAN = NetworkPlan(name="podnet", sources=(), mtu=1450)


def request(**config: Any) -> CniRequest:
    made = NetworkConfig(NetworkName("podnet"), "1.1.0", "fabricmgr-cni", **config)
    return CniRequest(Command.ADD, made, container="c1", ifname="eth0", netns="/run/netns/x")


def test_the_first_interface_has_the_default_route() -> None:
    assert adding.routing(request(), SPEC, [], [SPEC, OTHER]) == (True, [])


def test_without_it_the_first_interface_leads_to_the_pools_of_the_cluster() -> None:
    found = adding.routing(request(default_gateway=False), SPEC, [], [SPEC, OTHER])

    assert found == (False, ["10.1.0.0/16", "10.2.0.0/16", "2001:db8:2::/64"])


@pytest.mark.parametrize("wanted", [None, False])
def test_a_second_interface_leads_to_its_own_network_alone(wanted: bool | None) -> None:
    """F009: routes to the cluster's pools on two interfaces contradict each other."""
    first = place("c1", address(5, 1), network="other", ifname="net0")

    assert adding.routing(request(default_gateway=wanted), SPEC, [first], [SPEC, OTHER]) == (False, ["10.1.0.0/16"])


def test_two_that_insist_on_the_default_route_are_both_named() -> None:
    """F009: code 7 naming both."""
    first = place("c1", address(5, 1), network="other", ifname="net0")

    with pytest.raises(CniConfiguration) as refused:
        adding.routing(request(default_gateway=True), SPEC, [first], [SPEC, OTHER])

    assert "network podnet" in refused.value.reason
    assert "network other" in refused.value.reason


def test_a_second_interface_may_have_the_default_route_that_the_first_left() -> None:
    first = structs.replace(place("c1", address(5, 1), network="other", ifname="net0"), default_route=False)

    assert adding.routing(request(default_gateway=True), SPEC, [first], [SPEC, OTHER]) == (True, [])


@pytest.mark.parametrize("asked", ["10.2.0.1", "2001:db8::1"])
def test_an_address_outside_the_networks_pools_is_refused_without_asking_anybody(asked: str) -> None:
    with pytest.raises(AddressOutside):
        adding.check_asked([ip_address(asked)], SPEC)

    adding.check_asked([ip_address("10.1.2.3")], SPEC)


@pytest.mark.parametrize(
    ("decide", "pod", "expected"),
    [
        (Decide.AGENT, Pod("fixed", "a", "1"), False),
        (Decide.MANAGER, None, True),
        (Decide.NAMESPACES, Pod("fixed", "a", "1"), True),
        (Decide.NAMESPACES, Pod("other", "a", "1"), False),
        (Decide.NAMESPACES, None, False),
    ],
)
def test_who_decides_an_address(decide: Decide, pod: Pod | None, expected: bool) -> None:
    spec = structs.replace(SPEC, decide=decide, namespaces=["fixed"])

    assert adding.manager_decides(spec, pod) is expected


def test_more_mtu_than_the_network_carries_is_refused_with_both_numbers() -> None:
    assert adding.mtu_of(request(), SPEC) == 1450
    assert adding.mtu_of(request(mtu=1300), SPEC) == 1300

    with pytest.raises(CniConfiguration, match="9000") as refused:
        adding.mtu_of(request(mtu=9000), SPEC)

    assert "1450" in refused.value.reason


def test_a_bridge_of_another_name_is_refused_while_pods_are_on_the_networks_own() -> None:
    assert adding.bridge_of(request(bridge="br0"), PLAN, lambda: False) == "br0"
    assert adding.bridge_of(request(bridge="fm-podnet"), PLAN, lambda: True) == "fm-podnet"

    with pytest.raises(CniConfiguration):
        adding.bridge_of(request(bridge="br0"), PLAN, lambda: True)


def test_what_the_runtime_says_of_a_pod_goes_into_the_record() -> None:
    made = adding.place_of(request(masquerade=True, hairpin=True), Namespace(3, 4, 5), SPEC, NOW, True, [])

    assert (made.namespace, made.sandbox, made.mtu, made.masquerade, made.hairpin) == ((4, 5), "/run/netns/x", 1450, True, True)
    assert made.owned.host_interface.startswith("fm")
    assert made.owned.addresses == []
