"""A node of a test cluster: a machine as far as its programs can tell.

It has a network namespace, and a mount namespace in which the folders that programs of a node write to are its own, at the paths they
have on any machine: /run, /var/log, and in /etc, /opt and /var/lib what ALONE names. Everything else there is a link to the machine's.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from deploy.demo.processes import Program
from deploy.kube_build.groups import CNI, CONTAINERD, MULTUS, program
from fabricmgr.agent import conflist
from fabricmgr.agent.install import conf_file
from tests.support import pause
from tests.support.kube import machine
from tests.support.kube.control import DIRECT
from tests.support.kube.options import DNS, NETWORK, PODS, Options
from tests.support.node_agent import ROOT, Node, Process, wait_for
from tests.support.site import SiteManager

ALONE = {
    "/etc": ("machine-id", "cni", "fabricmgr-test-node"),
    "/opt": ("cni", "containerd"),
    "/var/lib": ("cni", "containerd", "fabricmgr", "fabricmgr-agent", "kubelet"),
}
WHOLE = ("/run", "/var/log")
MARK = "etc/fabricmgr-test-node"
METRICS = "127.0.0.1:9431"
RUNTIME_METRICS = "127.0.0.1:9432"
# $0: the node's folder. A holder keeps the namespace; `rshared`, since containers' mounts must be seen by the kubelet and by containerd.
BECOME = """set -e
for folder in /etc /opt /var/lib; do mount --bind $folder $0/machine$folder; mount --bind $0/own$folder $folder; done
for folder in /run /var/log; do mount --bind $0/own$folder $folder; done
mount --make-rshared /
touch $0/ready
exec sleep infinity"""
# No image but ours, no registry; node's loopback without a plugin.
CONTAINERD_TOML = """version = 3
imports = []
[metrics]
  address = '{metrics}'
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.cri.v1.images']
  snapshotter = '{snapshotter}'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{image}'
[plugins.'io.containerd.cri.v1.runtime']
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/opt/cni/bin', '{plugins}', '{multus}']
    conf_dir = '/etc/cni/net.d'
    use_internal_loopback = true
"""
KUBELET_YAML = """apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failCgroupV1: false
enforceNodeAllocatable: []
failSwapOn: false
resolvConf: ""
clusterDNS: [{dns}]
clusterDomain: cluster.local
hairpinMode: none
makeIPTablesUtilChains: false
maxPods: 250
registryPullQPS: 0
kubeAPIQPS: 100
kubeAPIBurst: 200
volumePluginDir: /var/lib/kubelet/volume-plugins
imageGCHighThresholdPercent: 100
evictionHard: {{nodefs.available: 1%, imagefs.available: 1%, memory.available: 50Mi}}
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
staticPodPath: {static}
"""
# The machine's limits of connection tracking are not a test's to change.
NO_LIMITS = (
    "--conntrack-max-per-core=0",
    "--conntrack-min=0",
    "--conntrack-tcp-timeout-established=0",
    "--conntrack-tcp-timeout-close-wait=0",
)


@dataclass
class KubeNode(Node):
    """name: in the cluster and at the manager. directory: all its files. The agent has its usual paths, and so has every program."""

    name: str = ""
    number: int = 1
    cgroup: str = ""
    options: Options = field(default_factory=Options)
    programs: dict[str, Program] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.own = self.directory / "own"
        self.run_dir, self.data_dir = self.own / "run/fabricmgr", self.own / "var/lib/fabricmgr-agent"
        self.manager_dir = self.directory
        self.manager = Process([], self.directory / "none")
        self.agent = Process([], self.directory / "agent.log")

    @property
    def flags(self) -> list[str]:
        """None: on a machine of its own everything lies where it lies by default."""
        return []

    # --- the machine ---

    def become(self) -> None:
        """Make its folders and its mount namespace."""
        self.make_folders()
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", BECOME, str(self.directory)]
        self.programs["holder"] = Program("holder", self.ns.command(*words), self.directory / "holder.log")
        self.programs["holder"].start()
        wait_for(f"{self.name} is a machine", (self.directory / "ready").exists)
        holder = self.programs["holder"].process
        assert holder is not None
        inside = [*self.inside(sys.executable, "-m", "fabricmgr", "agent"), *self.flags, "--log-format=text"]
        self.agent = Process(inside, self.directory / "agent.log")

    def make_folders(self) -> None:
        for folder, alone in ALONE.items():
            own, theirs = self.own / folder[1:], self.directory / "machine" / folder[1:]
            own.mkdir(parents=True)
            theirs.mkdir(parents=True)
            for entry in Path(folder).iterdir():
                if entry.name not in alone:
                    (own / entry.name).symlink_to(theirs / entry.name)
        for folder in (*WHOLE, "/run/fabricmgr", "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/kubelet", "/var/lib/cni"):
            (self.own / folder[1:]).mkdir(parents=True, exist_ok=True)
        (self.own / "etc/machine-id").write_text(f"{uuid4().hex}\n")
        (self.own / MARK).write_text(str(self.directory))

    def inside(self, *words: str) -> list[str]:
        """The words to run a command on this machine."""
        holder = self.programs["holder"].process
        assert holder is not None
        return ["nsenter", f"--target={holder.pid}", "--mount", "--net", "--", *words]

    def run(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """On this machine, within a minute. With `check`, AssertionError with what the command said when it fails."""
        done = subprocess.run(self.inside(*words), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{' '.join(words)} on {self.name}: {done.stderr}{done.stdout}"
        return done

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A `fabricmgr agent` command on this machine."""
        return self.run(sys.executable, "-m", "fabricmgr", "agent", *words, *self.flags, check=False)

    # --- the runtime and the kubelet ---

    def start_runtime(self) -> None:
        """containerd, and the pods' image in it. Raises Stopped when it does not answer within 30 s."""
        if "containerd" not in self.programs:
            config = self.directory / "containerd.toml"
            known = {"metrics": RUNTIME_METRICS, "image": pause.NAME, "plugins": CNI.folder, "multus": MULTUS.folder}
            config.write_text(CONTAINERD_TOML.format(**known, snapshotter=machine.snapshotter(self.directory)))
            self.adopt("containerd", str(program("containerd")), "-c", str(config))
        self.programs["containerd"].start()

    def await_runtime(self, image: Path) -> None:
        runtime = self.programs["containerd"]
        runtime.wait_until(lambda: "" if self.ctr("version").returncode == 0 else "it answers", 30, lambda _: None)
        done = self.ctr("-n", "k8s.io", "images", "import", "--no-unpack", str(image))
        assert done.returncode == 0, done.stderr

    def ctr(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.run(str(program("ctr")), "--connect-timeout=1s", *words, check=False)

    @property
    def static_pods(self) -> Path:
        """Where its kubelet finds pods in files."""
        return self.directory / "static"

    def start_kubelet(self, kubeconfig: Path) -> None:
        machine.make_cgroup(self.cgroup)
        config = self.directory / "kubelet.yaml"
        self.static_pods.mkdir(exist_ok=True)
        config.write_text(KUBELET_YAML.format(cgroup=self.cgroup, dns=DNS[self.options.families[0]], static=self.static_pods))
        flags = [f"--config={config}", f"--kubeconfig={kubeconfig}", f"--hostname-override={self.name}"]
        self.adopt("kubelet", str(program("kubelet")), *flags, f"--node-ip={','.join(self.addresses)}").start()

    def start_proxy(self, kubeconfig: Path, mode: str = "") -> None:
        """In a mode, else in the cluster's. A former one of another mode takes its rules away first."""
        flags = [f"--kubeconfig={kubeconfig}", f"--hostname-override={self.name}", f"--proxy-mode={mode or self.options.proxy}"]
        if former := self.programs.get("kube-proxy"):
            former.stop()
            self.run(str(program("kube-proxy")), *flags, "--cleanup")
        self.adopt("kube-proxy", str(program("kube-proxy")), *flags, f"--cluster-cidr={self.options.ranges(PODS)}", *NO_LIMITS).start()

    def adopt(self, name: str, *words: str) -> Program:
        path = f"{CONTAINERD.folder}:{os.environ['PATH']}"
        made = Program(name, self.inside(*words), self.directory / f"{name}.log", {"PATH": path, **DIRECT})
        self.programs[name] = made
        return made

    @property
    def addresses(self) -> list[str]:
        """Its own, in the order of the cluster's families."""
        return self.options.node_addresses(self.number)

    # --- the pods' network ---

    def join_as(self, manager: SiteManager, cluster: str = "default") -> None:
        """Enrol the agent with a token, as an administrator does, and put plugin and network list in place."""
        token = self.directory / "token"
        token.touch(0o600)
        token.write_text(manager.ask("POST", f"/v1/clusters/{cluster}/nodes", {"name": self.name})["token"])
        done = self.command("join", "--manager", manager.url, "--token-file", str(token))
        assert done.returncode == 0, done.stderr
        self.install(NETWORK)

    def install(self, network: str) -> None:
        """Make it the network of pods that come from now on; wait for an agent that runs to have said so to the runtime."""
        done = self.command("install", "--network", network)
        assert done.returncode == 0, done.stderr
        if self.agent.running is not None:
            wait_for("the list is the network's", lambda: self.lists() == [conf_file(network)], 20)

    def lists(self) -> list[str]:
        """The network lists that the runtime sees, by file name; the first one counts."""
        return sorted(path.name for path in (self.own / "etc/cni/net.d").glob("*.conflist") if not path.name.startswith("."))

    def listed(self, name: str, plugins: Sequence[Mapping[str, Any]], network: str = NETWORK) -> Path:
        """A network list of an administrator's own, by its file name: `00-...` comes before the agent's."""
        path = self.own / "etc/cni/net.d" / name
        document = {"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": network, "plugins": list(plugins)}
        conflist.write(path, json.dumps(document).encode(), 0o644)
        return path

    def start_agent(self, environment: Mapping[str, str] | None = None) -> None:
        super().start_agent({"FABRICMGR_AGENT_METRICS_LISTEN": METRICS, **(environment or {})})

    def runtime_metric(self, name: str) -> float:
        """What containerd counts, by the whole name of a series; 0 where it is not there yet."""
        return series(self.scraped(f"{RUNTIME_METRICS}/v1/metrics"), name)

    def agent_metric(self, name: str) -> float:
        """The same of the agent."""
        return series(self.scraped(f"{METRICS}/metrics"), name)

    def calls(self) -> dict[str, int]:
        """CNI calls that the agent answered since it began, by command and code: `{"ADD 0": 3}`."""
        text = self.scraped(f"{METRICS}/metrics")
        found = re.finditer(r'^fabricmgr_agent_cni_calls_total{code="(\d+)",command="(\w+)"} (\S+)', text, re.MULTILINE)
        return {f"{match[2]} {match[1]}": int(float(match[3])) for match in found}

    def scraped(self, where: str) -> str:
        return self.run("curl", "-s", "--noproxy", "*", f"http://{where}").stdout

    # --- down ---

    def close(self) -> None:
        """End everything of this machine, at once: nobody is to come back."""
        end_machine(self.directory)
        for made in self.programs.values():
            made.stop()
        if self.agent.words:
            self.agent.kill()


def series(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def pids_of(directory: Path) -> set[int]:
    """Every process of a machine, by its node's folder: those whose root is the machine's, and containers, which are below those."""
    parents = {pid: parent_of(pid) for pid in machine.processes()}
    found = {pid for pid in parents if is_on(pid, directory)}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def is_on(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/root/{MARK}").read_text() == str(directory)
    except OSError:
        return False


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def end_machine(directory: Path) -> None:
    """Kill what runs on it, until nothing does: a process may have had a child meanwhile. Its mounts go with the last one."""
    ends = time.monotonic() + 20
    while left := pids_of(directory):
        assert time.monotonic() < ends, f"still running on the machine in {directory}: {left}"
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
