"""Where an address may come from: the pools of a network or by name, remembered for a moment, since every ADD asks.

What is remembered decides nothing by itself: a pool that was deleted or drains is looked at again in the writing transaction."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import text

from fabricmgr.domain.errors import NotFound
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


@dataclass(frozen=True)
class NetworkPlace:
    """pools: in order of preference."""

    cluster_id: int
    pools: tuple[PoolPlace, ...]

    def of(self, family: int) -> tuple[PoolPlace, ...]:
        return tuple(pool for pool in self.pools if family in pool.families)

    @property
    def families(self) -> tuple[int, ...]:
        return tuple(family for family in (4, 6) if self.of(family))


_FAMILIES = "array(select distinct family(x.cidr) from prefix x where x.pool_id = p.id order by 1) as families"
_NETWORK = text(f"""
select w.cluster_id as in_cluster, p.id, p.name, p.cluster_id, p.scope, {_FAMILIES}
from network w join cluster c on c.id = w.cluster_id left join network_pool k on k.network_id = w.id left join pool p on p.id = k.pool_id
where c.name = :cluster and w.name = :network order by k.place
""")
_POOL = text(f"""
select p.id, p.name, p.cluster_id, p.scope, {_FAMILIES} from pool p left join cluster c on c.id = p.cluster_id
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
        return PoolPlace(row.id, row.name, row.cluster_id, row.scope, tuple(row.families))


async def network(tx: Tx, cluster: str, name: str) -> NetworkPlace:
    """As it is now. Raises NotFound."""
    rows = await tx.all(_NETWORK, {"cluster": cluster, "network": name})
    if not rows:
        raise NotFound("network", f"{cluster}/{name}")
    pools = (PoolPlace(row.id, row.name, row.cluster_id, row.scope, tuple(row.families)) for row in rows if row.id is not None)
    return NetworkPlace(rows[0].in_cluster, tuple(pools))


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
