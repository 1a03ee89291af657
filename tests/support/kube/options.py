"""How a test cluster is to be: what a test may choose, and the addresses that follow."""

from collections.abc import Sequence
from dataclasses import dataclass

PODS = {4: "10.77.0.0/16", 6: "2001:db8:77::/112"}
SERVICES = {4: "10.96.0.0/16", 6: "2001:db8:96::/112"}
# Nobody answers there; a kubelet that has none warns at each pod.
DNS = {4: "10.96.0.10", 6: "2001:db8:96::10"}
HUB = {4: "192.168.250.1", 6: "2001:db8:250::1"}
NETWORK = "podnet"
POOL = "pods"


@dataclass(frozen=True)
class Options:
    """families: of the cluster, the first one first. proxy: kube-proxy's mode. api_server: more flags for it.

    reference: the pods' network is that of the CNI project's own plugins (bridge, host-local) with static routes, and there is neither
    manager nor agent. cooldown: seconds an address of ours rests. as_pods: agents come from our manifests, as a DaemonSet.
    """

    nodes: int = 2
    families: tuple[int, ...] = (4, 6)
    proxy: str = "nftables"
    reference: bool = False
    api_server: Sequence[str] = ()
    cooldown: int = 2
    as_pods: bool = False

    def ranges(self, which: dict[int, str]) -> str:
        """As Kubernetes' flags take them."""
        return ",".join(which[family] for family in self.families)

    def node_addresses(self, number: int) -> list[str]:
        return [{4: f"192.168.250.{number + 1}", 6: f"2001:db8:250::{number + 1}"}[family] for family in self.families]

    @property
    def server(self) -> str:
        """The API server's URL, which hub and nodes reach."""
        address = HUB[self.families[0]]
        return f"https://[{address}]:6443" if ":" in address else f"https://{address}:6443"
