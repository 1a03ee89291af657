"""The machine park of the demo: two nodes and this machine on one wire, all in network namespaces.

The wire is a bridge in a namespace of its own, so that no firewall of this machine stands in the way of what the nodes say to each other.
This machine has one end of a veth pair on it, where the manager listens.
"""

import os
import subprocess
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from deploy.demo.place import Place
from deploy.demo.processes import run

PATIENCE = 5.0


@dataclass(frozen=True)
class Lab:
    """Namespaces by role; their names carry the checkout's mark."""

    place: Place

    def namespace(self, role: str) -> str:
        return f"fmdemo-{self.place.mark}-{role}"

    def path(self, role: str) -> str:
        return f"/run/netns/{self.namespace(role)}"

    @property
    def wire_end(self) -> str:
        return f"fmdemo-{self.place.mark}"

    def address(self, number: int) -> IPv4Address:
        """This machine is number 1, the nodes follow."""
        return self.place.underlay[number]

    def build(self, nodes: list[str]) -> None:
        """Stopped when the kernel or `ip` refuses a step."""
        self.add("wire")
        run("ip", "-n", self.namespace("wire"), "link", "add", "wire", "type", "bridge")
        run("ip", "-n", self.namespace("wire"), "link", "set", "wire", "up")
        self.plug(self.wire_end, None, self.address(1))
        for number, node in enumerate(nodes, 2):
            self.add(node)
            self.plug("eth0", node, self.address(number))

    def add(self, role: str) -> None:
        run("ip", "netns", "add", self.namespace(role))
        run("ip", "-n", self.namespace(role), "link", "set", "lo", "up")

    def plug(self, interface: str, role: str | None, address: IPv4Address) -> None:
        """A veth pair: one end on the wire, the other in a node, or on this machine where role is None."""
        port = f"port{int(address) & 0xFF}"
        there = self.namespace("wire")
        run("ip", "-n", there, "link", "add", port, "type", "veth", "peer", "name", interface, "netns", self.home(role))
        run("ip", "-n", there, "link", "set", port, "master", "wire", "up")
        inside = ["ip"] if role is None else ["ip", "-n", self.namespace(role)]
        run(*inside, "address", "add", f"{address}/{self.place.underlay.prefixlen}", "dev", interface)
        if role is not None and has_ipv6():
            # nodad: the wire is ours alone, so no second of waiting for somebody else with this address.
            run(*inside, "address", "add", f"{self.place.underlay6[int(address) & 0xFF]}/64", "dev", interface, "nodad")
        run(*inside, "link", "set", interface, "up")

    def home(self, role: str | None) -> str:
        return str(os.getpid()) if role is None else self.namespace(role)

    def remove_all(self) -> None:
        """Every namespace of this checkout's demo, of an earlier one that was killed too. The pairs and the bridge go with them."""
        mine = self.namespace("")
        for path in Path("/run/netns").glob(f"{mine}*"):
            subprocess.run(["ip", "netns", "del", path.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self.wire_end], check=False, capture_output=True)

    def ping(self, pod: str, address: str) -> bool:
        """Whether an echo comes back within PATIENCE seconds: a node hears of another one's new block a moment after the pod is there."""
        words = ["nsenter", f"--net={self.path(pod)}", "ping", "-n", "-q", "-c", "1", "-W", "1", address]
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(words, capture_output=True, check=False).returncode != 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


def has_ipv6() -> bool:
    return Path("/proc/sys/net/ipv6").exists()


def missing() -> str:
    """Why nodes can't be shown here; empty when they can. Tried out, since modules may be missing."""
    if os.geteuid() != 0:
        return "you are not root, and network namespaces need it (try: sudo make run)"
    steps = (
        ["ip", "link", "add", "fmtry0", "type", "veth", "peer", "name", "fmtry1"],
        ["ip", "link", "add", "fmtry2", "type", "bridge"],
    )
    for step in steps:
        try:
            tried = subprocess.run(["unshare", "--net", *step], capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            return f"there is no command {error.filename}"
        if tried.returncode != 0:
            return f"the kernel refused `{' '.join(step)}` in a network namespace: {tried.stderr.strip()}"
    return ""
