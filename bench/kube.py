"""What the pods' network costs a pod on a real cluster: ours and the CNI project's own plugins, paired in one run: `make bench-kube`.

Two clusters of two nodes stand side by side, equal but for the network. Single pods are made in turns, in an order drawn anew: of the time
from RunPodSandbox (as the runtime logs it) until the pod is Ready (as a watcher sees it), the network's part is what the runtime measures
for its setup, its own work for it included; of that, the agent's part is from the frame of an ADD to the answer. Then many pods are made
at once, in turns too: the time from `kubectl apply` until the last one is Ready.
"""

import argparse
import platform
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from uuid import uuid4

from bench.figures import paired_ratio, percentile, table
from deploy.kube_build.groups import program
from tests.support.kube import objects
from tests.support.kube.cluster import Cluster, cluster
from tests.support.kube.control import DIRECT
from tests.support.kube.node import KubeNode
from tests.support.kube.options import Options
from tests.support.tiers import kubernetes

SETUP = "containerd_cri_sandbox_create_network_seconds"
IN_AGENT = 'fabricmgr_agent_cni_call_seconds_{}{{command="ADD"}}'
BEGAN = time.monotonic()
LIMIT = 300.0
READY = 'jsonpath={.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}'


def say(sentence: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {sentence}", file=sys.stderr, flush=True)


class Watcher:
    """When each pod was first seen Ready, in seconds of the clock that logs use. A thread reads, and asks again where kubectl's watch has
    ended: an API server closes one whose reader is too slow for a burst."""

    def __init__(self, made: Cluster):
        self.made = made
        self.ready: dict[str, float] = {}
        self.news = threading.Condition()
        self.closing = False
        self.process = self.ask()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def ask(self) -> subprocess.Popen[str]:
        cache = f"--cache-dir={self.made.folder / 'kubectl-cache'}"
        words = [str(program("kubectl")), f"--kubeconfig={self.made.kubeconfig}", cache, "get", "pods", "--watch", "-o", READY]
        return subprocess.Popen(self.made.hub.command(*words), stdout=subprocess.PIPE, text=True, env=DIRECT)

    def watch(self) -> None:
        while True:
            self.read(self.process.stdout or ())
            self.process.wait()
            with self.news:
                if self.closing:
                    return
                say(f"{self.made.hub.name}: the watch of pods ended ({self.process.returncode}), and is begun again")
                time.sleep(0.2)
                self.process = self.ask()

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            name, _, ready = line.strip().partition(" ")
            if ready == "True":
                with self.news:
                    self.ready.setdefault(name, time.time())
                    self.news.notify_all()

    def until(self, prefix: str, count: int) -> list[float]:
        """When pods of a prefix were Ready, once there are so many. AssertionError after LIMIT seconds."""
        with self.news:
            enough = self.news.wait_for(lambda: len(self.times(prefix)) >= count, LIMIT)
            assert enough, f"of {count} pods {len(self.times(prefix))} were Ready after {LIMIT:.0f} s: {self.others(prefix)}"
            return self.times(prefix)

    def times(self, prefix: str) -> list[float]:
        return [at for name, at in self.ready.items() if name.startswith(prefix)]

    def others(self, prefix: str) -> str:
        """What the API server says of those that are not Ready, and of the nodes."""
        pods = [each for each in self.made.pods(prefix) if each["metadata"]["name"] not in self.ready]
        said = Counter(str([(each["type"], each.get("message", "")) for each in pod["status"].get("conditions", [])]) for pod in pods)
        return f"{said.most_common(3)}; nodes: {[each['spec'].get('taints') for each in self.made.items('nodes')]}"

    def close(self) -> None:
        with self.news:
            self.closing = True
            self.process.kill()
        self.thread.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()


@dataclass
class Contender:
    """whole, setup, agent: seconds of each single pod. bursts: seconds of each burst. burst_setup: mean seconds of a setup in each."""

    name: str
    made: Cluster
    watcher: Watcher
    setup: list[float] = field(default_factory=list)
    agent: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    bursts: list[float] = field(default_factory=list)
    burst_setup: list[float] = field(default_factory=list)

    def network_setup(self) -> tuple[float, float]:
        """Seconds and pods so far, on all nodes."""
        nodes = self.made.nodes
        return sum(node.runtime_metric(f"{SETUP}_sum") for node in nodes), sum(node.runtime_metric(f"{SETUP}_count") for node in nodes)

    def setup_since(self, before: tuple[float, float]) -> float:
        """Mean seconds of a pod's setup."""
        seconds, pods = self.network_setup()
        return (seconds - before[0]) / max(pods - before[1], 1)

    def agent_seconds(self) -> float:
        """In ADDs so far, on all nodes; 0 where there is no agent."""
        nodes = [] if self.made.options.reference else self.made.nodes
        return sum(node.agent_metric(IN_AGENT.format("sum")) for node in nodes)

    def one(self, counts: bool) -> None:
        name, node = f"one-{uuid4().hex[:8]}", random.SystemRandom().choice(self.made.nodes)
        before, before_agent = self.network_setup(), self.agent_seconds()
        self.made.apply(objects.pod(name, spec={"nodeName": node.name}))
        [ready] = self.watcher.until(name, 1)
        if counts:
            self.whole.append(ready - begun(node, name))
            self.setup.append(self.setup_since(before))
            self.agent.append(self.agent_seconds() - before_agent)
        self.made.delete("pod", name)

    def burst(self, pods: int) -> None:
        name, before = f"many-{uuid4().hex[:8]}", self.network_setup()
        began = time.time()
        self.made.apply(objects.deployment(name, pods, serves=False))
        took = max(self.watcher.until(name, pods)) - began
        self.bursts.append(took)
        self.burst_setup.append(self.setup_since(before))
        self.made.delete("deployment", name)
        self.made.kubectl("wait", "--for=delete", "pod", "-l", f"app={name}", f"--timeout={LIMIT:.0f}s")


def begun(node: KubeNode, pod: str) -> float:
    """When the runtime was asked for a pod's sandbox, by its log."""
    text = (node.directory / "containerd.log").read_text(errors="replace")
    found = re.search(rf'^time="([^"]+)" level=info msg="RunPodSandbox for [^\n]*{pod}', text, re.MULTILINE)
    assert found, f"the runtime of {node.name} has not logged the sandbox of {pod}"
    return datetime.fromisoformat(found[1][:26] + "+00:00").timestamp()


@contextmanager
def contender(name: str, options: Options) -> Iterator[Contender]:
    with cluster(options, lambda sentence: say(f"{name}: {sentence}")) as made:
        watcher = Watcher(made)
        try:
            yield Contender(name, made, watcher)
        finally:
            watcher.close()


def singles(contenders: Sequence[Contender]) -> str:
    rows = [["single pods", "to Ready p50 ms", "p95", "network p50 ms", "p95", "share", "agent p50 ms", "share", "first/this"]]
    for each in contenders:
        cells = [each.name]
        for samples in (each.whole, each.setup):
            cells += [f"{median(samples) * 1e3:.1f}", f"{percentile(samples, 0.95) * 1e3:.1f}"]
        cells += [share(each.setup, each.whole), f"{median(each.agent) * 1e3:.1f}", share(each.agent, each.whole)]
        rows.append([*cells, f"{paired_ratio(contenders[0].whole, each.whole):.2f}"])
    return table(rows)


def share(parts: Sequence[float], wholes: Sequence[float]) -> str:
    return f"{median(part / whole for part, whole in zip(parts, wholes, strict=True)):.1%}"


def bursts_of(contenders: Sequence[Contender], pods: int) -> str:
    rows = [[f"{pods} pods at once", "s p50", "pods/s", "network mean ms", "first/this"]]
    for each in contenders:
        middle, ratio = median(each.bursts), paired_ratio(contenders[0].bursts, each.bursts)
        rows.append([each.name, f"{middle:.1f}", f"{pods / middle:.1f}", f"{median(each.burst_setup) * 1e3:.0f}", f"{ratio:.2f}"])
    return table(rows)


def run(rounds: int, bursts: int, pods: int, seconds: float) -> str:
    with ExitStack() as stack:
        ours = stack.enter_context(contender("fabricmgr", Options(families=(4,))))
        theirs = stack.enter_context(contender("bridge, host-local", Options(families=(4,), reference=True)))
        chance = random.Random()
        for number in range(rounds + 1):
            # The first round makes bridges and page caches: it is not counted.
            for each in chance.sample((ours, theirs), 2):
                each.one(counts=number > 0)
        say(f"{rounds} single pods each")
        burst_after_burst(chance, (ours, theirs), bursts, pods, seconds)
        parts = [singles((theirs, ours)), *([bursts_of((theirs, ours), pods)] if bursts else [])]
        return "\n\n".join(parts)


def burst_after_burst(chance: random.Random, contenders: Sequence[Contender], bursts: int, pods: int, seconds: float) -> None:
    """Fewer, where another one would not end within so many seconds of the bench's beginning."""
    for number in range(1, bursts + 1):
        began = time.monotonic()
        for each in chance.sample(contenders, len(contenders)):
            each.burst(pods)
        say(f"burst {number} of {bursts}")
        if seconds and 2 * time.monotonic() - began - BEGAN > seconds:
            return


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench-kube", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=20, help="of single pods (%(default)s)")
    parser.add_argument("--bursts", type=int, default=3, help="of many pods at once (%(default)s)")
    parser.add_argument("--pods", type=int, default=200, help="in a burst, on two nodes (%(default)s)")
    parser.add_argument("--minutes", type=float, default=0, help="at most, as far as bursts go; 0 for as long as it takes (the default)")
    given = parser.parse_args(words)
    if reason := kubernetes():
        print(f"A cluster can't run here: {reason}", file=sys.stderr)
        return 1
    # So that the clusters are removed.
    signal.signal(signal.SIGTERM, interrupt)
    found = run(given.rounds, given.bursts, given.pods, given.minutes * 60)
    print(f"{platform.machine()}, Linux {platform.release()}, Kubernetes 1.37.2, two nodes each, IPv4\n\n{found}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
