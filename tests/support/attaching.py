"""Attach and detach pods on a node's namespace, each time by an agent's end of netlink that is new: nothing is remembered in between."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from fabricmgr.agent import host, networks
from fabricmgr.agent.host import Finding
from fabricmgr.agent.links import Attached, AttachPlan, Kernel, attach, detach
from fabricmgr.agent.networks import Ensured, NetworkPlan
from fabricmgr.agent.survey import Surveyed, look, survey
from fabricmgr.domain.errors import CheckFailed, KernelRefused
from fabricmgr.netlink import namespace as netns
from fabricmgr.netlink.sockets import NetlinkSocket, Steps, in_words
from tests.support.namespaces import run_in
from tests.support.netns import Namespace

SOURCES = (ip_network("10.10.0.0/16"), ip_network("2001:db8:10::/64"))
BLOCKS = (ip_network("10.10.0.0/26"), ip_network("10.10.0.64/26"), ip_network("2001:db8:10::/122"), ip_network("2001:db8:10::40/122"))
NODE = NetworkPlan(name="podnet", sources=SOURCES, mtu=1450, blocks=BLOCKS)


BOTH = "10.10.0.2 2001:db8:10::2"


@pytest.fixture
def node(node_ns: Namespace) -> Namespace:
    """A node on which the network stands."""
    ensure(node_ns, NODE)
    return node_ns


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


def links_of(where: Namespace) -> str:
    return where.run("ip", "-d", "link").stdout


def surveyed(where: Namespace) -> list[Surveyed]:
    return run_in(where, lambda: survey(Kernel()))


def ensure(node: Namespace, *plans: NetworkPlan) -> Ensured:
    return run_in(node, lambda: networks.reconcile(Kernel(), plans))


def plan_for(pod: Namespace, addresses: str, **more: Any) -> AttachPlan:
    """A plan for eth0 of a pod on NODE; the namespace is opened here, and open as long as the process lives."""
    given: dict[str, Any] = {"network": "podnet", "bridge": "fm-podnet", "mtu": 1450, "ifname": "eth0", "container": pod.name}
    given |= {"namespace": netns.open_path(pod.path), "namespace_path": pod.path}
    return AttachPlan(addresses=tuple(map(ip_address, addresses.split())), **(given | more))


def add(node: Namespace, pod: Namespace, addresses: str, **more: Any) -> Attached:
    return run_in(node, lambda: attach(Kernel(), plan_for(pod, addresses, **more)))


def remove(node: Namespace, pod: Namespace, name: str) -> bool:
    return run_in(node, lambda: detach(Kernel(), name, netns.open_path(pod.path)))


def check(node: Namespace, pod: Namespace, addresses: str, **more: Any) -> CheckFailed | None:
    return run_in(node, lambda: look(Kernel(), plan_for(pod, addresses, **more)))


def findings(node: Namespace, plans: Sequence[NetworkPlan]) -> list[Finding]:
    return run_in(node, lambda: host.findings(Kernel(), plans))


def subjects_of(node: Namespace, *plans: NetworkPlan) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings(node, plans)}
