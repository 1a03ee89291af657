"""A pod's links in real namespaces: attached, refused, and left as they were where something fails."""

import faulthandler
import os
from collections.abc import Callable, Sequence
from errno import EXFULL
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest

from fabricmgr.agent.links import LIVE, Kernel, attach, detach
from fabricmgr.agent.reaper import Reaper
from fabricmgr.agent.survey import Surveyed, survey
from fabricmgr.domain.errors import InterfaceExists, KernelRefused, NamespaceMissing, NamespaceRefused
from fabricmgr.netlink import namespace as netns
from fabricmgr.netlink.sockets import NetlinkSocket, Steps, in_words
from tests.support.attaching import BOTH, Deaf, add, links_of, node, plan_for, remove, surveyed
from tests.support.namespaces import Failed, make_ns, node_ns, pod_ns, run_in
from tests.support.netns import Namespace

__all__ = ["make_ns", "node", "node_ns", "pod_ns"]

MakePod = Callable[[], Namespace]


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
