"""One node of the demo: its agent, with an identity of its own, and the pods it attaches through the shim."""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from deploy.demo.lab import Lab
from deploy.demo.processes import Program, Stopped

CNI_VERSION = "1.1.0"
# Two nodes on one machine need two machine ids: each agent's mount namespace has an /etc of links into the real one, but for that file.
OWN_ETC = 'mount --bind /etc "$1/host-etc" && mount --bind "$1/etc" /etc && shift && exec "$@"'


@dataclass(frozen=True)
class Pod:
    """A pod that is attached. milliseconds: what the ADD took, the start of the plugin included."""

    name: str
    node: str
    container: str
    addresses: list[str]
    mac: str
    milliseconds: float


@dataclass
class DemoNode:
    """A network namespace that plays a machine."""

    lab: Lab
    name: str
    network: str

    @property
    def keep(self) -> Path:
        return self.lab.place.keep / self.name

    @property
    def run(self) -> Path:
        return self.lab.place.run / self.name / "run"

    @property
    def plugins(self) -> Path:
        return self.run / "bin"

    @property
    def conflists(self) -> Path:
        return self.run / "net.d"

    @property
    def settings(self) -> list[str]:
        return ["--data-dir", str(self.keep / "data"), "--run-dir", str(self.run)]

    def enrolled(self, url: str, authorities: Path) -> bool:
        """Whether it is a node of this very manager, with a certificate that is good for longer."""
        data = self.keep / "data"
        try:
            about = json.loads((data / "identity.json").read_text())
            same = about["manager"] == url and (data / "authorities.pem").read_text() == authorities.read_text()
        except (OSError, ValueError):
            return False
        return same and datetime.fromisoformat(about["renew_at"]) > datetime.now(UTC)

    def words(self, *command: str) -> list[str]:
        """A command as this machine would run it: in its network, under its machine id."""
        inside = ["nsenter", f"--net={self.lab.path(self.name)}", "unshare", "--mount", "--propagation", "private"]
        return [*inside, "sh", "-c", OWN_ETC, "node", str(self.run), str(self.lab.place.program), *command]

    def prepare(self) -> None:
        for folder in (self.keep, self.run, self.run / "host-etc", self.plugins, self.conflists):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in self.conflists.glob("*.conflist"):
            old.unlink()
        self.make_etc()

    def make_etc(self) -> None:
        etc = self.run / "etc"
        shutil.rmtree(etc, ignore_errors=True)
        etc.mkdir()
        for entry in Path("/etc").iterdir():
            if entry.name != "machine-id":
                (etc / entry.name).symlink_to(self.run / "host-etc" / entry.name)
        identity = uuid5(NAMESPACE_OID, f"{self.lab.place.mark} {self.name}")
        (etc / "machine-id").write_text(f"{identity.hex}\n")

    @cached_property
    def agent(self) -> Program:
        command = [*self.words("agent"), *self.settings]
        return Program(f"agent of {self.name}", command, self.keep / "agent.log", {"FABRICMGR_AGENT_LOG_FORMAT": "text"})

    def waits_for(self) -> str:
        """What stands between now and the first pod; empty when there is nothing. CNI STATUS says whether an ADD would succeed."""
        if not list(self.conflists.glob("*.conflist")):
            return "the agent can serve and writes the network's configuration"
        try:
            self.call("STATUS", self.name, "")
        except Stopped as stopped:
            return str(stopped)
        return ""

    def call(self, command: str, pod: str, container: str) -> tuple[str, float]:
        """Call the plugin as a container runtime does: what it printed, and the milliseconds it took. Stopped when it fails."""
        environment = {
            "PATH": os.environ["PATH"],
            "FABRICMGR_SOCKET": str(self.run / "agent.sock"),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": self.lab.path(pod),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.plugins),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME={pod};K8S_POD_UID={container}",
        }
        config = json.dumps(self.configuration())
        began = time.perf_counter()
        done = subprocess.run([self.plugins / "fabricmgr-cni"], input=config, env=environment, capture_output=True, text=True, check=False)
        took = (time.perf_counter() - began) * 1e3
        if done.returncode != 0:
            raise Stopped(f"{command} of {pod} on {self.name}: {done.stdout or done.stderr}")
        return done.stdout, took

    def configuration(self) -> dict[str, Any]:
        """What a runtime makes of the conflist that the agent wrote: the list's name and version in its one plugin."""
        listed = json.loads(next(iter(sorted(self.conflists.glob("*.conflist")))).read_text())
        return {**listed["plugins"][0], "name": listed["name"], "cniVersion": CNI_VERSION}

    def attach(self, pod: str, container: str) -> Pod:
        printed, took = self.call("ADD", pod, container)
        result = json.loads(printed)
        mac = next(each["mac"] for each in result["interfaces"] if each.get("sandbox"))
        addresses = [each["address"].partition("/")[0] for each in result["ips"]]
        return Pod(pod, self.name, container, addresses, mac, took)

    def detach(self, pod: Pod) -> None:
        self.call("DEL", pod.name, pod.container)
