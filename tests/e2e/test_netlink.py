"""Sockets, tables and flows against the real kernel, in a namespace of the test's own."""

import json
from collections.abc import Callable
from errno import EEXIST, ENODEV, ENOENT
from ipaddress import IPv4Network, ip_address, ip_network

import pytest

from fabricmgr.domain.errors import KernelRefused
from fabricmgr.netlink import conntrack, nft, sysctl
from fabricmgr.netlink.codec import Flag, message, nest, text
from fabricmgr.netlink.links import (
    INFO_KIND,
    LINKINFO,
    NAME,
    NEWLINK,
    SETLINK,
    all_links,
    create_bridge,
    delete_link,
    link_body,
    link_named,
)
from fabricmgr.netlink.nft_rules import Guarded, guard_table, network_table
from fabricmgr.netlink.sockets import NETFILTER, NetlinkSocket
from tests.support.attaching import NODE, add, ensure
from tests.support.namespaces import MakeNamespace, make_ns, node_ns, run_in, wire
from tests.support.netns import Namespace

__all__ = ["make_ns", "node_ns"]

SOURCES = (ip_network("10.10.0.0/16"), ip_network("2001:db8:10::/64"))


def bridge(name: str) -> bytearray:
    return message(NEWLINK, Flag.CREATE | Flag.EXCL, link_body(0, None, text(NAME, name), nest(LINKINFO, text(INFO_KIND, "bridge"))))


def rename(name: str) -> bytearray:
    return message(SETLINK, 0, link_body(9999, None, text(NAME, name)))


def test_the_first_failure_is_told_although_the_kernel_went_on(node_ns: Namespace) -> None:
    def body() -> tuple[str, int, str, bool, bool]:
        with NetlinkSocket() as sock:
            with pytest.raises(KernelRefused) as refused:
                sock.exchange([bridge("one"), bridge("one"), rename("x"), bridge("two")], ["first", "second", "third", "fourth"])
            error = refused.value
            return error.step, error.errno, error.reason, link_named(sock, "one") is not None, link_named(sock, "two") is not None

    step, errno, reason, first, last = run_in(node_ns, body)

    assert (step, errno) == ("second", EEXIST)
    assert "exists" in reason
    assert first
    assert last


def test_an_answer_never_belongs_to_an_earlier_question(node_ns: Namespace) -> None:
    def body() -> list[str]:
        seen = []
        with NetlinkSocket() as sock:
            for number in range(5):
                with pytest.raises(KernelRefused):
                    sock.exchange([rename("x"), rename("y"), bridge(f"b{number}"), rename("z")], list("abcd"))
                found = link_named(sock, f"b{number}")
                seen.append(found.name if found else "")
        return seen

    assert run_in(node_ns, body) == [f"b{number}" for number in range(5)]


def test_an_error_that_counts_as_success_is_passed_over(node_ns: Namespace) -> None:
    def body() -> bool:
        with NetlinkSocket() as sock:
            sock.exchange([rename("x"), bridge("one")], ["a", "b"], ignore=frozenset((ENODEV,)))
            create_bridge(sock, "two", "0a:59:00:00:00:01", 1500, "ours")
            return delete_link(sock, "two") and not delete_link(sock, "two")

    assert run_in(node_ns, body)


def test_hundreds_of_links_are_listed_once_each(node_ns: Namespace) -> None:
    def body() -> list[str]:
        with NetlinkSocket() as sock:
            for number in range(80):
                sock.exchange([bridge(f"b{number}")], ["make"])
            return sorted(link.name for link in all_links(sock) if link.kind == "bridge")

    assert run_in(node_ns, body) == sorted(f"b{number}" for number in range(80))


def test_an_unknown_name_is_no_link(node_ns: Namespace) -> None:
    def body() -> bool:
        with NetlinkSocket() as sock:
            return link_named(sock, "nowhere") is None

    assert run_in(node_ns, body)


# --- nftables ---------------------------------------------------------------------------------------------------------------


def written(where: Namespace, table: nft.Table) -> str:
    """Write it, and say what is different afterwards."""

    def body() -> str:
        with NetlinkSocket(NETFILTER) as sock:
            nft.write(sock, table)
            return nft.difference(sock, table)

    return run_in(where, body)


@pytest.mark.parametrize("masquerade", [True, False])
def test_a_written_table_reads_back_as_it_was_meant(node_ns: Namespace, masquerade: bool) -> None:
    table = network_table("podnet", "fm-podnet", SOURCES, (ip_network("192.0.2.0/24"),), masquerade)

    assert written(node_ns, table) == ""
    assert written(node_ns, table) == ""


def test_nft_shows_our_tables_as_a_person_would_have_written_them(node_ns: Namespace) -> None:
    written(node_ns, network_table("podnet", "fm-podnet", SOURCES, (ip_network("192.0.2.0/24"),), True))
    written(node_ns, guard_table("podnet", [Guarded("fm0123456789abc", "0a:58:0a:0a:00:02", (ip_address("10.10.0.2"),))]))

    shown = node_ns.run("nft", "list", "ruleset").stdout
    listed = json.loads(node_ns.run("nft", "-j", "list", "set", "inet", "fabricmgr-podnet", "direct4").stdout)

    for line in (
        'ip saddr @sources4 ip daddr != @direct4 oifname != "fm-podnet" masquerade',
        'ip6 saddr @sources6 ip6 daddr != @direct6 oifname != "fm-podnet" masquerade',
        'oifname "fm-podnet" icmp type redirect drop',
        'oifname "fm-podnet" icmpv6 type nd-redirect drop',
        'elements = { "fm0123456789abc" }',
        "iifname . ether saddr . ip saddr @allowed4 accept",
        "arp saddr ip @allowed4 accept",
        '"fm0123456789abc" . 0a:58:0a:0a:00:02 . 10.10.0.2',
    ):
        assert line in shown, shown
    assert len(listed["nftables"][1]["set"]["elem"]) == 3


def test_a_set_of_thousands_of_prefixes_is_written_in_one_transaction(node_ns: Namespace) -> None:
    many = tuple(IPv4Network((10 << 24 | number << 9, 24)) for number in range(20000))

    assert written(node_ns, network_table("podnet", "fm-podnet", many, (), True)) == ""


def test_the_whole_address_space_is_a_set_too(node_ns: Namespace) -> None:
    everything = (ip_network("0.0.0.0/0"), ip_network("::/0"), ip_network("10.0.0.0/8"))

    assert written(node_ns, network_table("podnet", "fm-podnet", everything, (), True)) == ""


def test_a_transaction_that_fails_changes_nothing_and_says_where(node_ns: Namespace) -> None:
    good = network_table("podnet", "fm-podnet", SOURCES, (), True)
    bad = network_table("podnet", "fm-podnet", SOURCES[:1], (), True)
    chain = nft.Chain("broken", "filter", 77, 0, ())

    def body() -> tuple[KernelRefused, str]:
        with NetlinkSocket(NETFILTER) as sock:
            nft.write(sock, good)
            with pytest.raises(KernelRefused) as refused:
                nft.write(sock, nft.Table(bad.family, bad.name, bad.sets, (*bad.chains, chain)))
            return refused.value, nft.difference(sock, good)

    error, difference = run_in(node_ns, body)

    assert "fabricmgr-podnet" in error.step
    assert error.errno != 0
    assert difference == ""


def test_a_table_is_deleted_once(node_ns: Namespace) -> None:
    def body() -> tuple[bool, bool]:
        with NetlinkSocket(NETFILTER) as sock:
            nft.write(sock, network_table("podnet", "fm-podnet", SOURCES, (), False))
            return nft.delete(sock, nft.INET, "fabricmgr-podnet"), nft.delete(sock, nft.INET, "fabricmgr-podnet")

    assert run_in(node_ns, body) == (True, False)


def test_elements_of_no_set_are_refused_with_enoent(node_ns: Namespace) -> None:
    def body() -> int:
        with NetlinkSocket(NETFILTER) as sock, pytest.raises(KernelRefused) as refused:
            nft.commit(sock, nft.elements_messages(nft.BRIDGE, "nowhere", "ports", [(bytes(16), False)]), "add")
        return refused.value.errno

    assert run_in(node_ns, body) == ENOENT


# --- flows and sysctls -------------------------------------------------------------------------------------------------------


Forget = Callable[[NetlinkSocket], None]
ONE = ip_address("10.10.0.2")


@pytest.mark.parametrize("forget", [lambda sock: conntrack.forget(sock, [ONE]), lambda sock: conntrack.forget_one_by_one(sock, ONE)])
def test_flows_of_one_address_are_forgotten_by_either_way(make_ns: MakeNamespace, forget: Forget) -> None:
    """F010"""
    node, outside, pod, other = make_ns("node"), make_ns("out"), make_ns("pod"), make_ns("pod")
    wire(node, outside, "192.0.2.1/24", "192.0.2.9/24")
    ensure(node, NODE)
    outside.run("ip", "route", "add", "10.10.0.0/16", "via", "192.0.2.1")
    # Without a rule that asks for it the kernel tracks nothing in this namespace.
    node.run("nft", "add table ip t; add chain ip t c { type filter hook forward priority 0; }; add rule ip t c ct state new accept")
    add(node, pod, "10.10.0.2")
    add(node, other, "10.10.0.3")
    assert pod.ping("192.0.2.9")
    assert outside.ping("10.10.0.2")
    assert other.ping("192.0.2.9")
    assert node.run("conntrack", "-L").stdout.count("10.10.0.2 ") >= 2

    def body() -> None:
        with NetlinkSocket(NETFILTER) as sock:
            forget(sock)
            forget(sock)

    run_in(node, body)

    left = node.run("conntrack", "-L").stdout
    assert "10.10.0.2 " not in left
    assert "10.10.0.3 " in left


def test_a_sysctl_that_cannot_be_set_is_named(node_ns: Namespace) -> None:
    with pytest.raises(KernelRefused) as refused:
        run_in(node_ns, lambda: sysctl.ensure("1", "ipv6", "conf", "nowhere", "ndisc_notify"))

    assert "net.ipv6.conf.nowhere.ndisc_notify" in refused.value.step


def test_a_sysctl_is_written_only_when_it_is_otherwise(node_ns: Namespace) -> None:
    assert run_in(node_ns, lambda: [sysctl.ensure("1", "ipv4", "ip_forward") for _ in range(2)]) == [True, False]
