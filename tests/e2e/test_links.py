"""A pod's links in real namespaces: attached, detached, looked at, surveyed, reaped."""

import asyncio
import faulthandler
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from errno import EXFULL
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from fabricmgr.agent.links import LIVE, REAP, Kernel, attach, detach
from fabricmgr.agent.reaper import Reaper
from fabricmgr.agent.survey import Surveyed, check, survey
from fabricmgr.domain.errors import CheckFailed, InterfaceExists, KernelRefused, NamespaceMissing, NamespaceRefused
from fabricmgr.netlink import namespace as netns
from fabricmgr.netlink.sockets import NetlinkSocket, Steps, in_words
from tests.support.attaching import NODE, add, ensure, plan_for, remove
from tests.support.attaching import check as look_at
from tests.support.namespaces import Failed, MakeNamespace, make_ns, node_ns, pod_ns, run_in, wire
from tests.support.netns import Namespace

__all__ = ["make_ns", "node_ns", "pod_ns"]

MakePod = Callable[[], Namespace]
BOTH = "10.10.0.2 2001:db8:10::2"


@pytest.fixture
def node(node_ns: Namespace) -> Namespace:
    """A node on which the network stands."""
    ensure(node_ns, NODE)
    return node_ns


def links_of(where: Namespace) -> str:
    return where.run("ip", "-d", "link").stdout


def surveyed(where: Namespace) -> list[Surveyed]:
    return run_in(where, lambda: survey(Kernel()))


def test_an_attached_pod_has_what_the_plan_says(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()

    attached = add(node, pod, BOTH)

    shown = pod.run("ip", "address", "show", "eth0").stdout
    assert "inet 10.10.0.2/32" in shown
    assert "inet6 2001:db8:10::2/128" in shown
    assert "0a:58:0a:0a:00:02" in shown
    assert "mtu 1450" in shown
    assert pod.run("ip", "route").stdout.split() == ["default", "via", "169.254.1.1", "dev", "eth0", "proto", "static", "onlink"]
    assert "default via fe80::1 dev eth0" in pod.run("ip", "-6", "route").stdout
    assert attached.operational
    assert attached.host_name == plan_for(pod, BOTH).host_name
    assert len(attached.host_name) == 15


def test_a_pod_of_ipv4_alone_makes_itself_no_ipv6_address(node: Namespace, pod_ns: MakePod) -> None:
    """The control: a pod with an IPv6 address of ours has its own link-local one beside it."""
    plain, dual = pod_ns(), pod_ns()

    add(node, plain, "10.10.0.2")
    add(node, dual, "10.10.0.3 2001:db8:10::3")

    assert plain.run("ip", "-6", "address", "show", "eth0").stdout == ""
    assert "inet6 fe80::" in dual.run("ip", "-6", "address", "show", "eth0").stdout
    assert node.ping("10.10.0.2")


def test_a_link_explains_itself(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    attached = add(node, pod, BOTH)

    (found,) = surveyed(node)

    assert found.link.name == attached.host_name
    assert found.link.group == LIVE
    assert found.origin == plan_for(pod, BOTH).origin


def test_a_host_end_puts_nothing_into_the_nodes_ipv6_table(node: Namespace, pod_ns: MakePod) -> None:
    """Three routes for each pod are walked by the kernel at every ADD and DEL."""
    attached = add(node, pod_ns(), BOTH)

    assert node.run("ip", "-6", "address", "show", "dev", attached.host_name).stdout == ""
    assert attached.host_name not in node.run("ip", "-6", "route", "show", "table", "all").stdout


def test_asked_for_routes_are_laid_beside_the_default_or_in_its_place(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()

    add(node, pod, BOTH, is_default=False, routes=(ip_network("10.10.0.0/16"), ip_network("2001:db8:10::/64")))

    assert "default" not in pod.run("ip", "route").stdout + pod.run("ip", "-6", "route").stdout
    assert "10.10.0.0/16 via 169.254.1.1" in pod.run("ip", "route").stdout
    assert "2001:db8:10::/64 via fe80::1" in pod.run("ip", "-6", "route").stdout


def test_port_settings_are_the_ports(node: Namespace, pod_ns: MakePod) -> None:
    plain, special = pod_ns(), pod_ns()

    add(node, plain, "10.10.0.2")
    add(node, special, "10.10.0.3", hairpin=True, isolation=True)

    flags = {(each.link.hairpin, each.link.isolated) for each in surveyed(node)}
    assert flags == {(False, False), (True, True)}


def test_what_a_pod_floods_reaches_no_other_pod(node: Namespace, pod_ns: MakePod) -> None:
    """The control: with the port's flag turned back, it does."""
    pod, other = pod_ns(), pod_ns()
    add(node, pod, BOTH)
    attached = add(node, other, "10.10.0.3 2001:db8:10::3")

    def heard() -> int:
        pod.run("ping", "-c1", "-W1", "-I", "2001:db8:10::2", "ff02::1%eth0", check=False)
        return int(float(other.run("nstat", "-asz", "Icmp6InEchos").stdout.split("Icmp6InEchos")[1].split()[0]))

    quiet = heard()
    node.run("bridge", "link", "set", "dev", attached.host_name, "mcast_flood", "on")

    assert quiet == 0
    assert heard() > 0


def test_an_asked_for_mac_is_announced_and_given(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()

    attached = add(node, pod, "10.10.0.2", mac="02:11:22:33:44:55")

    assert attached.mac == "02:11:22:33:44:55"
    assert pod.run("sysctl", "-n", "net.ipv4.conf.eth0.arp_notify").stdout.strip() == "1"
    assert node.ping("10.10.0.2")


@pytest.mark.parametrize("mac", ["", "02:11:22:33:44:66"])
def test_a_reused_address_loses_no_packet_to_an_old_neighbour_entry(node: Namespace, pod_ns: MakePod, mac: str) -> None:
    first, second = pod_ns(), pod_ns()
    attached = add(node, first, BOTH)
    assert node.ping("10.10.0.2")
    assert node.ping("2001:db8:10::2")

    remove(node, first, attached.host_name)
    add(node, second, BOTH, mac=mac)

    assert node.ping("10.10.0.2")
    assert node.ping("2001:db8:10::2")


def test_ipv6_switched_off_in_the_namespace_is_switched_on_for_this_link_alone(node: Namespace, pod_ns: MakePod) -> None:
    """F001"""
    pod = pod_ns()
    pod.run("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")

    add(node, pod, BOTH)

    switches = ("all", "default", "lo", "eth0")
    values = [pod.run("sysctl", "-n", f"net.ipv6.conf.{name}.disable_ipv6").stdout.strip() for name in switches]
    assert values == ["1", "1", "1", "0"]
    assert node.ping("2001:db8:10::2")


class Deaf(NetlinkSocket):
    """Refuses one message by its step: what a kernel without a feature, or out of memory, does."""

    refused = ""

    def exchange(
        self, messages: Sequence[bytearray], steps: Sequence[str] | Steps, ignore: frozenset[int] = frozenset()
    ) -> list[tuple[int, bytes]]:
        refused = [step for step in in_words(steps) if self.refused in step]
        if refused:
            raise KernelRefused(refused[0], 12, "Cannot allocate memory")
        return super().exchange(messages, steps, ignore)

    def is_running(self, name: str) -> bool:
        if self.refused == f"look at {name}":
            raise KernelRefused(self.refused, 19, "No such device")
        return super().is_running(name)


@pytest.mark.parametrize(
    ("addresses", "more", "step"),
    [
        ("10.10.0.2 10.10.0.2", {}, "add 10.10.0.2 to eth0"),
        ("10.10.0.2", {"mtu": 40}, "make eth0"),
        ("10.10.0.2", {"mtu": 70000}, "make eth0"),
        ("10.10.0.2", {"bridge": "fm-nowhere"}, "find link fm-nowhere"),
        ("10.10.0.2", {"mac": "ff:ff:ff:ff:ff:ff"}, "make eth0"),
    ],
)
def test_what_the_kernel_refuses_leaves_nothing(
    node: Namespace, pod_ns: MakePod, addresses: str, more: dict[str, object], step: str
) -> None:
    pod = pod_ns()

    with pytest.raises(KernelRefused) as refused:
        add(node, pod, addresses, **more)

    assert step in refused.value.step
    assert surveyed(node) == []
    assert "eth0" not in links_of(pod)


@pytest.mark.parametrize("step", ["add 2001:db8:10::2", "take eth0 up", "look at eth0"])
def test_a_failure_in_the_pod_leaves_nothing(node: Namespace, pod_ns: MakePod, step: str) -> None:
    pod = pod_ns()

    def body() -> None:
        Deaf.refused = step
        attach(Kernel(open_socket=Deaf), plan_for(pod, BOTH))

    with pytest.raises(KernelRefused):
        run_in(node, body)

    assert surveyed(node) == []
    assert "eth0" not in links_of(pod)


@pytest.mark.parametrize("at", range(1, 7))
def test_an_agent_that_dies_at_any_message_leaves_what_it_can_find_again(node: Namespace, pod_ns: MakePod, at: int) -> None:
    pod = pod_ns()

    def die() -> None:
        class Dying(NetlinkSocket):
            left = at

            def exchange(
                self, messages: Sequence[bytearray], steps: Sequence[str] | Steps, ignore: frozenset[int] = frozenset()
            ) -> list[tuple[int, bytes]]:
                done = super().exchange(messages, steps, ignore)
                Dying.left -= 1
                if not Dying.left:
                    os._exit(0)
                return done

        kernel, plan = Kernel(open_socket=Dying), plan_for(pod, BOTH)
        attach(kernel, plan)
        detach(kernel, plan.host_name, plan.namespace)

    def recover() -> tuple[list[Surveyed], list[Surveyed]]:
        kernel = Kernel()
        found = survey(kernel)
        for each in found:
            if not each.reaping:
                detach(kernel, each.link.name, netns.open_path(pod.path))
        reaper = Reaper[str](lambda _: None)
        reaper.start()
        reaper.take("all")
        reaper.stop()
        return found, survey(kernel)

    with pytest.raises(Failed):
        run_in(node, die)
    found, left = run_in(node, recover)

    assert [each.origin for each in found] == [plan_for(pod, BOTH).origin]
    assert left == []
    assert "eth0" not in links_of(pod)
    add(node, pod, BOTH)
    assert node.ping("10.10.0.2")


def test_a_thread_without_a_way_back_ends_the_process(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    survived = "it came back"

    def body() -> str:
        faulthandler.disable()
        with Path("/dev/null").open("rb") as nowhere:
            netns.inside(nowhere.fileno(), netns.open_path(pod.path), lambda: None)
        return survived

    with pytest.raises(Failed, match="ended without an answer"):
        run_in(node, body)


def test_an_interface_of_that_name_is_left_alone(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    pod.run("ip", "link", "add", "eth0", "type", "bridge")

    with pytest.raises(InterfaceExists) as refused:
        add(node, pod, BOTH)

    assert refused.value.ifname == "eth0"
    assert "bridge" in links_of(pod)
    assert surveyed(node) == []


def test_adding_again_is_refused_and_leaves_the_first_alone(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    add(node, pod, BOTH)

    with pytest.raises(InterfaceExists):
        add(node, pod, BOTH)

    assert node.ping("10.10.0.2")


def test_a_full_bridge_is_said_in_words(node: Namespace, pod_ns: MakePod) -> None:
    """A bridge has 1,023 ports; the last of them are taken here by sockets that say so, as filling one takes seconds."""
    pod = pod_ns()

    def body() -> None:
        class Full(NetlinkSocket):
            def exchange(
                self, messages: Sequence[bytearray], steps: Sequence[str] | Steps, ignore: frozenset[int] = frozenset()
            ) -> list[tuple[int, bytes]]:
                raise KernelRefused(in_words(steps)[0], EXFULL, "Exchange full")

        attach(Kernel(open_socket=Full), plan_for(pod, BOTH))

    with pytest.raises(KernelRefused, match="as many ports as a bridge can have"):
        run_in(node, body)


def test_our_own_namespace_is_refused_before_anything_is_made(node: Namespace) -> None:
    with pytest.raises(NamespaceRefused):
        add(node, node, BOTH)

    assert surveyed(node) == []


def test_what_is_no_network_namespace_is_refused(node: Namespace, tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(NamespaceMissing):
        netns.open_path(f"{tmp_path}/nothing")
    with pytest.raises(NamespaceRefused, match="no namespace"):
        netns.open_path("/etc/hostname")
    with pytest.raises(NamespaceRefused, match="another kind"):
        netns.open_path("/proc/self/ns/mnt")
    with pytest.raises(NamespaceRefused):
        netns.open_path(str(tmp_path))


def test_a_thread_comes_back_from_a_namespace_also_after_a_failure(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()

    def body() -> tuple[bool, bool]:
        home, target = netns.open_own(), netns.open_path(pod.path)
        there = netns.inside(home, target, partial(netns.is_own, target))
        with pytest.raises(ZeroDivisionError):
            netns.inside(home, target, lambda: 1 // 0)
        return there, netns.is_own(home)

    assert run_in(node, body) == (True, True)


# --- DEL -----------------------------------------------------------------------------------------------------------------


def test_a_detached_pod_sends_nothing_and_its_name_is_free_at_once(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    attached = add(node, pod, BOTH)
    assert node.ping("10.10.0.2")

    assert remove(node, pod, attached.host_name)

    assert "eth0" not in links_of(pod)
    assert node.run("ping", "-c1", "-W1", "10.10.0.2", check=False).returncode != 0
    assert [each.link.group for each in surveyed(node)] == [REAP]
    again = add(node, pod, BOTH)
    assert again.host_name == attached.host_name
    assert node.ping("10.10.0.2")


def test_detaching_again_finds_nothing(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    attached = add(node, pod, BOTH)

    assert [remove(node, pod, attached.host_name) for _ in range(3)] == [True, False, False]


def test_detaching_without_a_namespace_cuts_the_pod_off(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    attached = add(node, pod, BOTH)

    assert run_in(node, lambda: detach(Kernel(), attached.host_name))

    assert pod.run("ping", "-c1", "-W1", "169.254.1.1", check=False).returncode != 0


def test_a_path_that_leads_elsewhere_by_now_touches_nothing_there(node: Namespace, pod_ns: MakePod) -> None:
    pod, other = pod_ns(), pod_ns()
    attached = add(node, pod, "10.10.0.2")
    add(node, other, "10.10.0.3")

    def body() -> bool:
        return detach(Kernel(), attached.host_name, netns.open_path(other.path), attached.identity)

    assert run_in(node, body)

    assert other.ping("169.254.1.1")
    # Without an identity to go by it is the other end's number that tells.
    mine = add(node, pod_ns(), "10.10.0.4")
    assert remove(node, other, mine.host_name)
    assert other.ping("169.254.1.1")


def test_detaching_in_our_own_namespace_touches_only_the_host_end(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    attached = add(node, pod, BOTH)

    assert remove(node, node, attached.host_name)

    assert "fm-podnet" in links_of(node)


def test_a_second_interface_keeps_its_routes_to_itself(node: Namespace, pod_ns: MakePod) -> None:
    """F009"""
    other = replace(NODE, name="second", sources=(ip_network("10.20.0.0/16"), ip_network("2001:db8:20::/64")), blocks=())
    ensure(node, NODE, other)
    pod = pod_ns()
    second = {"network": "second", "bridge": "fm-second", "ifname": "net1", "is_default": False, "routes": other.sources}
    addresses = "10.20.0.2 2001:db8:20::2"

    add(node, pod, BOTH)
    attached = add(node, pod, addresses, **second)
    both = pod.run("ip", "route").stdout + pod.run("ip", "-6", "route").stdout
    first_checks = look_at(node, pod, BOTH)
    second_checks = look_at(node, pod, addresses, **second)
    remove(node, pod, attached.host_name)

    assert both.count("default via") == 2
    assert both.count("dev net1") >= 2
    assert "10.20.0.0/16 via 169.254.1.1 dev net1" in both
    assert (first_checks, second_checks) == (None, None)
    assert look_at(node, pod, BOTH) is None
    assert "net1" not in pod.run("ip", "route").stdout


def test_a_second_default_route_is_refused_in_both_families_and_leaves_the_first(node: Namespace, pod_ns: MakePod) -> None:
    """F009"""
    pod = pod_ns()
    add(node, pod, BOTH)

    for addresses in ("10.10.0.3", "2001:db8:10::3"):
        with pytest.raises(KernelRefused, match="add route"):
            add(node, pod, addresses, ifname="net1")

    assert look_at(node, pod, BOTH) is None
    assert "net1" not in links_of(pod)
    assert len(surveyed(node)) == 1


# --- flows of the former owner -----------------------------------------------------------------------------------------------


def test_a_reused_address_has_no_flow_of_its_former_owner(make_ns: MakeNamespace) -> None:
    """F010"""
    node, outside, old, new = make_ns("node"), make_ns("out"), make_ns("pod"), make_ns("pod")
    wire(node, outside, "192.0.2.1/24 2001:db8:2::1/64", "192.0.2.9/24 2001:db8:2::9/64")
    outside.run("ip", "route", "add", "10.10.0.0/16", "via", "192.0.2.1")
    ensure(node, replace(NODE, masquerade=True))
    attached = add(node, old, BOTH)
    assert old.ping("192.0.2.9")
    assert old.ping("2001:db8:2::9")
    assert outside.ping("10.10.0.2")
    unrelated = make_ns("pod")
    add(node, unrelated, "10.10.0.7")
    assert unrelated.ping("192.0.2.9")
    flows = node.run("conntrack", "-L").stdout + node.run("conntrack", "-L", "-f", "ipv6").stdout
    assert "10.10.0.2 " in flows
    assert "2001:db8:10::2 " in flows

    remove(node, old, attached.host_name)
    add(node, new, BOTH, used_before=(ip_address("10.10.0.2"), ip_address("2001:db8:10::2")))

    flows = node.run("conntrack", "-L").stdout + node.run("conntrack", "-L", "-f", "ipv6").stdout
    assert "10.10.0.2 " not in flows
    assert "2001:db8:10::2 " not in flows
    assert "10.10.0.7 " in flows
    assert new.ping("192.0.2.9")


# --- spoofed sources -----------------------------------------------------------------------------------------------------------


def test_a_guarded_pod_speaks_from_its_own_addresses_alone(node: Namespace, pod_ns: MakePod) -> None:
    guarded, free = pod_ns(), pod_ns()
    attached = add(node, guarded, BOTH, spoof_check=True)
    add(node, free, "10.10.0.3 2001:db8:10::3")
    for pod, number in ((guarded, 50), (free, 51)):
        pod.run("ip", "address", "add", f"10.10.0.{number}/32", "dev", "eth0")
        pod.run("ip", "address", "add", f"2001:db8:10::{number}/128", "dev", "eth0", "nodad")

    def speaks(pod: Namespace, source: str, target: str) -> bool:
        return pod.run("ping", "-c1", "-W1", "-I", source, target, check=False).returncode == 0

    assert speaks(guarded, "10.10.0.2", "10.10.0.3")
    assert speaks(guarded, "2001:db8:10::2", "2001:db8:10::3")
    assert not speaks(guarded, "10.10.0.50", "10.10.0.3")
    assert not speaks(guarded, "2001:db8:10::50", "2001:db8:10::3")
    assert speaks(free, "10.10.0.51", "10.10.0.2")
    assert look_at(node, guarded, BOTH, spoof_check=True) is None
    remove(node, guarded, attached.host_name)
    assert "10.10.0.2" not in node.run("nft", "list", "table", "bridge", "fabricmgr-podnet").stdout


def test_a_guarded_pod_cannot_speak_with_another_mac(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    add(node, pod, "10.10.0.2", spoof_check=True)
    assert pod.ping("169.254.1.1")

    pod.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")

    assert pod.run("ping", "-c1", "-W1", "169.254.1.1", check=False).returncode != 0


def test_a_guard_removed_behind_us_comes_back_with_every_pod(node: Namespace, pod_ns: MakePod) -> None:
    pods = [pod_ns(), pod_ns()]
    for number, pod in enumerate(pods):
        add(node, pod, f"10.10.0.{number + 2}", spoof_check=True)
    node.run("nft", "delete", "table", "bridge", "fabricmgr-podnet")
    missing = look_at(node, pods[0], "10.10.0.2", spoof_check=True)

    ensure(node, NODE)

    assert missing is not None
    assert look_at(node, pods[0], "10.10.0.2", spoof_check=True) is None
    assert look_at(node, pods[1], "10.10.0.3", spoof_check=True) is None


# --- CHECK --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "harm", "what"),
    [
        (True, "ip link set eth0 down", "state of eth0"),
        (True, "ip link set eth0 name eth9", "eth0 in"),
        (True, "ip address del 10.10.0.2/32 dev eth0", "addresses of eth0"),
        (True, "ip -6 address del 2001:db8:10::2/128 dev eth0", "addresses of eth0"),
        (True, "ip route del default", "routes of eth0"),
        (True, "ip -6 route del default", "routes of eth0"),
        (True, "ip link set eth0 mtu 1400", "MTU of eth0"),
        (True, "ip link set eth0 address 02:00:00:00:00:01", "MAC of eth0"),
        (False, "ip link set {host} nomaster", "bridge of"),
        (False, "ip link set {host} down", "state of fm"),
        (False, "ip address del 169.254.1.1/32 dev fm-podnet", "gateway on fm-podnet"),
        (False, "ip link del {host}", "host end of eth0"),
        (False, "ip link del fm-podnet", "bridge"),
    ],
)
def test_check_names_what_is_otherwise(node: Namespace, pod_ns: MakePod, inside: bool, harm: str, what: str) -> None:
    pod = pod_ns()
    attached = add(node, pod, BOTH)
    assert look_at(node, pod, BOTH) is None

    (pod if inside else node).run("sh", "-c", harm.format(host=attached.host_name))

    found = look_at(node, pod, BOTH)
    assert found is not None
    assert found.what.startswith(what)


def test_check_allows_what_later_plugins_added(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    add(node, pod, BOTH)

    pod.run("ip", "address", "add", "198.51.100.7/32", "dev", "eth0")
    pod.run("ip", "route", "add", "198.51.100.0/24", "via", "169.254.1.1", "dev", "eth0", "onlink")
    pod.run("ip", "link", "set", "eth0", "mtu", "1400")

    assert look_at(node, pod, BOTH, mtu=0) is None


def test_check_waits_for_what_is_settling_but_not_for_ever(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    add(node, pod, BOTH)
    pod.run("ip", "link", "set", "eth0", "mtu", "1400")

    def body(mended_after: int) -> int:
        kernel, plan, looks = Kernel(), plan_for(pod, BOTH), 0

        async def sleep(seconds: float) -> None:
            nonlocal looks
            looks += 1
            if looks == mended_after:
                pod.run("ip", "link", "set", "eth0", "mtu", "1450")

        asyncio.run(check(kernel, plan, sleep))
        return looks

    with pytest.raises(CheckFailed):
        run_in(node, lambda: body(99))
    assert run_in(node, lambda: body(3)) == 3


# --- the reaper -----------------------------------------------------------------------------------------------------------------


def test_the_reaper_deletes_a_bunch_in_one_go_and_says_whose(node: Namespace, pod_ns: MakePod) -> None:
    pods = [pod_ns() for _ in range(5)]

    def body() -> tuple[list[list[str]], int]:
        kernel, told = Kernel(), list[list[str]]()
        reaper = Reaper[str](lambda bunch: told.append(list(bunch)))
        reaper.start()
        for number, pod in enumerate(pods):
            plan = plan_for(pod, f"10.10.0.{number + 2}")
            attach(kernel, plan)
            detach(kernel, plan.host_name, plan.namespace)
        for pod in pods:
            reaper.take(pod.name)
        reaper.stop()
        return told, len(survey(kernel))

    told, left = run_in(node, body)

    assert told == [[pod.name for pod in pods]]
    assert left == 0


def test_the_reaper_tries_again_and_tells_once(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()

    def body() -> tuple[list[str], str, str]:
        kernel, told, done = Kernel(), list[str](), threading.Event()
        plan = plan_for(pod, BOTH)
        attach(kernel, plan)
        detach(kernel, plan.host_name, plan.namespace)

        def gone(bunch: Sequence[str]) -> None:
            told.extend(bunch)
            done.set()

        Deaf.refused = "delete link group"
        reaper = Reaper[str](gone, open_socket=Deaf, gather=0.0, again=0.01)
        reaper.start()
        reaper.take("token")
        while not reaper.trouble:
            time.sleep(0.001)
        trouble, Deaf.refused = reaper.trouble, "nothing at all"
        assert done.wait(5)
        reaper.stop()
        return told, trouble, reaper.trouble

    told, trouble, after = run_in(node, body)

    assert told == ["token"]
    assert "delete link group" in trouble
    assert after == ""


def test_links_that_went_with_their_namespace_count_as_gone(node: Namespace, make_ns: MakeNamespace) -> None:
    def body() -> list[str]:
        told = list[str]()
        reaper = Reaper[str](told.extend)
        reaper.start()
        reaper.take("long gone")
        reaper.stop()
        return told

    assert run_in(node, body) == ["long gone"]


def test_a_link_that_went_with_its_other_end_is_not_there_to_detach(node: Namespace, pod_ns: MakePod) -> None:
    pod = pod_ns()
    attached = add(node, pod, BOTH)
    pod.run("ip", "link", "del", "eth0")

    assert not remove(node, pod, attached.host_name)
    assert look_at(node, pod, BOTH) is not None
