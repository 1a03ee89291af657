"""Who runs in the CNI benchmark: each with a plugin, a configuration, and a node to work in, and how it is called there."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.calls import Call
from bench.namespaces import namespaces, path_of
from bench.peers import Peer


@dataclass(frozen=True)
class Contender:
    """What stands in the figure, and how its plugin is called in its node."""

    name: str
    node: str
    plugin: str
    config: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)

    def call(self, command: str, pod: str, container: str, ifname: str = "eth0") -> Call:
        """As a runtime calls it. pod: a namespace by name."""
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": path_of(pod),
            "CNI_IFNAME": ifname,
            "CNI_PATH": str(Path(self.plugin).parent),
            "PATH": os.environ["PATH"],
        }
        return Call.prepared(self.plugin, self.config, environment | dict(self.environment))


def bridge_config(name: str, subnet: str, folder: Path, masquerade: bool) -> dict[str, Any]:
    """The reference bridge as an administrator sets it up for pods: gateway on the bridge, default route, addresses by host-local."""
    ipam = {"type": "host-local", "dataDir": str(folder), "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "1.0.0",
        "name": name,
        "type": "bridge",
        "bridge": name,
        "isGateway": True,
        "ipMasq": masquerade,
        "ipam": ipam,
    }


@contextmanager
def reference(peer: Peer, folder: Path) -> Iterator[list[Contender]]:
    """The Go plugins, without and with masquerade, each in a node of its own."""
    with namespaces("ref", "refmasq") as (plain, masquerading):
        yield [
            Contender(peer.name, plain, str(peer.folder / "bridge"), bridge_config("ref0", "10.210.0.0/16", folder, False)),
            Contender(
                f"{peer.name}, ipMasq", masquerading, str(peer.folder / "bridge"), bridge_config("ref1", "10.211.0.0/16", folder, True)
            ),
        ]
