"""A node's networks in real namespaces: what pods reach, what is mended, what other things on the host do to them."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from fabricmgr.agent import networks
from fabricmgr.agent.links import Kernel
from fabricmgr.agent.networks import NetworkPlan, RemoteRoute
from fabricmgr.domain.errors import KernelRefused
from tests.support.attaching import BLOCKS, NODE, SOURCES, add, check, ensure, remove, subjects_of
from tests.support.namespaces import MakeNamespace, make_ns, node_ns, pod_ns, run_in, wire
from tests.support.netns import Namespace

__all__ = ["make_ns", "node_ns", "pod_ns"]

MakePod = Callable[[], Namespace]


@pytest.mark.parametrize("filtered", ["0", "1"])
def test_pods_of_two_blocks_reach_each_other_and_the_node_in_both_families(node_ns: Namespace, pod_ns: MakePod, filtered: str) -> None:
    ensure(node_ns, NODE)
    node_ns.run("sysctl", "-q", "-w", f"net.bridge.bridge-nf-call-iptables={filtered}", f"net.bridge.bridge-nf-call-ip6tables={filtered}")
    first, second, other = pod_ns(), pod_ns(), pod_ns()

    add(node_ns, first, "10.10.0.2 2001:db8:10::2")
    add(node_ns, second, "10.10.0.3 2001:db8:10::3")
    add(node_ns, other, "10.10.0.70 2001:db8:10::46")

    for target in ("10.10.0.3", "10.10.0.70", "2001:db8:10::3", "2001:db8:10::46", "169.254.1.1"):
        assert first.ping(target), target
    for target in ("10.10.0.2", "2001:db8:10::2"):
        assert node_ns.ping(target), target
        assert other.ping(target), target


def test_a_second_reconcile_changes_nothing(node_ns: Namespace, pod_ns: MakePod) -> None:
    plan = replace(NODE, masquerade=True, direct=(ip_network("192.0.2.0/24"),), local=(ip_address("10.10.9.9"),))
    add_first = ensure(node_ns, plan)
    add(node_ns, pod_ns(), "10.10.0.2 2001:db8:10::2", spoof_check=True)

    again = ensure(node_ns, plan)

    assert add_first.mended
    assert again.mended == ()


@pytest.mark.parametrize(
    "harm",
    [
        "ip link del fm-podnet",
        "ip link set fm-podnet down",
        "ip link set fm-podnet address 02:00:00:00:00:99",
        "ip link set fm-podnet mtu 1300",
        "ip address del 169.254.1.1/32 dev fm-podnet",
        "ip -6 address del fe80::1/64 dev fm-podnet",
        "ip route del 10.10.0.0/26",
        "ip -6 route del 2001:db8:10::/122",
        "nft delete table inet fabricmgr-podnet",
        "nft flush chain inet fabricmgr-podnet outbound",
        "nft add rule inet fabricmgr-podnet outbound accept",
        "nft delete element inet fabricmgr-podnet sources4 { 10.10.0.0/16 }",
        "sysctl -q -w net.ipv4.ip_forward=0",
        "sysctl -q -w net.ipv6.conf.all.forwarding=0",
    ],
)
def test_what_is_removed_behind_us_is_mended_and_named(node_ns: Namespace, harm: str) -> None:
    plan = replace(NODE, masquerade=True)
    ensure(node_ns, plan)

    node_ns.run("sh", "-c", harm)
    mended = ensure(node_ns, plan).mended

    assert mended
    assert ensure(node_ns, plan).mended == ()


def test_routes_of_others_are_left_alone_and_ours_are_withdrawn_when_unwanted(node_ns: Namespace) -> None:
    ensure(node_ns, NODE)
    node_ns.run("ip", "route", "add", "10.99.0.0/24", "dev", "fm-podnet")

    ensure(node_ns, replace(NODE, blocks=BLOCKS[:1]))

    left = node_ns.run("ip", "route", "show").stdout
    assert "10.99.0.0/24" in left
    assert "10.10.0.0/26" in left
    assert "10.10.0.64/26" not in left


def test_a_removed_network_leaves_nothing_of_ours(node_ns: Namespace) -> None:
    plan = replace(NODE, masquerade=True)
    ensure(node_ns, plan)

    run_in(node_ns, lambda: networks.remove(Kernel(), plan))

    assert "fm-podnet" not in node_ns.run("ip", "link").stdout
    assert node_ns.run("nft", "list", "ruleset").stdout == ""
    assert node_ns.run("ip", "route", "show", "proto", "102").stdout == ""


def test_a_bridge_that_was_there_keeps_its_mac_and_outlives_the_network(node_ns: Namespace, pod_ns: MakePod) -> None:
    node_ns.run("ip", "link", "add", "br0", "type", "bridge")
    node_ns.run("ip", "link", "set", "br0", "mtu", "9000")
    before = mac_of(node_ns, "br0")
    plan = replace(NODE, bridge="br0")

    ensure(node_ns, plan)
    pod = pod_ns()
    attached = add(node_ns, pod, "10.10.0.2 2001:db8:10::2", bridge="br0")
    reached = pod.ping("169.254.1.1")
    during = mac_of(node_ns, "br0")
    remove(node_ns, pod, attached.host_name)
    run_in(node_ns, lambda: networks.remove(Kernel(), plan))

    assert reached
    assert before == during == mac_of(node_ns, "br0")
    assert "mtu 9000" in node_ns.run("ip", "link", "show", "br0").stdout
    assert "169.254.1.1" not in node_ns.run("ip", "address", "show", "br0").stdout
    assert ensure(node_ns, plan).mended
    assert ensure(node_ns, plan).mended == ()


def test_a_link_of_the_bridges_name_that_is_none_is_refused(node_ns: Namespace) -> None:
    node_ns.run("ip", "link", "add", "br0", "type", "veth", "peer", "name", "br1")

    with pytest.raises(KernelRefused, match="no bridge"):
        ensure(node_ns, replace(NODE, bridge="br0"))


def mac_of(where: Namespace, name: str) -> str:
    return where.run("ip", "-br", "link", "show", name).stdout.split()[2]


def two_nodes(make_ns: MakeNamespace) -> tuple[Namespace, Namespace, NetworkPlan, NetworkPlan]:
    left, right = make_ns("node"), make_ns("node")
    wire(left, right, "192.0.2.1/24 2001:db8:2::1/64", "192.0.2.2/24 2001:db8:2::2/64")
    addresses = [(ip_address(f"192.0.2.{n}"), ip_address(f"2001:db8:2::{n}")) for n in (1, 2)]
    plans = []
    for own, other in ((0, 1), (1, 0)):
        mine, theirs = (BLOCKS[own], BLOCKS[own + 2]), (BLOCKS[other], BLOCKS[other + 2])
        remote = tuple(RemoteRoute(block, next(a for a in addresses[other] if a.version == block.version)) for block in theirs)
        plans.append(NetworkPlan("podnet", SOURCES, mtu=1450, blocks=mine, remote=remote, node_addresses=addresses[own]))
    ensure(left, plans[0])
    ensure(right, plans[1])
    return left, right, plans[0], plans[1]


@pytest.mark.parametrize("filtered", ["0", "1"])
def test_pods_of_two_nodes_reach_each_other_by_host_gw(make_ns: MakeNamespace, filtered: str) -> None:
    left, right, _, _ = two_nodes(make_ns)
    for node in (left, right):
        node.run("sysctl", "-q", "-w", f"net.bridge.bridge-nf-call-iptables={filtered}", f"net.bridge.bridge-nf-call-ip6tables={filtered}")
    here, there = make_ns("pod"), make_ns("pod")

    add(left, here, "10.10.0.2 2001:db8:10::2")
    add(right, there, "10.10.0.70 2001:db8:10::46")

    assert here.ping("10.10.0.70")
    assert here.ping("2001:db8:10::46")
    assert right.ping("10.10.0.2")
    assert left.ping("2001:db8:10::46")


def test_a_central_address_is_reached_on_whatever_node_it_lives(make_ns: MakeNamespace) -> None:
    left, right, left_plan, right_plan = two_nodes(make_ns)
    sticky = ip_address("10.10.0.9")
    ensure(left, replace(left_plan, remote=(*left_plan.remote, RemoteRoute(ip_network("10.10.0.9/32"), ip_address("192.0.2.2")))))
    ensure(right, replace(right_plan, local=(sticky,)))
    here, there = make_ns("pod"), make_ns("pod")

    add(left, here, "10.10.0.2")
    add(right, there, str(sticky))

    assert here.ping(str(sticky))
    assert there.ping("10.10.0.2")


def test_a_next_hop_on_no_segment_of_ours_is_named_and_the_rest_is_laid(node_ns: Namespace) -> None:
    far = RemoteRoute(ip_network("10.10.1.0/26"), ip_address("203.0.113.7"))

    ensured = ensure(node_ns, replace(NODE, remote=(far,)))

    assert [(hop.prefix, hop.via) for hop in ensured.not_adjacent] == [(far.prefix, far.via)]
    assert "10.10.0.0/26" in node_ns.run("ip", "route").stdout


def test_routing_none_leaves_other_nodes_blocks_to_the_underlay(make_ns: MakeNamespace) -> None:
    left, _, plan, _ = two_nodes(make_ns)

    ensure(left, replace(plan, host_gw=False))

    assert "10.10.0.64/26" not in left.run("ip", "route").stdout


def test_masquerade_hides_pods_from_outside_and_from_nobody_else(make_ns: MakeNamespace) -> None:
    node, outside = make_ns("node"), make_ns("out")
    wire(node, outside, "192.0.2.1/24 2001:db8:2::1/64", "192.0.2.9/24 2001:db8:2::9/64")
    ensure(node, replace(NODE, masquerade=True))
    pod, neighbour = make_ns("pod"), make_ns("pod")
    add(node, pod, "10.10.0.2 2001:db8:10::2")
    add(node, neighbour, "10.10.0.70 2001:db8:10::46")

    reached = [pod.ping(address) for address in ("192.0.2.9", "2001:db8:2::9", "10.10.0.70", "2001:db8:10::46")]

    assert reached == [True] * 4
    flows = node.run("conntrack", "-L", "-p", "icmp").stdout
    assert "src=10.10.0.2 dst=192.0.2.9 type=8" in flows
    assert "src=192.0.2.9 dst=192.0.2.1 type=0" in flows
    assert "src=10.10.0.70 dst=10.10.0.2 type=0" in flows


def test_what_is_direct_is_not_masqueraded(make_ns: MakeNamespace) -> None:
    node, outside = make_ns("node"), make_ns("out")
    wire(node, outside, "192.0.2.1/24", "192.0.2.9/24")
    ensure(node, replace(NODE, masquerade=True, direct=(ip_network("192.0.2.0/24"),)))
    outside.run("ip", "route", "add", "10.10.0.0/16", "via", "192.0.2.1")
    pod = make_ns("pod")
    add(node, pod, "10.10.0.2")

    assert pod.ping("192.0.2.9")
    assert "src=192.0.2.9 dst=10.10.0.2 type=0" in node.run("conntrack", "-L", "-p", "icmp").stdout


def test_no_redirect_leaves_by_the_bridge(node_ns: Namespace, pod_ns: MakePod) -> None:
    """The control: with our two rules taken out, the pod hears redirects from the node."""
    ensure(node_ns, NODE)
    pod, other = pod_ns(), pod_ns()
    add(node_ns, pod, "10.10.0.2 2001:db8:10::2")
    add(node_ns, other, "10.10.0.70 2001:db8:10::46")

    for target in ("10.10.0.70", "2001:db8:10::46"):
        assert pod.ping(target, count=3)
    quiet = redirects(pod)
    node_ns.run("nft", "flush", "chain", "inet", "fabricmgr-podnet", "redirects")
    for target in ("10.10.0.70", "2001:db8:10::46"):
        assert pod.ping(target, count=3)

    assert quiet == 0
    assert redirects(pod) > 0


def redirects(pod: Namespace) -> int:
    """ICMP and ICMPv6 redirects received, by the kernel's own counters."""
    shown = pod.run("nstat", "-asz", "IcmpInRedirects", "Icmp6InRedirects").stdout
    return sum(int(float(line.split()[1])) for line in shown.splitlines() if "Redirects" in line)


def test_a_raised_mtu_holds_for_new_pods_and_old_ones_get_an_answer(node_ns: Namespace, pod_ns: MakePod) -> None:
    """F008"""
    ensure(node_ns, NODE)
    old, new, other = pod_ns(), pod_ns(), pod_ns()
    add(node_ns, old, "10.10.0.2 2001:db8:10::2")

    ensure(node_ns, replace(NODE, mtu=9000))
    attached = add(node_ns, new, "10.10.0.3 2001:db8:10::3", mtu=9000)
    add(node_ns, other, "10.10.0.4 2001:db8:10::4", mtu=9000)

    assert attached.mtu == 9000
    assert "mtu 9000" in new.run("ip", "link", "show", "eth0").stdout
    assert new.run("ping", "-n", "-c1", "-W2", "-M", "do", "-s", "8972", "10.10.0.4", check=False).returncode == 0
    too_long = new.run("ping", "-n", "-c1", "-W2", "-M", "do", "-s", "8972", "10.10.0.2", check=False)
    assert "mtu = 1450" in too_long.stdout + too_long.stderr or "mtu=1450" in too_long.stdout + too_long.stderr
    too_long = new.run("ping", "-n", "-c1", "-W2", "-M", "do", "-s", "8952", "2001:db8:10::2", check=False)
    assert "mtu=1450" in too_long.stdout + too_long.stderr or "mtu: 1450" in too_long.stdout + too_long.stderr
    assert check(node_ns, old, "10.10.0.2 2001:db8:10::2") is None
    assert ensure(node_ns, replace(NODE, mtu=9000)).mended == ()


def test_an_uplink_that_carries_less_than_the_network_is_named_with_both_numbers(make_ns: MakeNamespace) -> None:
    """F008"""
    left, _, plan, _ = two_nodes(make_ns)
    wide = replace(plan, mtu=9000)
    ensure(left, wide)

    found = subjects_of(left, wide)

    assert "9000" in found["narrow-uplink"].sentence
    assert "1500" in found["narrow-uplink"].sentence


def test_a_route_for_an_old_pod_goes_with_the_pod(node_ns: Namespace, pod_ns: MakePod) -> None:
    ensure(node_ns, NODE)
    old = pod_ns()
    attached = add(node_ns, old, "10.10.0.2")
    ensure(node_ns, replace(NODE, mtu=9000))
    assert "10.10.0.2 " in node_ns.run("ip", "route").stdout

    remove(node_ns, old, attached.host_name)
    ensure(node_ns, replace(NODE, mtu=9000))

    assert "10.10.0.2 " not in node_ns.run("ip", "route").stdout


def test_a_node_with_router_advertisements_keeps_listening_when_it_forwards(node_ns: Namespace) -> None:
    node_ns.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")

    ensure(node_ns, NODE)

    assert node_ns.run("sysctl", "-n", "net.ipv6.conf.all.forwarding").stdout.strip() == "1"
    assert node_ns.run("sysctl", "-n", "net.ipv6.conf.up0.accept_ra").stdout.strip() == "2"
