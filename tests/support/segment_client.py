"""A client on the segment of a cluster's nodes: it knows no way to them but layer 2, and hears who answers for an address."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.support.kube.cluster import Cluster, bracketed
from tests.support.netns import Namespace, namespace

ROOT = Path(__file__).parents[2]
ADDRESSES = ("192.168.250.250/24", "2001:db8:250::fa/64")
TRY = "0.4"  # seconds that one request may take


@dataclass(frozen=True)
class Answer:
    """at: monotonic seconds."""

    at: float
    address: str
    mac: str


@dataclass
class Client:
    """answers: all that were heard, in order."""

    where: Namespace
    answers: list[Answer] = field(default_factory=list)

    def curl(self, address: str, port: int = 80, *, asks: bool = True) -> str:
        """What answers there: the name of a pod; "" for nothing within TRY. asks: it forgets first which MAC the address has."""
        if asks:
            self.where.run("ip", "neigh", "flush", "dev", "eth0")
        words = ["curl", "-s", "--noproxy", "*", "--max-time", TRY, f"http://{bracketed(address)}:{port}/"]
        return self.where.run(*words, check=False).stdout.strip()

    def speaker(self, address: str, within: float = 1.0) -> str:
        """The MAC that answered last, in the last `within` seconds; "" for none."""
        found = [each for each in self.answers if each.address == address and each.at > time.monotonic() - within]
        return found[-1].mac if found else ""

    def overlap(self, address: str, since: float) -> float:
        """Seconds in which two MACs answered by turns."""
        first: dict[str, float] = {}
        last: dict[str, float] = {}
        for each in list(self.answers):
            if each.address == address and each.at >= since:
                first.setdefault(each.mac, each.at)
                last[each.mac] = each.at
        macs = sorted(first, key=lambda mac: first[mac])
        return max([0.0, *(last[old] - first[new] for old, new in pairwise(macs))])

    def back(self, address: str, begun: float, *, asks: bool = True, within: float = 15.0) -> float:
        """Seconds from `begun` until a request was answered whole, with four more after it; AssertionError after `within`."""
        row: list[float] = []
        while len(row) < 5:
            row = [*row, time.monotonic()] if self.curl(address, asks=asks) else []
            assert time.monotonic() < begun + within, f"{address} did not answer within {within:g} s"
        return row[0] - begun

    @contextmanager
    def hearing(self, *addresses: str) -> Iterator[None]:
        """Ask who has these addresses, all the time."""
        words = self.where.command(sys.executable, "-m", "tests.support.asking", "eth0", *addresses)
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        reader = threading.Thread(target=self._read, args=(process,))
        reader.start()
        try:
            yield
        finally:
            process.kill()
            process.wait()
            reader.join()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.answers.append(Answer(*json.loads(line)))


@contextmanager
def segment_client(cluster: Cluster) -> Iterator[Client]:
    """Plugged into the segment, gone afterwards."""
    with namespace("cl") as where:
        cluster.hub.run("ip", "link", "add", "pclient", "type", "veth", "peer", "name", "eth0", "netns", where.name)
        cluster.hub.run("ip", "link", "set", "pclient", "master", "segment", "up")
        for each in ADDRESSES:
            where.run("ip", "address", "add", each, "dev", "eth0", *(["nodad"] if ":" in each else []))
        where.run("ip", "link", "set", "eth0", "up")
        yield Client(where)
