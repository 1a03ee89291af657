"""What a node should be: one document, worked out for all nodes of a cluster at once.

A change in a cluster wakes every one of its agents. They share one look at the database, however many they are, and a look that takes long
is not begun again at once: it never costs more than a fifth of a core.
"""

import asyncio
import hashlib
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from fabricmgr import wire
from fabricmgr.domain.addresses import Prefix
from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.names import ClusterName, PoolName
from fabricmgr.domain.network import Network, Routing
from fabricmgr.domain.pool import Pool, inside
from fabricmgr.store import cluster_rows, desired_rows, network_rows, node_rows, pool_rows
from fabricmgr.store.desired_rows import HeldBlock, NodePlace, Single
from fabricmgr.store.tx import Database, Tx

# Others send to a block in these states: its pods live on. A pending one counts as absent.
_ROUTED = frozenset({"confirmed", "releasing", "held_back"})
_IDLE_SHARE = 4  # times as long as a look took, until the next one begins
_LONGEST_PAUSE = 2.0  # seconds

KeptOut = Mapping[int, Sequence[Prefix]]


@dataclass(frozen=True)
class View:
    """A cluster as it was at one moment. routes: with the node they lead to. digest: of everything but the nodes' own blocks."""

    cluster: ClusterName
    networks: list[wire.NetworkSpec]
    names: Mapping[int, str]
    blocks: Mapping[int, list[wire.GrantedBlock]]
    routes: Sequence[tuple[int, wire.Route]]
    digest: bytes
    has_api: bool = False
    looks: Mapping[int, int] = field(default_factory=dict)

    def version(self, node_id: int) -> str:
        """Changes when the node's document does. Generations are left out: they move with reports and ask nothing of the agent."""
        still = [msgspec.structs.replace(each, generation=0) for each in self.blocks.get(node_id, ())]
        return hashlib.sha256(self.digest + msgspec.json.encode([still, self.looks.get(node_id, 0)])).hexdigest()[:32]

    def document(self, node_id: int, announcements: Sequence[wire.Announce] = ()) -> wire.Desired:
        """Raises NotFound for a node that is not there, or is gone."""
        if node_id not in self.names:
            raise NotFound("node", f"{self.cluster}/{node_id}")
        return wire.Desired(
            version=self.version(node_id) + told_version(announcements),
            node=self.names[node_id],
            cluster=self.cluster,
            networks=self.networks,
            blocks=self.blocks.get(node_id, []),
            routes=[route for holder, route in self.routes if holder != node_id],
            cluster_has_api=self.has_api,
            looks=self.looks.get(node_id, 0),
            announcements=list(announcements),
        )


def told_version(announcements: Sequence[wire.Announce]) -> str:
    """The end of a document's version: it changes with what the node is to announce, and with nothing else."""
    return f".{hashlib.sha256(msgspec.json.encode(announcements)).hexdigest()[:16]}" if announcements else ""


async def of_node(tx: Tx, node_id: int) -> wire.Desired:
    """For one node alone. Raises NotFound."""
    return (await view(tx, (await node_rows.by_id(tx, node_id)).cluster)).document(node_id)


async def view(tx: Tx, name: ClusterName) -> View:
    """All that the documents of a cluster's nodes are made of. Raises NotFound."""
    cluster = await cluster_rows.get(tx, name)
    networks = await network_rows.of_cluster(tx, cluster.id)
    nodes = await desired_rows.nodes(tx, cluster.id)
    blocks = await desired_rows.blocks(tx, cluster.id)
    singles = await desired_rows.singles(tx, cluster.id)
    kept_out = _kept_out(await pool_rows.of_names(tx, {each.pool for each in blocks}))
    specs = [_network(each) for each in networks]
    routes = _routes(networks, nodes, blocks, singles)
    has_api = await cluster_rows.has_api(tx, cluster.id)
    digest = hashlib.sha256(msgspec.json.encode([name, specs, routes, has_api])).digest()
    looks = {each.id: each.looks for each in nodes}
    return View(name, specs, {each.id: each.name for each in nodes}, _granted(blocks, kept_out), routes, digest, has_api, looks)


def _network(network: Network) -> wire.NetworkSpec:
    decide, namespaces = network.decided
    return wire.NetworkSpec(
        name=network.name,
        pools=list(network.block_pools),
        families=[family.value for family in network.families],
        prefixes=[str(each) for each in network.prefixes],
        mtu=network.mtu,
        masquerade=network.masquerade,
        routing=wire.Routing(network.routing.value),
        decide=wire.Decide(decide.value),
        namespaces=list(namespaces),
        direct=[str(each) for each in network.direct],
        bridge=network.bridge,
        status_policy=network.status_policy.value,
    )


def _routes(
    networks: Iterable[Network], nodes: Iterable[NodePlace], blocks: Iterable[HeldBlock], singles: Iterable[Single]
) -> list[tuple[int, wire.Route]]:
    """To blocks, then to single addresses. None to a node that has said no address of the family: there is no way to it yet."""
    vias = {(node.id, each.version): str(each) for node in nodes for each in reversed(node.addresses)}
    laid = {each.name for each in networks if each.routing is Routing.HOST_GW}
    # A pool of several networks counts for the first one, by name.
    first = {pool: each.name for each in sorted(networks, key=lambda n: n.name, reverse=True) if each.name in laid for pool in each.pools}
    found: list[tuple[int, Prefix, str | None]] = [(b.node_id, b.cidr, first.get(b.pool)) for b in blocks if b.state in _ROUTED]
    found += [(s.node_id, s.cidr, s.network if s.network in laid else first.get(s.pool)) for s in singles]
    return [
        (holder, wire.Route(prefix=str(cidr), via=via, network=network))
        for holder, cidr, network in found
        if network is not None and (via := vias.get((holder, cidr.version))) is not None
    ]


def _granted(blocks: Iterable[HeldBlock], kept_out: KeptOut) -> dict[int, list[wire.GrantedBlock]]:
    found: dict[int, list[wire.GrantedBlock]] = {}
    for each in blocks:
        granted = wire.GrantedBlock(
            pool=each.pool,
            prefix=str(each.cidr),
            claim=each.claim,
            state=each.state,
            generation=each.generation,
            rested_at=each.rested_at,
            reserved=[_text(part) for part in _shared(each.cidr, kept_out.get(each.prefix_id, ()))],
            cooldown_seconds=each.cooldown.total_seconds(),
        )
        found.setdefault(each.node_id, []).append(granted)
    return found


def _kept_out(pools: Mapping[PoolName, Pool]) -> dict[int, Sequence[Prefix]]:
    """By prefix: what is never handed out, in order and apart from each other."""
    return {each.id: each.kept_out(pool.skip_ends) for pool in pools.values() for each in pool.prefixes}


def _shared(block: Prefix, kept_out: Sequence[Prefix]) -> list[Prefix]:
    """The parts of a block that are kept out. CIDRs are nested or apart: either one is around the block, or some are in it."""
    at = bisect_left(kept_out, int(block.network_address), key=lambda each: int(each.broadcast_address))
    found: list[Prefix] = []
    while at < len(kept_out) and int(kept_out[at].network_address) <= int(block.broadcast_address):
        if inside(block, kept_out[at]):
            return [block]
        found.append(kept_out[at])
        at += 1
    return found


def _text(part: Prefix) -> str:
    return str(part.network_address) if part.num_addresses == 1 else str(part)


# --- one look for all who wait ---------------------------------------------------------------------------------------


@dataclass
class _Looks:
    """Of one cluster. waiting: the look that has not begun, which everybody who comes now may share."""

    waiting: "asyncio.Task[View] | None" = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    not_before: float = 0.0


class Views:
    """Shared looks at clusters. One for each process."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._looks: dict[ClusterName, _Looks] = {}
        self._last: dict[ClusterName, View] = {}

    def last(self, cluster: ClusterName) -> View | None:
        """The newest there is, however old; None before the first."""
        return self._last.get(cluster)

    async def get(self, cluster: ClusterName) -> View:
        """A view that was begun after this call was made. Raises NotFound, DatabaseUnavailable."""
        looks = self._looks.setdefault(cluster, _Looks())
        if looks.waiting is None:
            looks.waiting = asyncio.create_task(self._look(cluster, looks))
            looks.waiting.add_done_callback(_seen)
        return await asyncio.shield(looks.waiting)

    async def _look(self, cluster: ClusterName, looks: _Looks) -> View:
        async with looks.turn:
            await asyncio.sleep(looks.not_before - self._clock())
            looks.waiting = None
            began = self._clock()
            try:
                async with self._database.read() as tx:
                    found = self._last[cluster] = await view(tx, cluster)
                    return found
            finally:
                now = self._clock()
                looks.not_before = now + min(_LONGEST_PAUSE, (now - began) * _IDLE_SHARE)


def _seen(task: "asyncio.Task[View]") -> None:
    """All who waited may have gone: then nobody misses the answer."""
    if not task.cancelled():
        task.exception()
