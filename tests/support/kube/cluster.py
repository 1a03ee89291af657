"""A whole Kubernetes on one machine: control plane, manager and nodes in namespaces of their own, with fabricmgr as the pods' network.

The hub's namespace is the segment that all nodes are on; control plane and manager run in it, and a client there is one outside the
cluster: it knows no way to a pod.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.support import pause, scratch
from tests.support.kube import machine, manifests, reference, remains
from tests.support.kube.control import ControlPlane
from tests.support.kube.node import KubeNode
from tests.support.kube.options import NETWORK, PODS, Options
from tests.support.netns import Namespace, namespace
from tests.support.node_agent import wait_for
from tests.support.shims import build
from tests.support.site import SiteManager, plug, prepare_world

Json = dict[str, Any]
Say = Callable[[str], None]


@dataclass
class Cluster:
    """folder: all its files, under a name of its own, which its cgroups carry too. manager: not started with the reference plugins."""

    folder: Path
    hub: Namespace
    options: Options
    control: ControlPlane
    manager: SiteManager
    nodes: list[KubeNode] = field(default_factory=list)

    # --- asking Kubernetes ---

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator; certificate and token are inline. The server is reached from the hub's namespace and from the nodes."""
        return self.control.kubeconfig()

    def kubectl(self, *words: str, given: str = "") -> str:
        """What it printed. KubectlFailed, an AssertionError, with what it complained of."""
        return self.control.kubectl(*words, given=given)

    def get(self, *words: str) -> Any:
        """`kubectl get ... -o json`, parsed."""
        return self.control.get(*words)

    def items(self, *words: str) -> list[Json]:
        """The objects of a list."""
        found: list[Json] = self.get(*words)["items"]
        return found

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Objects as `kubectl apply -f` takes them."""
        self.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))

    def delete(self, *words: str, seconds: int = 120) -> None:
        """Delete, and wait until it is gone."""
        self.kubectl("delete", "--ignore-not-found", "--wait", f"--timeout={seconds}s", *words)

    def pods(self, app: str, namespace: str = "default") -> list[Json]:
        """By the label `app`."""
        return self.items("pods", "-n", namespace, "-l", f"app={app}")

    def rolled_out(self, app: str, namespace: str = "default", seconds: int = 120) -> list[Json]:
        """Wait until every pod of a Deployment of this name is ready; the pods."""
        self.kubectl("rollout", "status", f"deployment/{app}", "-n", namespace, f"--timeout={seconds}s")
        return [pod for pod in self.pods(app, namespace) if "deletionTimestamp" not in pod["metadata"]]

    def ready_nodes(self) -> set[str]:
        """Names of the nodes that are Ready."""
        return {each["metadata"]["name"] for each in self.items("nodes") if condition(each, "Ready") == "True"}

    # --- on the nodes and in pods ---

    def node(self, name: str) -> KubeNode:
        """KeyError for one that is not there."""
        return {each.name: each for each in self.nodes}[name]

    def node_of(self, pod: Json) -> KubeNode:
        return self.node(pod["spec"]["nodeName"])

    def in_pod(self, pod: Json, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of this machine in a pod's network, whatever becomes of it."""
        line = ["nsenter", f"--target={self.pid(pod)}", "--net", "--", *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    def pid(self, pod: Json) -> int:
        """A process of the pod, by its cgroup: its path ends with the pod's uid before the container's."""
        uid = pod["metadata"]["uid"]
        for pid in machine.processes():
            try:
                if f"pod{uid}" in Path(f"/proc/{pid}/cgroup").read_text():
                    return pid
            except OSError:
                continue
        raise AssertionError(f"pod {pod['metadata']['name']} has no process")

    def ping(self, pod: Json, address: str) -> bool:
        """Whether an echo comes back to a pod; a new route may take a second to be there."""
        return until(lambda: self.in_pod(pod, "ping", "-n", "-q", "-c", "1", "-W", "1", address).returncode == 0, 5)

    def curl(self, where: "Json | Namespace", host: str, port: int = 8080) -> str:
        """What a pod's web server, or a Service, tells a client in a pod or in a namespace: the answering pod's name, "" for nothing."""
        words = ["curl", "-s", "--noproxy", "*", "--max-time", "2", f"http://{bracketed(host)}:{port}/"]
        done = where.run(*words, check=False) if isinstance(where, Namespace) else self.in_pod(where, *words)
        return done.stdout.strip()

    # --- up and down ---

    def bring_up(self, say: Say) -> None:
        """Until every node is Ready."""
        self.control.begin()
        if not self.options.reference:
            self.manager.process.start()
        image = pause.write_image(self.folder)
        for node in self.nodes:
            node.become()
            node.start_runtime()
        for node in self.nodes:
            node.await_runtime(image)
        self.control.complete()
        say("API server: ready")
        if self.options.reference:
            reference.install(self.nodes)
        else:
            self.bring_up_ours(say)
        for node in self.nodes:
            node.start_kubelet(self.control.kubeconfig(node.name))
            node.start_proxy(self.control.kubeconfig("proxy"))
        if self.options.as_pods:
            manifests.install(self, say)
        self.await_nodes(say)

    def bring_up_ours(self, say: Say) -> None:
        self.manager.wait_ready()
        say(f"manager: ready at {self.manager.url}")
        self.manager.make_network(
            NETWORK, *(PODS[family] for family in self.options.families), pool={"cooldown_seconds": self.options.cooldown}
        )
        if self.options.as_pods:
            return
        for node in self.nodes:
            node.join_as(self.manager)
            node.start_agent()
        for node in self.nodes:
            node.ready(NETWORK)
        say("agents: ready")

    def await_nodes(self, say: Say) -> None:
        wanted = {node.name for node in self.nodes}
        wait_for("every node is Ready", lambda: self.ready_nodes() == wanted, 60)
        # A pod needs the namespace's service account, which a controller makes.
        wait_for("pods may be made", lambda: self.control.run_kubectl("get", "serviceaccount", "default").returncode == 0, 30)
        say(f"nodes: {', '.join(sorted(wanted))} are Ready")

    def bring_down(self) -> None:
        """Whatever was brought up, and whatever failed of it."""
        with ExitStack() as stack:
            stack.callback(machine.remove_cgroups, self.folder.name)
            for node in self.nodes:
                stack.callback(node.close)
            stack.callback(self.manager.close)
            stack.callback(self.control.stop)

    def last_words(self) -> str:
        """The ends of all logs, for a failure."""
        logs = sorted(self.folder.rglob("*.log"))
        return "\n".join(f"--- {log.relative_to(self.folder)}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


def condition(thing: Json, kind: str) -> str:
    """The status of one condition: True, False, Unknown, or "" where it is not there."""
    return next((each["status"] for each in thing["status"].get("conditions", []) if each["type"] == kind), "")


def addresses(pod: Json) -> list[str]:
    """As the kubelet reported them."""
    return [each["ip"] for each in pod["status"].get("podIPs", [])]


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether it held in time."""
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def cluster(options: Options | None = None, say: Say = lambda _: None) -> Iterator[Cluster]:
    """A cluster whose nodes are Ready. All of it is gone afterwards, also after a failure; what an earlier one left that was killed too."""
    remains.sweep()
    with ExitStack() as stack:
        # Short: sockets lie below.
        folder = Path(mkdtemp(prefix=remains.PREFIX, dir=scratch.short()))
        stack.callback(shutil.rmtree, folder)
        remains.claim(folder)
        stack.enter_context(machine.kernel_settings_kept())
        made = prepared(stack, folder, options or Options())
        stack.callback(made.bring_down)
        try:
            made.bring_up(say)
        except BaseException:
            print(made.last_words())
            raise
        yield made


def prepared(stack: ExitStack, folder: Path, options: Options) -> Cluster:
    """Its parts, none of them started."""
    hub = stack.enter_context(noted(folder, "hub"))
    prepare_world(hub)
    for family in ("-4", "-6"):
        hub.run("ip", family, "route", "add", "default", "dev", "segment")
    names = [f"node{number}" for number in range(1, options.nodes + 1)]
    (folder / "manager").mkdir()
    made = Cluster(folder, hub, options, ControlPlane(hub, folder, options, names), SiteManager(hub, folder / "manager"))
    for number, name in enumerate(names, 1):
        ns = stack.enter_context(noted(folder, name))
        plug(hub, ns, number + 1)
        (folder / name).mkdir()
        made.nodes.append(
            KubeNode(ns, folder / name, build("static"), name=name, number=number, cgroup=f"{folder.name}/{name}", options=options)
        )
    return made


@contextmanager
def noted(folder: Path, role: str) -> Iterator[Namespace]:
    """A namespace whose name lies in the cluster's folder."""
    with namespace(role) as made:
        remains.note(folder, made.name)
        yield made
