"""CNI ADD and DEL, ours against the Go reference plugins, paired: `make bench-cni`, or `make bench-cni ARGS="--rounds 20"`.

Each round calls every contender once, in an order drawn anew, in network namespaces made before and removed after the timed part, with
the bridge already there. The next one's turn comes when the kernel has taken those namespaces down, so that nobody pays for another's. A
ratio is the median of the rounds' own ratios.
"""

import argparse
import json
import os
import platform
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

from bench.calls import timed
from bench.contenders import Contender, reference
from bench.figures import paired_ratio, percentile, table
from bench.namespaces import inside, namespaces, until_gone, witness
from bench.ours import CROWDED, MASQUERADING, PLAIN, OurNode, held, ours
from bench.peers import peer
from tests.support import scratch

BUILD = Path("build")
SETTLE = 0.2
"""Seconds between two timed parts: what a contender does after its answer must not be charged to the next one."""


@dataclass
class Experiment:
    """Contenders measured against the first of them, so many calls at once."""

    title: str
    contenders: Sequence[Contender]
    width: int
    rounds: int
    rest: float
    witness: str
    add: dict[str, list[float]] = field(default_factory=dict)
    delete: dict[str, list[float]] = field(default_factory=dict)

    def run(self, chance: random.Random) -> None:
        for number in range(self.rounds + 1):
            for contender in chance.sample(self.contenders, len(self.contenders)):
                added, deleted = one_round(contender, self.width, self.rest)
                until_gone(self.witness)
                # The first round makes bridges, tables and page caches: it is not counted.
                if number:
                    self.add.setdefault(contender.name, []).append(added)
                    self.delete.setdefault(contender.name, []).append(deleted)

    def report(self) -> str:
        first = self.contenders[0].name
        rows = [["", "ADD p50 ms", "p95", "first/this", "DEL p50 ms", "p95", "first/this", "ADD/s", "DEL/s"]]
        for each in self.contenders:
            add, delete = self.add[each.name], self.delete[each.name]
            cells = [each.name]
            for samples, base in ((add, self.add[first]), (delete, self.delete[first])):
                cells += [f"{median(samples) * 1e3:.2f}", f"{percentile(samples, 0.95) * 1e3:.2f}", f"{paired_ratio(base, samples):.2f}"]
            rows.append([*cells, f"{self.width / median(add):.0f}", f"{self.width / median(delete):.0f}"])
        return f"{self.title} ({self.rounds} rounds, {self.width} at once)\n{table(rows)}\n"


def one_round(contender: Contender, width: int, rest: float) -> tuple[float, float]:
    """Seconds that `width` ADDs started at once take, and their DELs. rest: seconds before."""
    with namespaces(*(f"p{number}" for number in range(width))) as pods:
        time.sleep(rest)
        ids = [uuid4().hex for _ in pods]
        with inside(contender.node):
            added = timed([contender.call("ADD", pod, container) for pod, container in zip(pods, ids, strict=True)])
            time.sleep(SETTLE)
            deleted = timed([contender.call("DEL", pod, container) for pod, container in zip(pods, ids, strict=True)])
        time.sleep(SETTLE)
    return added, deleted


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-cni", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=40, help="of single calls; 0 of any: none")
    parser.add_argument("--burst-rounds", type=int, default=8, help="of 32 calls at once")
    parser.add_argument("--masquerade-rounds", type=int, default=20, help="of single calls with masquerade")
    parser.add_argument("--growth-rounds", type=int, default=40, help="of single calls on nodes with few and with many pods")
    parser.add_argument("--rest", type=float, default=0.0, help="seconds between the making of a round's namespaces and its calls")
    parser.add_argument("--held", type=int, default=10, help="pods on each node before anything is timed")
    parser.add_argument("--many", type=int, default=4000, help="pods on the node with many")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000, help="of the order in each round")
    parser.add_argument("--json", type=Path, help="write all samples there, in seconds")
    return parser.parse_args()


def against_the_reference(asked: argparse.Namespace, folder: Path, node: OurNode, stack: ExitStack) -> list[Experiment]:
    """Both shims and the Go plugins, each node with the same number of pods before."""
    theirs, theirs_masquerading = stack.enter_context(reference(peer(BUILD), folder / "leases"))
    plain = [theirs, *shims(node, PLAIN)]
    masquerading = [theirs_masquerading, *shims(node, MASQUERADING)]
    for each in (*plain[:2], *masquerading[:2]):
        stack.enter_context(held(each, asked.held))
    node.rest()
    watch = stack.enter_context(witness())
    before = f"{asked.held} pods held before"
    return [
        Experiment(f"one at a time, ipMasq off, {before}", plain, 1, asked.rounds, asked.rest, watch),
        Experiment(f"in a burst, ipMasq off, {before}", plain, 32, asked.burst_rounds, asked.rest, watch),
        Experiment(f"one at a time, ipMasq on, {before}", masquerading, 1, asked.masquerade_rounds, asked.rest, watch),
    ]


def shims(node: OurNode, network: str) -> list[Contender]:
    """The same agent called by either."""
    return [
        node.contender("fabricmgr, static shim", node.shims.static, network),
        node.contender("fabricmgr, Python shim", node.shims.python, network),
    ]


def against_itself(asked: argparse.Namespace, few: OurNode, many: OurNode, stack: ExitStack) -> Experiment:
    """A node with few pods and one with many; there once on a bridge with few ports, and once on one of those that carry the many.

    The first comparison shows what the agent adds, the second what the kernel adds for a bridge's ports."""
    shim = many.shims.static
    crowd = [many.contender("", shim, network) for network in CROWDED]
    stack.enter_context(held(crowd[0], asked.many, crowd[1:]))
    many.rest()
    contenders = [
        few.contender(f"fabricmgr, static shim, {asked.held} held", shim),
        many.contender(f"fabricmgr, static shim, {asked.many} held", shim),
        many.contender(f"the same, on a bridge of {asked.many // len(CROWDED)} ports", shim, CROWDED[0]),
    ]
    return Experiment("growth, ipMasq off", contenders, 1, asked.growth_rounds, asked.rest, stack.enter_context(witness()))


def main() -> int:
    asked = arguments()
    if os.geteuid() != 0:
        print("network namespaces need root", file=sys.stderr)
        return 2
    print(f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, seed {asked.seed}\n", flush=True)
    chance = random.Random(asked.seed)
    # As /run, where journal and leases lie on a node; and a database of the manager that writes to this machine's disk would disturb all.
    scratch.use()
    with TemporaryDirectory(prefix="fm-bench-") as folder, ExitStack() as stack:
        few, many = stack.enter_context(ours(Path(folder), ("few", "many")))
        experiments = [each for each in against_the_reference(asked, Path(folder), few, stack) if each.rounds]
        for experiment in experiments:
            experiment.run(chance)
            print(experiment.report(), flush=True)
        if asked.growth_rounds:
            experiments.append(against_itself(asked, few, many, stack))
            experiments[-1].run(chance)
            print(experiments[-1].report())
        print(f"resident memory of the agents: {few.resident_mib():.0f} MiB, {many.resident_mib():.0f} MiB", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({each.title: {"add": each.add, "del": each.delete} for each in experiments}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
