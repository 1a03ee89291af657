"""How long it takes from a write at an API server to the event at a subscriber: `make bench-events`.

A real cluster is followed by a real manager; a subscriber, a program of its own, reads Redfish's stream of events. A third program writes:
a Deployment's next revision, a new Service of type LoadBalancer, a new Node, in an order drawn anew each round, and watches those kinds
itself. Each write has five moments: it was sent; the API server showed it to a watch; the manager decided what it means (the event's own
time); the API server answered the write; the event was at the subscriber. Kubernetes' controllers stand still, so that none adds its time.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bench.figures import percentile, table
from fabricmgr.kube import kubeconfig
from fabricmgr.kube.client import Client
from fabricmgr.kube.objects import Kind
from fabricmgr.kube.transport import Address
from fabricmgr.kube.views import DEPLOYMENTS, NODES, SERVICES
from tests.support.kube import objects
from tests.support.kube.cluster import Cluster, cluster
from tests.support.kube.options import Options
from tests.support.kube.stage import follow
from tests.support.kube.subscriber import Subscriber, subscribed
from tests.support.node_agent import ROOT, wait_for
from tests.support.tiers import kubernetes

SPACE, APP = "default", "bench"
REVISION = "deployment.kubernetes.io/revision"
POOL = {"name": "front", "purpose": "Service", "prefixes": [{"prefix": "203.0.113.0/24"}]}
WHAT = {"Deployment": "WorkloadProgressing", "Service": "ServiceAddressAssigned", "Node": "KubeNodeJoined"}
SHORTEST, LONGEST = 0.1, 0.4  # seconds between two writes
REPLICAS = 3


@dataclass
class Write:
    """Seconds of the clock. mark: by which watch and event are known."""

    kind: str
    mark: str
    sent: float
    answered: float = 0.0
    shown: float = 0.0


# --- the program that writes ------------------------------------------------------------------------------------------------


class Writer:
    def __init__(self, access: kubeconfig.Access) -> None:
        self.client = Client(access, dial)
        self.writes: dict[tuple[str, str], Write] = {}

    async def run(self, rounds: int) -> list[Write]:
        await self.prepare()
        watching = [asyncio.create_task(self.watch(kind)) for kind in (DEPLOYMENTS, SERVICES, NODES)]
        await asyncio.sleep(2)
        chance = random.Random()
        for number in range(2, rounds + 2):
            for kind in chance.sample([*WHAT], len(WHAT)):
                await self.write(kind, number)
                await asyncio.sleep(chance.uniform(SHORTEST, LONGEST))
        await asyncio.sleep(2)
        for each in watching:
            each.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await self.client.close()
        return [*self.writes.values()]

    async def prepare(self) -> None:
        """A Deployment after a rollout, whose status stays about its newest generation: nobody is there to write it again."""
        made = objects.deployment(APP, REPLICAS)
        made["metadata"]["annotations"] = {REVISION: "1"}
        await self.client.create(DEPLOYMENTS, SPACE, made)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), REPLICAS)
        status = {"observedGeneration": 1_000_000, **counts}
        await self.client.merge(DEPLOYMENTS, SPACE, APP, {"status": status}, subresource="status")

    async def watch(self, kind: Kind[Any]) -> None:
        """From the newest version on, and again where it ends."""
        while True:
            version = (await self.client.list_page(kind)).version
            async with self.client.watch(kind, version, seconds=600, silence=600) as events:
                async for event in events:
                    found = event.object
                    mark = found.annotations.get(REVISION, "") if kind is DEPLOYMENTS else found.name
                    write = self.writes.get((kind.name, mark))
                    if write is not None and not write.shown:
                        write.shown = time.time()

    async def write(self, kind: str, number: int) -> None:
        mark = str(number) if kind == DEPLOYMENTS.name else f"{kind.lower()}-{number}"
        write = self.writes[kind, mark] = Write(kind, mark, time.time())
        if kind == DEPLOYMENTS.name:
            await self.client.merge(DEPLOYMENTS, SPACE, APP, {"metadata": {"annotations": {REVISION: mark}}})
        elif kind == SERVICES.name:
            made = objects.service(mark, kind="LoadBalancer", loadBalancerClass="fabricmgr.io/lb")
            await self.client.create(SERVICES, SPACE, made)
        else:
            await self.client.create(NODES, "", {"metadata": {"name": mark}})
        write.answered = time.time()


async def dial(host: str, port: int) -> Address:
    del port
    return ip_address(host)


def be_writer(access: Path, rounds: int) -> int:
    found = asyncio.run(Writer(kubeconfig.parse(access.read_text())).run(rounds))
    print(json.dumps([asdict(each) for each in found]))
    return 0


# --- figures ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arrived:
    """A write and what it led to. Seconds after it was sent."""

    kind: str
    answered: float
    shown: float
    decided: float
    heard: float


def arrived(writes: Sequence[Write], events: Subscriber) -> list[Arrived]:
    """AssertionError where an event never came."""
    first: dict[tuple[str, str], tuple[float, float]] = {}
    for each in events.heard:
        decided = datetime.fromisoformat(each.record["EventTimestamp"]).timestamp()
        for arg in each.args:
            first.setdefault((each.name, arg.rpartition("/")[2]), (decided, each.at))
    found = []
    for write in writes:
        assert write.shown, f"no watch showed {write.mark}"
        key = WHAT[write.kind], write.mark
        assert key in first, f"no event {key}"
        decided, heard = first[key]
        times = (write.answered, write.shown, decided, heard)
        found.append(Arrived(write.kind, *(each - write.sent for each in times)))
    return found


def report(found: Sequence[Arrived]) -> str:
    rows = [["ms after the write was sent", "answered p50", "watch p50", "decided p50", "subscriber p50", "p95", "most"]]
    for kind in [*WHAT, ""]:
        some = [each for each in found if kind in ("", each.kind)]
        heard = [each.heard for each in some]
        middles = [percentile([getattr(each, name) for each in some], 0.5) for name in ("answered", "shown", "decided", "heard")]
        label = f"{kind}: {WHAT[kind]}" if kind else f"all {len(some)}"
        rows.append([label, *(f"{each * 1e3:.1f}" for each in (*middles, percentile(heard, 0.95), max(heard)))])
    return table(rows)


def run(rounds: int) -> str:
    with cluster(Options(nodes=1, families=(4,)), lambda sentence: print(sentence, file=sys.stderr)) as made:
        follow(made)
        made.manager.ask("POST", "/v1/pools", POOL)
        made.control.programs["kube-controller-manager"].stop()
        with subscribed(made.manager) as events:
            writes = written(made, rounds)
            last = made.manager.ask("GET", "/v1/events?limit=1")["last"]
            with suppress(AssertionError):
                wait_for("the newest event", lambda: events.last >= last, 10)
            return report(arrived(writes, events))


def written(made: Cluster, rounds: int) -> list[Write]:
    words = [sys.executable, "-m", "bench.events", "--write", str(made.kubeconfig), "--rounds", str(rounds)]
    done = subprocess.run(made.hub.command(*words), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    return [Write(**each) for each in json.loads(done.stdout)]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench-events", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=60, help="of one write of each kind (%(default)s)")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.write:
        return be_writer(given.write, given.rounds)
    if reason := kubernetes():
        print(f"A cluster can't run here: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, interrupt)
    found = run(given.rounds)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Linux {platform.release()}\n\n{found}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
