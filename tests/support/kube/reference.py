"""The pods' network of the CNI project's own plugins, for comparisons: a bridge, addresses by host-local, static routes between nodes."""

from typing import Any

from tests.support.kube.node import KubeNode
from tests.support.kube.options import Options

SUBNETS = {4: "10.77.{}.0/24", 6: "2001:db8:77::{}:0/112"}
ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def plugins(options: Options, number: int) -> list[dict[str, Any]]:
    """As an administrator would list them for a node."""
    ranges = [[{"subnet": SUBNETS[family].format(number)}] for family in options.families]
    routes = [{"dst": ANYWHERE[family]} for family in options.families]
    ipam = {"type": "host-local", "ranges": ranges, "routes": routes}
    return [{"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": ipam}]


def install(nodes: list[KubeNode]) -> None:
    """On every node: the list, forwarding, and the ways to the others' pods."""
    for node in nodes:
        node.listed("10-reference.conflist", plugins(node.options, node.number))
        node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for other in (each for each in nodes if each is not node):
            for family, address in zip(node.options.families, other.addresses, strict=True):
                node.run("ip", f"-{family}", "route", "replace", SUBNETS[family].format(other.number), "via", address)
