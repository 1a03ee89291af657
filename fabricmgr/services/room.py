"""What a simulation reckons with: the room that is left in pools, and what objects take of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.errors import AddressCooling, AddressHeld, AddressOutside, FabricError
from fabricmgr.domain.kube import KubeNamespace, KubeNode
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.network import Network
from fabricmgr.domain.pool import Pool, alone
from fabricmgr.services import pools
from fabricmgr.store import asked
from fabricmgr.store.places import PoolPlace
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class Taking:
    """Addresses that an object takes of a pool."""

    pool: str
    family: int
    count: int


@dataclass(frozen=True)
class Outcome:
    """Of one object. reason: why it does not fit, or what is worth knowing of it."""

    what: str
    namespace: str
    fits: bool
    taken: tuple[Taking, ...]
    reason: str


@dataclass(frozen=True)
class Left:
    """Of a pool and family: addresses that nobody holds, before and after. block: addresses of a block, where nodes decide; else 0."""

    pool: str
    family: int
    before: int
    after: int
    block: int


@dataclass
class Room:
    """What is left, as the objects before have left it; by pool and family. given: addresses that were asked for by name, and by whom."""

    pools: dict[str, Pool] = field(default_factory=dict)
    free: dict[tuple[str, int], int] = field(default_factory=dict)
    idle: dict[tuple[str, int], int] = field(default_factory=dict)
    before: dict[tuple[str, int], int] = field(default_factory=dict)
    blocked: dict[tuple[str, int], int] = field(default_factory=dict)
    given: dict[Address, str] = field(default_factory=dict)

    async def add(self, tx: Tx, found: Mapping[str, Pool], now: datetime) -> None:
        for name, pool in found.items():
            self.pools[name] = pool
            for usage in await pools.usage_of(tx, pool, now):
                key = (name, usage.family.value)
                self.free[key], self.idle[key] = usage.free, usage.idle
                self.before[key] = usage.free + usage.idle

    def take(self, names: Sequence[str], family: int, count: int, *, blocks: bool = False) -> list[Taking]:
        """As many as there are, from the first pools that have some. blocks: also those in blocks that nodes hold."""
        found = []
        for name in names:
            key = (name, family)
            idle = self.idle.get(key, 0) if blocks else 0
            some = min(count, self.free.get(key, 0) + idle)
            if not some:
                continue
            self.idle[key] = self.idle.get(key, 0) - min(some, idle)
            self.free[key] -= some - min(some, idle)
            found.append(Taking(name, family, some))
            count -= some
        return found

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is taken inside is put back where it raises."""
        kept = (dict(self.free), dict(self.idle), dict(self.given))
        try:
            yield
        except FabricError:
            self.free, self.idle, self.given = kept
            raise

    def left(self) -> tuple[Left, ...]:
        """By pool and family."""
        return tuple(
            Left(pool, family, before, self.free[pool, family] + self.idle[pool, family], self.blocked.get((pool, family), 0))
            for (pool, family), before in sorted(self.before.items())
        )


@dataclass(frozen=True)
class Around:
    """What objects are held against. families: of the cluster's Services, the first first."""

    tx: Tx
    cluster_id: int
    cluster: ClusterName
    network: Network
    nodes: Sequence[KubeNode]
    namespaces: Mapping[str, KubeNamespace]
    class_less: bool
    families: Sequence[int]
    room: Room
    now: datetime

    def namespace(self, name: str) -> KubeNamespace:
        """As the API server shows it, or the manifest; one that neither does has no labels."""
        return self.namespaces.get(name, KubeNamespace(name, ""))

    async def named(self, owner: str, address: Address, names: Sequence[str], where: str, returning: Collection[UUID] = ()) -> list[Taking]:
        """This very address, of one of these pools. returning: owners whose own address comes back before it has rested.

        Raises what assigning it would raise."""
        pool = next((each for each in (self.room.pools[name] for name in names) if each.prefix_around(alone(address))), None)
        if pool is None:
            raise AddressOutside(str(address), where)
        if address in self.room.given:
            raise AddressHeld(str(address), self.room.given[address])
        refused = await asked.look(self.tx, place_of(pool), address, self.now)
        if isinstance(refused, AddressCooling) and await asked.last_owner(self.tx, pool.scope, address) in returning:
            self.room.free[pool.name, address.version] += 1
        elif refused is not None:
            raise refused
        self.room.given[address] = owner
        return self.room.take([pool.name], address.version, 1)


def place_of(pool: Pool) -> PoolPlace:
    """As the writer knows it."""
    return PoolPlace(pool.id, pool.name, None, pool.scope, tuple(each.value for each in pool.families()))
