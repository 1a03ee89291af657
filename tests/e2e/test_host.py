"""What the host around us does to pods, found and named in real namespaces."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from fabricmgr.agent import host
from fabricmgr.agent.host import Severity, earlier_files
from fabricmgr.agent.links import Kernel
from fabricmgr.agent.networks import RemoteRoute
from tests.support.attaching import NODE, add, ensure, subjects_of
from tests.support.namespaces import MakeNamespace, make_ns, node_ns, pod_ns, run_in, wire
from tests.support.netns import Namespace

__all__ = ["make_ns", "node_ns", "pod_ns"]

MakePod = Callable[[], Namespace]
PLAN = replace(NODE, masquerade=True)
DROPS = {
    "iptables": ("iptables -P FORWARD DROP", "FORWARD", "filter"),
    "nft": (
        "nft 'add table inet fence; add chain inet fence forward { type filter hook forward priority 10; policy drop; }'",
        "forward",
        "fence",
    ),
    "last rule": (
        (
            "nft 'add table inet fence; add chain inet fence forward { type filter hook forward priority 10; };"
            " add rule inet fence forward ct state invalid drop; add rule inet fence forward counter reject'"
        ),
        "forward",
        "fence",
    ),
}


def reached(pod: Namespace, *addresses: str) -> list[bool]:
    return [pod.run("ping", "-n", "-c1", "-W1", address, check=False).returncode == 0 for address in addresses]


@pytest.mark.parametrize("name", DROPS)
def test_a_forward_drop_is_named_and_an_accept_in_that_chain_lets_pods_through(make_ns: MakeNamespace, name: str) -> None:
    """F005"""
    command, chain, table = DROPS[name]
    node, outside = make_ns("node"), make_ns("out")
    wire(node, outside, "192.0.2.1/24", "192.0.2.9/24 198.51.100.1/32")
    node.run("ip", "route", "add", "198.51.100.1", "via", "192.0.2.9")
    ensure(node, PLAN)
    pod, other = make_ns("pod"), make_ns("pod")
    add(node, pod, "10.10.0.2")
    add(node, other, "10.10.0.70")
    assert reached(pod, "198.51.100.1", "10.10.0.70") == [True, True]
    assert "forward-drop" not in subjects_of(node, PLAN)

    node.run("sh", "-c", command)
    dropped = reached(pod, "198.51.100.1", "10.10.0.70")
    finding = subjects_of(node, PLAN)["forward-drop"]
    placed = run_in(node, lambda: host.accept_in_dropping_chains(Kernel(), [PLAN]))
    again = run_in(node, lambda: host.accept_in_dropping_chains(Kernel(), [PLAN]))

    assert dropped == [False, False]
    assert finding.severity is Severity.FAULT
    assert f"chain {chain} of table" in finding.sentence
    assert table in finding.sentence
    assert "policy drop" in finding.sentence or "drops all" in finding.sentence
    assert len(placed) == 1
    assert again == []
    assert reached(pod, "198.51.100.1", "10.10.0.70") == [True, True]
    assert "forward-drop" not in subjects_of(node, PLAN)

    taken = run_in(node, lambda: host.withdraw_accepts(Kernel()))

    assert len(taken) == 1
    assert reached(pod, "198.51.100.1") == [False]
    assert "fm-podnet" not in node.run("nft", "list", "table", *("ip filter" if name == "iptables" else "inet fence").split()).stdout


def test_iptables_still_reads_a_chain_with_our_accept(node_ns: Namespace) -> None:
    """F005"""
    ensure(node_ns, PLAN)
    node_ns.run("iptables", "-P", "FORWARD", "DROP")

    run_in(node_ns, lambda: host.accept_in_dropping_chains(Kernel(), [PLAN]))

    listed = node_ns.run("iptables", "-S", "FORWARD").stdout
    assert "-P FORWARD DROP" in listed
    assert "fm-podnet" in listed
    assert "-j ACCEPT" in listed


def test_an_operators_own_accept_is_enough(node_ns: Namespace) -> None:
    ensure(node_ns, PLAN)
    node_ns.run("iptables", "-P", "FORWARD", "DROP")

    node_ns.run("iptables", "-A", "FORWARD", "-i", "fm-podnet", "-j", "ACCEPT")
    half = subjects_of(node_ns, PLAN)
    node_ns.run("iptables", "-A", "FORWARD", "-o", "fm-podnet", "-j", "ACCEPT")
    whole = subjects_of(node_ns, PLAN)

    assert "forward-drop" in half
    assert "forward-drop" not in whole


@pytest.mark.parametrize(("program", "said"), [("iptables-legacy", "iptables-legacy"), ("ip6tables-legacy", "ip6tables-legacy")])
def test_a_drop_in_the_legacy_tables_is_found_too(node_ns: Namespace, program: str, said: str) -> None:
    """F005"""
    if shutil.which(program) is None or node_ns.run(program, "-S", check=False).returncode != 0:
        pytest.skip(f"no {program} here, or a kernel without the legacy tables")
    ensure(node_ns, PLAN)
    assert "forward-drop" not in subjects_of(node_ns, PLAN)

    node_ns.run(program, "-P", "FORWARD", "DROP")

    assert said in subjects_of(node_ns, PLAN)["forward-drop"].sentence


def test_a_drop_of_a_family_the_network_lacks_is_no_finding(node_ns: Namespace) -> None:
    plan = replace(PLAN, sources=(ip_network("10.10.0.0/16"),), blocks=(ip_network("10.10.0.0/26"),))
    ensure(node_ns, plan)

    node_ns.run("ip6tables", "-P", "FORWARD", "DROP")

    assert "forward-drop" not in subjects_of(node_ns, plan)


@pytest.mark.parametrize("filtered", ["0", "1"])
def test_filtered_bridges_are_named_only_where_something_drops(node_ns: Namespace, filtered: str) -> None:
    ensure(node_ns, PLAN)
    node_ns.run("sysctl", "-q", "-w", f"net.bridge.bridge-nf-call-iptables={filtered}", f"net.bridge.bridge-nf-call-ip6tables={filtered}")
    harmless = subjects_of(node_ns, PLAN)

    node_ns.run("iptables", "-P", "FORWARD", "DROP")

    assert "bridge-filter" not in harmless
    assert ("bridge-filter" in subjects_of(node_ns, PLAN)) == (filtered == "1")


def test_forwarding_that_was_switched_off_again_is_named_for_each_family(node_ns: Namespace) -> None:
    ensure(node_ns, PLAN)
    assert subjects_of(node_ns, PLAN) == {}

    node_ns.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    first = subjects_of(node_ns, PLAN)["forwarding-off"].sentence
    node_ns.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=0")

    assert "net.ipv4.ip_forward" in first
    assert "net.ipv6.conf.all.forwarding" in subjects_of(node_ns, PLAN)["forwarding-off"].sentence


def test_strict_reverse_path_matters_where_there_are_two_ways_in_and_routes_are_not_ours(make_ns: MakeNamespace) -> None:
    node, left, right = make_ns("node"), make_ns("out"), make_ns("out")
    wire(node, left, "192.0.2.1/24", "192.0.2.9/24")
    wire(node, right, "198.51.100.1/24", "198.51.100.9/24", name="wire1")
    plan = replace(PLAN, host_gw=False, node_addresses=(ip_address("192.0.2.1"), ip_address("198.51.100.1")))
    ensure(node, plan)
    node.run("sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.wire0.rp_filter=0", "net.ipv4.conf.wire1.rp_filter=0")
    loose = subjects_of(node, plan)

    node.run("sysctl", "-q", "-w", "net.ipv4.conf.wire1.rp_filter=1")

    assert "reverse-path" not in loose
    assert "wire1" in subjects_of(node, plan)["reverse-path"].sentence
    assert "reverse-path" not in subjects_of(node, replace(plan, host_gw=True))


def test_a_foreign_route_to_a_prefix_of_ours_is_left_alone_and_named(make_ns: MakeNamespace) -> None:
    node, other = make_ns("node"), make_ns("out")
    wire(node, other, "192.0.2.1/24 2001:db8:2::1/64", "192.0.2.9/24 2001:db8:2::9/64")
    node.run("ip", "route", "add", "10.10.0.0/26", "via", "192.0.2.9")
    node.run("ip", "-6", "route", "add", "2001:db8:10::/122", "via", "2001:db8:2::9")

    ensure(node, PLAN)

    assert "10.10.0.0/26 via 192.0.2.9" in node.run("ip", "route").stdout
    assert "2001:db8:10::/122 via 2001:db8:2::9" in node.run("ip", "-6", "route").stdout
    assert "10.10.0.64/26 dev fm-podnet" in node.run("ip", "route").stdout
    assert "foreign-route" in subjects_of(node, PLAN)
    node.run("ip", "route", "del", "10.10.0.0/26")
    node.run("ip", "-6", "route", "del", "2001:db8:10::/122")
    assert ensure(node, PLAN).mended
    assert "foreign-route" not in subjects_of(node, PLAN)


def test_a_far_next_hop_is_a_finding_with_both_ways_out(node_ns: Namespace) -> None:
    plan = replace(PLAN, remote=(host_route("10.10.1.0/26", "203.0.113.7"),))
    far = ensure(node_ns, plan).not_adjacent

    (finding,) = run_in(node_ns, lambda: host.findings(Kernel(), [plan], far))

    assert "203.0.113.7" in finding.sentence
    assert "routing to none" in finding.remedy
    assert "BGP" in finding.remedy


def host_route(prefix: str, via: str) -> RemoteRoute:
    return RemoteRoute(ip_network(prefix), ip_address(via))


def test_the_file_the_runtime_takes_before_ours_is_named(tmp_path: Path) -> None:
    """F007"""
    ours = "10-fabricmgr.conflist"
    (tmp_path / ours).write_text("{}")
    (tmp_path / "87-other.conflist").write_text("{}")
    (tmp_path / "05-notes.txt").write_text("")
    quiet = earlier_files(tmp_path, ours)

    (tmp_path / "05-other.conflist").write_text("{}")

    assert quiet == []
    (finding,) = earlier_files(tmp_path, ours)
    assert "05-other.conflist" in finding.sentence
    assert (tmp_path / "05-other.conflist").exists()


def test_a_missing_configuration_directory_is_a_finding(tmp_path: Path) -> None:
    (finding,) = earlier_files(tmp_path / "nowhere", "10-fabricmgr.conflist")

    assert "nowhere" in finding.sentence
