"""Where an address may come from: the pools of a network or by name, remembered for a moment, since every ADD asks.

What is remembered decides nothing by itself: a pool that was deleted or drains is looked at again in the writing transaction."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Row, text

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.selectors import Candidate, Decision, Selectors, Subject, decide, families_of
from fabricmgr.domain.selectors import parse as parse_selectors
from fabricmgr.store.tx import Database, Tx

REMEMBERED = 1.0  # seconds

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class PoolPlace:
    """families: those it has prefixes of."""

    id: int
    name: str
    cluster_id: int | None
    scope: int
    families: tuple[int, ...]
    selectors: Selectors = field(default_factory=Selectors)
    priority: int = 0
    auto_assign: bool = True
    draining: bool = False

    def candidate(self, place: int = 0) -> Candidate:
        """What deciding needs to know of it."""
        return Candidate(self.name, self.selectors, self.priority, self.auto_assign, self.families, self.draining, place)


@dataclass(frozen=True)
class NetworkPlace:
    """pools: in order of preference. has_api: there is an API server that says who a pod is."""

    cluster_id: int
    pools: tuple[PoolPlace, ...]
    has_api: bool = False

    @property
    def plain(self) -> bool:
        """Whether nobody selects among its pools: whoever asks, they are taken in the network's order."""
        return not any(pool.selectors or pool.priority or not pool.auto_assign for pool in self.pools)

    def decide(self, subject: Subject) -> Decision:
        """Which of its pools are asked, in which order."""
        return decide(subject, [pool.candidate(place) for place, pool in enumerate(self.pools)])

    def ordered(self, decision: Decision, asked_pool: str = "") -> dict[int, tuple[PoolPlace, ...]]:
        """The pools that were decided on, by family."""
        known = {pool.name: pool for pool in self.pools}
        named = families_of(decision, {pool.name: pool.families for pool in self.pools}, asked_pool)
        return {family: tuple(known[name] for name in names) for family, names in named.items()}

    def of(self, family: int) -> tuple[PoolPlace, ...]:
        return tuple(pool for pool in self.pools if family in pool.families)

    @property
    def families(self) -> tuple[int, ...]:
        return tuple(family for family in (4, 6) if self.of(family))


_FAMILIES = "array(select distinct family(x.cidr) from prefix x where x.pool_id = p.id order by 1) as families"
_POOL_COLUMNS = f"p.id, p.name, p.cluster_id, p.scope, p.selectors, p.priority, p.auto_assign, p.draining, {_FAMILIES}"
_NETWORK = text(f"""
select w.cluster_id as in_cluster, exists (select from cluster_api a where a.cluster_id = w.cluster_id) as has_api, {_POOL_COLUMNS}
from network w join cluster c on c.id = w.cluster_id left join network_pool k on k.network_id = w.id left join pool p on p.id = k.pool_id
where c.name = :cluster and w.name = :network order by k.place
""")
_POOL = text(f"""
select {_POOL_COLUMNS} from pool p left join cluster c on c.id = p.cluster_id
where p.name = :pool and (p.cluster_id is null or c.name = :cluster)
""")


class Places:
    """One for each process."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._networks = Remembered[tuple[str, str], NetworkPlace](self._find_network, clock)
        self._pools = Remembered[tuple[str, str], PoolPlace](self._find_pool, clock)

    async def network(self, cluster: str, name: str) -> NetworkPlace:
        """Raises NotFound."""
        return await self._networks.get((cluster, name))

    async def pool(self, cluster: str, name: str) -> PoolPlace:
        """A pool of the cluster or of all. Raises NotFound."""
        return await self._pools.get((cluster, name))

    async def _find_network(self, key: tuple[str, str]) -> NetworkPlace:
        async with self._database.read() as tx:
            return await network(tx, *key)

    async def _find_pool(self, key: tuple[str, str]) -> PoolPlace:
        async with self._database.read() as tx:
            row = await tx.first(_POOL, {"cluster": key[0], "pool": key[1]})
        if row is None:
            raise NotFound("pool", key[1])
        return _pool(row)


async def network(tx: Tx, cluster: str, name: str) -> NetworkPlace:
    """As it is now. Raises NotFound."""
    rows = await tx.all(_NETWORK, {"cluster": cluster, "network": name})
    if not rows:
        raise NotFound("network", f"{cluster}/{name}")
    return NetworkPlace(rows[0].in_cluster, tuple(_pool(row) for row in rows if row.id is not None), rows[0].has_api)


def _pool(row: Row[Any]) -> PoolPlace:
    wanted = parse_selectors(row.selectors)
    families = tuple(row.families)
    return PoolPlace(row.id, row.name, row.cluster_id, row.scope, families, wanted, row.priority, row.auto_assign, row.draining)


class Remembered(Generic[K, V]):
    """Answers of a question, each believed for some seconds."""

    def __init__(self, find: Callable[[K], Awaitable[V]], clock: Callable[[], float], seconds: float = REMEMBERED) -> None:
        self._find = find
        self._clock = clock
        self._seconds = seconds
        self._known: dict[K, tuple[float, V]] = {}
        self._asking: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """Those who ask at the same time share one question."""
        known = self._known.get(key)
        if known is not None and self._clock() - known[0] < self._seconds:
            return known[1]
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._ask(key))
        return await asyncio.shield(self._asking[key])

    async def _ask(self, key: K) -> V:
        asked = self._clock()
        try:
            found = await self._find(key)
        finally:
            del self._asking[key]
        self._known[key] = (asked, found)
        return found
