"""A pod's links in real namespaces: detached, their flows forgotten, and reaped."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from fabricmgr.agent.links import REAP, Kernel, attach, detach
from fabricmgr.agent.reaper import Reaper
from fabricmgr.agent.survey import survey
from fabricmgr.domain.errors import KernelRefused
from fabricmgr.netlink import namespace as netns
from tests.support.attaching import BOTH, NODE, Deaf, add, ensure, links_of, node, plan_for, remove, surveyed
from tests.support.attaching import check as look_at
from tests.support.namespaces import MakeNamespace, make_ns, node_ns, pod_ns, run_in, wire
from tests.support.netns import Namespace

__all__ = ["make_ns", "node", "node_ns", "pod_ns"]

MakePod = Callable[[], Namespace]


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
