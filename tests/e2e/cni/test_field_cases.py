"""What others met in the field, on two nodes with a real manager; calls come through the static shim."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.netns import Namespace
from tests.support.node_agent import error, result, wait_for
from tests.support.site import WORLD, Site, SiteNode, site

MakePod = Callable[[], Namespace]


@pytest.fixture(scope="module")
def two() -> Iterator[Site]:
    """Two nodes; podnet is dual stack and masquerades; `early` has two addresses, which are used again before they have rested."""
    with site(2) as made:
        made.manager.make_network("podnet", "10.77.0.0/16", "2001:db8:77::/112", masquerade=True)
        early = {"cooldown_seconds": 60, "reuse_early": True, "skip_ends": False}
        made.manager.make_network("early", "10.81.0.0/31", pool=early, masquerade=True)
        made.start("podnet")
        yield made


def addresses(document: dict[str, list[dict[str, str]]]) -> list[str]:
    return [ip["address"].partition("/")[0] for ip in document["ips"]]


# --- F001 --------------------------------------------------------------------------------------------------------------------

SWITCHES = ("all", "default", "lo", "eth0")


def without_ipv6(pod: Namespace) -> None:
    pod.run("sysctl", "-q", "-w", *(f"net.ipv6.conf.{name}.disable_ipv6=1" for name in ("all", "default")))


def test_a_namespace_with_ipv6_off_gets_it_for_its_interface_alone(two: Site, pod_ns: MakePod) -> None:
    """F001"""
    pod = pod_ns()
    without_ipv6(pod)

    given = addresses(result(two.node.add("v6-off", pod)))

    assert [pod.run("sysctl", "-n", f"net.ipv6.conf.{name}.disable_ipv6").stdout.strip() for name in SWITCHES] == ["1", "1", "1", "0"]
    assert all(two.node.ns.ping(address) for address in given)
    assert two.node.delete("v6-off", pod).exit == 0


@contextmanager
def sysctls_read_only(node: SiteNode) -> Iterator[None]:
    """For the agent alone, in its own mount namespace."""
    running = node.agent.running
    assert running is not None
    inside = ["nsenter", "-t", str(running.pid), "-m", "--"]
    subprocess.run([*inside, "mount", "--bind", "/proc/sys", "/proc/sys"], check=True)
    try:
        subprocess.run([*inside, "mount", "-o", "remount,bind,ro", "/proc/sys"], check=True)
        yield
    finally:
        subprocess.run([*inside, "umount", "/proc/sys"], check=True)


def test_a_switch_that_cannot_be_turned_is_named_and_costs_nothing(two: Site, pod_ns: MakePod) -> None:
    """F001, the other way: no link is left, and both addresses are free again."""
    pod = pod_ns()
    without_ipv6(pod)

    with sysctls_read_only(two.node):
        code, sentence = error(two.node.add("v6-stuck", pod))

    assert code == 110
    assert "net.ipv6.conf.eth0.disable_ipv6" in sentence
    assert not two.node.links()
    assert not [key for key in two.node.state().attachments if key[1] == "v6-stuck"]
    assert "eth0" not in pod.run("ip", "-o", "link").stdout


# --- F005 --------------------------------------------------------------------------------------------------------------------


def test_a_forward_drop_is_told_and_by_a_setting_our_bridge_is_let_through(two: Site, pod_ns: MakePod) -> None:
    """F005: with nftables a drop in any base chain is final, so an accept of one's own table does not help."""
    here, there = two.nodes
    near, far = pod_ns(), pod_ns()
    assert here.add("near", near).exit == 0
    target = addresses(result(there.add("far", far)))
    wait_for("pods of two nodes reach each other", lambda: all(near.ping(address) for address in target))
    assert near.ping(WORLD[0])

    for program in ("iptables", "ip6tables"):
        here.ns.run(program, "-P", "FORWARD", "DROP")

    try:
        assert not near.ping(target[0])
        said = here.command("status")
        assert said.returncode == 1
        assert "chain FORWARD of table ip filter" in said.stdout
        assert error(here.cni("STATUS", ""))[0] == 51
        assert here.agent.kill(15) == 0
        here.start_agent({"FABRICMGR_AGENT_ACCEPT_FORWARD": "true"})
        wait_for("pods are let through", lambda: all(near.ping(address) for address in (*target, *WORLD)))
        wait_for("nothing is wrong", lambda: here.command("status").returncode == 0)
        assert here.cni("STATUS", "").exit == 0
        assert "policy DROP" in here.ns.run("iptables", "-L", "FORWARD").stdout
    finally:
        for program in ("iptables", "ip6tables"):
            here.ns.run(program, "-P", "FORWARD", "ACCEPT")
        here.agent.kill(15)
        here.start_agent()
    for node, container, pod in ((here, "near", near), (there, "far", far)):
        assert node.delete(container, pod).exit == 0


# --- F008 --------------------------------------------------------------------------------------------------------------------


def test_a_raised_mtu_loses_no_packet_in_silence(two: Site, pod_ns: MakePod) -> None:
    """F008"""
    node = two.node
    old, new, other = pod_ns(), pod_ns(), pod_ns()
    first = result(node.add("mtu-old", old))

    two.manager.ask("PATCH", "/v1/clusters/default/networks/podnet", {"mtu": 9000})
    wait_for("the bridge is wider", lambda: "mtu 9000" in node.ns.run("ip", "link", "show", "fm-podnet").stdout)
    second, third = result(node.add("mtu-new", new)), result(node.add("mtu-other", other))

    assert [each["mtu"] for each in second["interfaces"]] == [9000] * 3
    assert "mtu 9000" in new.run("ip", "link", "show", "eth0").stdout
    assert unfragmented(new, addresses(third)[0]) == ""
    assert "1450" in unfragmented(new, addresses(first)[0])
    assert node.cni("CHECK", "mtu-old", old, config={"prevResult": first}).exit == 0
    shown = node.command("status").stdout
    assert "9000" in shown
    assert "1500" in shown
    two.manager.ask("PATCH", "/v1/clusters/default/networks/podnet", {"mtu": 1450})
    for container, pod in (("mtu-old", old), ("mtu-new", new), ("mtu-other", other)):
        assert node.delete(container, pod).exit == 0
    wait_for("the bridge is as before", lambda: "mtu 1450" in node.ns.run("ip", "link", "show", "fm-podnet").stdout)


def unfragmented(pod: Namespace, address: str) -> str:
    """Send 9000 bytes that no router may cut: empty when they came back, else what was said."""
    done = pod.run("ping", "-n", "-c1", "-W2", "-M", "do", "-s", "8972", address, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


# --- F009 --------------------------------------------------------------------------------------------------------------------


def test_two_default_routes_are_refused_with_both_networks_named(two: Site, pod_ns: MakePod) -> None:
    """F009"""
    node, pod = two.node, pod_ns()
    first = result(node.add("twice", pod, config={"isDefaultGateway": True}))

    code, sentence = error(node.add("twice", pod, ifname="net1", config={"name": "early", "isDefaultGateway": True}))

    assert code == 7
    assert "podnet" in sentence
    assert "early" in sentence
    second = result(node.add("twice", pod, ifname="net1", config={"name": "early"}))
    assert [route["dst"] for route in second["routes"]] == ["10.81.0.0/31"]
    assert pod.run("ip", "route", "show", "default").stdout.count("default") == 1
    assert node.delete("twice", pod, ifname="net1", config={"name": "early"}).exit == 0
    assert node.cni("CHECK", "twice", pod, config={"prevResult": first}).exit == 0
    assert node.delete("twice", pod).exit == 0


# --- F010 --------------------------------------------------------------------------------------------------------------------

SENDER = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.bind((sys.argv[1], 9000))
    print("up", flush=True)
    while True:
        try:
            sender.sendto(b"still there", (sys.argv[2], 5000))
        except OSError:
            pass
        time.sleep(0.02)
"""
ASKER = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
    asker.bind(("0.0.0.0", 5000))
    asker.settimeout(3)
    asker.sendto(b"mine", (sys.argv[1], 7000))
    while True:
        data, source = asker.recvfrom(100)
        if source[1] == 7000:
            print(data.decode())
            break
"""
ECHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
    echo.bind((sys.argv[1], 7000))
    print("up", flush=True)
    while True:
        data, source = echo.recvfrom(100)
        echo.sendto(data + b" back", source)
"""


@contextmanager
def running(where: Namespace, program: str, *words: str) -> Iterator[None]:
    with subprocess.Popen(where.command(sys.executable, "-c", program, *words), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            yield
        finally:
            process.kill()


def flows(node: SiteNode, address: str) -> set[str]:
    """Ids of the flows that the kernel tracks of an address."""
    shown = node.ns.run("conntrack", "-L", "-o", "id", check=False).stdout
    return {line.rpartition("id=")[2] for line in shown.splitlines() if f"={address} " in line}


@pytest.mark.parametrize("network", ["podnet", "early"])
def test_a_used_address_has_no_flow_of_its_former_owner(two: Site, pod_ns: MakePod, network: str) -> None:
    """F010: after the cooldown, and where a pool is so small that it reuses before that."""
    node, world, old, new = two.node, two.world, pod_ns(), pod_ns()
    config = {"name": network}
    address = addresses(result(node.add("flow-old", old, config=config)))[0]
    filler = pod_ns() if network == "early" else None
    if filler:
        assert node.add("flow-filler", filler, config=config).exit == 0
    world.run("ip", "route", "replace", f"{address}/32", "via", "192.168.250.2")
    with running(world, SENDER, WORLD[0], address), running(world, ECHO, WORLD[0]):
        assert old.run(sys.executable, "-c", ASKER, WORLD[0]).stdout.strip() == "mine back"
        before = wait_for("flows are tracked", lambda: found if len(found := flows(node, address)) >= 2 else None)
        assert node.delete("flow-old", old, config=config).exit == 0
        assert flows(node, address) & before

        args = "" if filler else f"IP={address}"
        printed = wait_for(
            "the address is given again", lambda: p if (p := node.add("flow-new", new, args=args, config=config)).exit == 0 else None
        )
        after = flows(node, address)

        assert addresses(result(printed))[0] == address
        assert not after & before
        assert new.run(sys.executable, "-c", ASKER, WORLD[0]).stdout.strip() == "mine back"
    world.run("ip", "route", "del", f"{address}/32")
    assert node.delete("flow-new", new, config=config).exit == 0
    if filler:
        assert node.delete("flow-filler", filler, config=config).exit == 0
