"""A pod's links in real namespaces: guarded against spoofed sources, and looked at by CHECK."""

import asyncio
from collections.abc import Callable

import pytest

from fabricmgr.agent.links import Kernel
from fabricmgr.agent.survey import check
from fabricmgr.domain.errors import CheckFailed
from tests.support.attaching import BOTH, NODE, add, ensure, node, plan_for, remove
from tests.support.attaching import check as look_at
from tests.support.namespaces import make_ns, node_ns, pod_ns, run_in
from tests.support.netns import Namespace

__all__ = ["make_ns", "node", "node_ns", "pod_ns"]

MakePod = Callable[[], Namespace]


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
