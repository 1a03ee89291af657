"""Who is tried by the conformance cases: our two shims before one real agent, and the Go reference plugins as control.

All are called as a runtime calls them: a process in the node's namespace, an environment, a configuration on stdin.
"""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from fabricmgr.agent.plugin import PLUGIN
from fabricmgr.agent.records import Stage
from tests.support.netns import Namespace
from tests.support.node_agent import wait_for
from tests.support.shims import Printed
from tests.support.site import SiteNode

OURS = ("python", "static")
CONTROL = "go"
VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
# Networks that every subject has: their prefixes. `tiny` has room for five or six pods.
NETWORKS: Mapping[str, tuple[str, ...]] = {
    "dual": ("10.77.0.0/16", "2001:db8:77::/112"),
    "four": ("10.78.0.0/16",),
    "six": ("2001:db8:78::/112",),
    "masked": ("10.79.0.0/16",),
    "tiny": ("10.80.0.0/29",),
}
# Of the Go module; interface plugin, addresses, and those that are chained behind.
PARTS = ("main/bridge", "main/ptp", "ipam/host-local", "meta/portmap", "meta/bandwidth", "meta/tuning", "meta/firewall")


@dataclass
class Subject:
    """One plugin on one node."""

    kind: str
    node: Namespace
    plugin: Path

    @property
    def ours(self) -> bool:
        return self.kind != CONTROL

    def container(self) -> str:
        """A new container id."""
        return f"{self.kind}-{uuid4().hex}"

    def config(self, network: str = "dual", version: str = "1.1.0", **keys: object) -> dict[str, object]:
        """A network's configuration as a runtime hands it on. None takes a key out."""
        whole = {"cniVersion": version, "name": network, **self.own_keys(network), **keys}
        return {key: value for key, value in whole.items() if value is not None}

    def own_keys(self, network: str) -> dict[str, object]:
        """What the plugin's own configuration of a network says."""
        raise NotImplementedError

    def own_environment(self) -> dict[str, str]:
        """Variables beside those of CNI."""
        return {}

    def held(self, container: str) -> set[str]:
        """Addresses that the plugin's own records hold for a container."""
        raise NotImplementedError

    def links(self) -> set[str]:
        """Names of the host ends of pods' links, those that only wait to be deleted left out."""
        shown = json.loads(self.node.run("ip", "-j", "link", "show", "type", "veth").stdout)
        return {link["ifname"] for link in shown if link["ifname"] != "uplink" and not link["ifname"].startswith("fmx")}

    def call(
        self, command: str, config: Mapping[str, object] | bytes, container: str = "", netns: str = "", *, ifname: str = "eth0", **env: str
    ) -> Printed:
        """One call. env: further variables, which win; an empty text leaves one out."""
        given = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": ifname,
            "CNI_PATH": str(self.plugin.parent),
            "PATH": os.environ["PATH"],
            **self.own_environment(),
            **env,
        }
        environment = {name: text for name, text in given.items() if text}
        stdin = config if isinstance(config, bytes) else json.dumps(config).encode()
        began = time.monotonic()
        done = subprocess.run(
            self.node.command(str(self.plugin)), env=environment, input=stdin, capture_output=True, timeout=60, check=False
        )
        return Printed(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def add(
        self, container: str, pod: Namespace, network: str = "dual", version: str = "1.1.0", ifname: str = "eth0", **keys: Any
    ) -> Printed:
        return self.call("ADD", self.config(network, version, **keys), container, pod.path, ifname=ifname)

    def delete(
        self, container: str, netns: str = "", network: str = "dual", version: str = "1.1.0", ifname: str = "eth0", **keys: Any
    ) -> Printed:
        return self.call("DEL", self.config(network, version, **keys), container, netns, ifname=ifname)

    def check(self, container: str, pod: Namespace, prev: object, network: str = "dual", version: str = "1.1.0", **keys: Any) -> Printed:
        return self.call("CHECK", self.config(network, version, prevResult=prev, **keys), container, pod.path)


@dataclass
class Shim(Subject):
    """One of our shims, and the agent it calls."""

    agent: SiteNode

    def own_keys(self, network: str) -> dict[str, object]:
        return {"type": PLUGIN, **({"ipMasq": True} if network == "masked" else {})}

    def own_environment(self) -> dict[str, str]:
        return {"FABRICMGR_SOCKET": str(self.agent.run_dir / "agent.sock")}

    def held(self, container: str) -> set[str]:
        found = self.agent.state().attachments
        mine = [each.place.owned.addresses for key, each in found.items() if key[1] == container and each.stage is not Stage.GOING]
        return {each.address for addresses in mine for each in addresses}


@dataclass
class Reference(Subject):
    """The Go bridge plugin with host-local. leases: where host-local keeps its records."""

    leases: Path
    name: str

    def __str__(self) -> str:
        return self.name

    def own_keys(self, network: str) -> dict[str, object]:
        return {"type": "bridge", "bridge": f"go-{network}", "isGateway": True, "ipMasq": network == "masked", "ipam": self.ipam(network)}

    def ipam(self, network: str) -> dict[str, object]:
        prefixes = NETWORKS[network]
        ways = [{"dst": "::/0" if ":" in prefix else "0.0.0.0/0"} for prefix in prefixes]
        ranges = [[{"subnet": prefix}] for prefix in prefixes]
        return {"type": "host-local", "dataDir": str(self.leases), "routes": ways, "ranges": ranges}

    def held(self, container: str) -> set[str]:
        files = [file for file in self.leases.glob("*/*") if file.name != "lock" and not file.name.startswith("last_reserved")]
        return {file.name for file in files if file.read_text().split()[:1] == [container]}


# --- what was printed --------------------------------------------------------------------------------------------------------


def succeeded(printed: Printed) -> dict[str, Any]:
    """The result of a call that must succeed."""
    assert printed.exit == 0, f"it failed: {printed.stdout.decode()} {printed.stderr.decode()}"
    found: dict[str, Any] = json.loads(printed.stdout or b"{}")
    return found


def refused(printed: Printed) -> tuple[int, str]:
    """Code and message of a call that must fail with one error object on stdout."""
    assert printed.exit == 1, f"it did not fail: exit {printed.exit} {printed.stdout.decode()} {printed.stderr.decode()}"
    try:
        found = json.loads(printed.stdout)
    except ValueError:
        raise AssertionError(f"not one JSON document on stdout: {printed.stdout.decode()}") from None
    assert found.get("msg"), f"an error object without a message: {found}"
    return found["code"], found["msg"]


def addresses(result: Mapping[str, Any]) -> list[str]:
    """Addresses of a result, without their prefix lengths."""
    return [ip["address"].partition("/")[0] for ip in result["ips"]]


def until_gone(subject: Subject, name: str) -> None:
    """Until a link of the host is deleted: ours are a moment after the answer."""
    wait_for(f"link {name} is gone", lambda: name not in subject.links())
