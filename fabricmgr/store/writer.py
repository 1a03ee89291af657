"""The manager's writer: allocations, releases and reports go to the database in groups that share a commit.

It has connections of its own, since nothing else may stand in front of them, and speaks to the driver itself: each call is one function of
the database, one transaction, one round trip. Uniqueness stands in the database, so any number of writers may run.
"""

import random
from collections.abc import Callable
from datetime import datetime

from fabricmgr.store.connect import Pool, create_pool
from fabricmgr.store.lanes import Lane
from fabricmgr.store.repeat import Caller
from fabricmgr.store.writer_allocate import Allocating, Pair, Taken, Want
from fabricmgr.store.writer_release import End, Ended, Releasing
from fabricmgr.store.writer_report import Reported, Reporting, Verdict

CONNECTIONS = 4


class Writer:
    """One for each process. Lanes of one process share its connections; a lane is made at its first use."""

    def __init__(self, pool: Pool, clock: Callable[[], datetime], chance: Callable[[], float]) -> None:
        self._pool = pool
        self._caller = Caller(pool, chance)
        self._clock = clock
        self._lanes: dict[Pair, Lane[Want, Taken]] = {}
        self._releases = Lane[End, Ended]("release", Releasing(self._caller, clock).send, lambda end: end.owner)
        self._reports = Lane[Reported, Verdict]("report", Reporting(self._caller, clock).send, lambda report: report.node_id, largest=32)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Callable[[], datetime],
        connections: int = CONNECTIONS,
        name: str = "writer",
        chance: Callable[[], float] = random.random,
    ) -> "Writer":
        """Connect. Raises DatabaseUnavailable."""
        return cls(await create_pool(url, name, size=connections), clock, chance)

    async def allocate(self, pools: Pair, want: Want) -> Taken:
        """Any free address of each pool named (of IPv4, of IPv6), all or none; the same owner again gets what it holds.

        Raises PoolExhausted, OwnerKeyClash, Busy, DatabaseUnavailable."""
        lane = self._lanes.get(pools)
        if lane is None:
            sender = Allocating(self._caller, pools, self._clock)
            lane = self._lanes[pools] = Lane("allocate", sender.send, lambda each: each.owner.int)
        return await lane.ask(want)

    async def release(self, end: End) -> Ended:
        """End an allocation; a stale generation, or one that is not there, changes nothing. Raises Busy, DatabaseUnavailable."""
        return await self._releases.ask(end)

    async def report(self, report: Reported) -> Verdict:
        """Apply a numbered report of a node once. Raises Busy, DatabaseUnavailable."""
        return await self._reports.ask(report)

    async def close(self) -> None:
        """Answer all that wait, then give the connections back."""
        for lane in self._lanes.values():
            await lane.drain()
        await self._releases.drain()
        await self._reports.drain()
        await self._pool.close()
