"""What looks at many Services' addresses cost: `make bench-elections`, or `make bench-elections ARGS="--services 5000 --nodes 50"`.

One embedded Postgres, nodes and announced addresses as rows. The leader looks at least once a second, and when something changed: when
all is well, when a node was not heard for a while (its addresses get successors), and with nobody named yet. Then every Service is deleted
at once: what the one look costs that they share until their speakers are silent.
"""

import argparse
import asyncio
import os
import platform
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.figures import percentile, table
from fabricmgr.services import elections, service_leaving
from fabricmgr.store import migrate
from fabricmgr.store.embedded import EmbeddedPostgres
from tests.support.crowd import Crowd, crowd
from tests.support.writing import site

LED = 60.0  # seconds that the leader has led
Look = Callable[[], Awaitable[object]]


@dataclass
class Cost:
    """Seconds: of each look by the clock, and of our own processor."""

    wall: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    async def add(self, look: Look) -> None:
        began, busy = time.perf_counter(), time.process_time()
        await look()
        self.wall.append(time.perf_counter() - began)
        self.ours.append(time.process_time() - busy)

    def row(self, name: str) -> list[str]:
        found = (median(self.wall), percentile(self.wall, 0.95), median(self.ours))
        return [name, *(f"{each * 1000:.0f} ms" for each in found)]


async def measured(made: Crowd, rounds: int) -> dict[str, Cost]:
    """By what is looked at."""
    database = made.site.database
    found = {name: Cost() for name in ("all is well", "a node fell silent", "nobody is named yet", "all are deleted, and wait")}

    async def look() -> object:
        return await elections.look(database, LED)

    async def going() -> object:
        async with database.look() as tx:
            return await service_leaving.going(tx, made.cluster, datetime.now(UTC))

    for _ in range(rounds):
        await made.settle()
        await found["all is well"].add(look)
        await made.silence("n1")
        await found["a node fell silent"].add(look)
        await made.name_nobody()
        await found["nobody is named yet"].add(look)
    await made.settle()
    await made.withdraw()
    for _ in range(rounds):
        await made.beat()
        await found["all are deleted, and wait"].add(going)
    return found


async def run(url: str, arguments: argparse.Namespace) -> None:
    await migrate.upgrade(url)
    async with site(url) as here:
        made = await crowd(here, arguments.services, arguments.nodes)
        found = await measured(made, arguments.rounds)
    load = os.getloadavg()[0]
    print(f"{arguments.services} addresses on {arguments.nodes} nodes; Python {platform.python_version()}, load {load:.1f}")
    print(table([["one look", "p50", "p95", "our processor"], *(cost.row(name) for name, cost in found.items())]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench-elections")
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=20, help="at most 250")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="fabricmgr-bench-") as name:
        server = EmbeddedPostgres(Path(name) / "data")
        server.start()
        try:
            server.wait_ready()
            asyncio.run(run(server.url, arguments))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
