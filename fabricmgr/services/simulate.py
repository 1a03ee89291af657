"""Does a manifest fit? Decided by the functions that decide when it is applied; nothing is taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import yaml

from fabricmgr.domain.addresses import parse_address
from fabricmgr.domain.errors import FabricError, Invalid, MalformedBody, NotFound
from fabricmgr.domain.kube import ADDRESSES, KubeNamespace, KubeNode, KubePod
from fabricmgr.domain.manifest import PodsAsked, read
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.selectors import Decision, Kind, Subject, asks_manager, decide, families_of
from fabricmgr.problems import sentence
from fabricmgr.services import explain
from fabricmgr.services.kube_pods import Who
from fabricmgr.services.peers import workload_of
from fabricmgr.services.room import Around, Left, Outcome, Room, Taking
from fabricmgr.services.simulate_services import Services
from fabricmgr.store import api_rows, cluster_rows, kube_rows, network_rows, pool_rows, sticky_rows
from fabricmgr.store.tx import Tx

LONGEST = 1 << 20  # characters of a manifest


@dataclass(frozen=True)
class Simulated:
    """network: whose pods they are. passed: objects that ask for no address of ours, and why."""

    network: str
    fits: bool
    objects: tuple[Outcome, ...]
    left: tuple[Left, ...]
    passed: tuple[str, ...]


def documents(text: str) -> list[object]:
    """The objects of a manifest, YAML or JSON. Raises MalformedBody."""
    if len(text) > LONGEST:
        raise MalformedBody("manifest", f"it is longer than {LONGEST} characters")
    try:
        # Aliases let a few lines stand for gigabytes.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise MalformedBody("manifest", "it has YAML aliases, which are not taken here")
        return list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MalformedBody("manifest", f"it is no YAML: {error}") from None


async def simulate(tx: Tx, cluster: ClusterName, network: str, text: str, namespace: str, now: datetime) -> Simulated:
    """network: whose pods they are; empty: the first of the cluster, by name. Raises NotFound, MalformedBody, Invalid, MissingField."""
    manifest = read(documents(text), namespace)
    around = await _around(tx, cluster, network, manifest.namespaces, now)
    services = Services(around)
    outcomes = [await _pods(around, each) if isinstance(each, PodsAsked) else await services.outcome(each) for each in manifest.asked]
    fits = all(each.fits for each in outcomes)
    return Simulated(str(around.network.name), fits, tuple(outcomes), around.room.left(), manifest.passed)


async def _around(tx: Tx, name: ClusterName, network: str, made: Sequence[KubeNamespace], now: datetime) -> Around:
    """made: namespaces as they will be."""
    found = await cluster_rows.get(tx, name)
    networks = [each for each in await network_rows.of_cluster(tx, found.id) if network in ("", each.name)]
    if not networks:
        raise NotFound("network", f"{name}/{network}")
    api = await api_rows.by_id(tx, found.id)
    room = Room()
    await room.add(tx, {str(each): pool for each, pool in (await pool_rows.of_names(tx, networks[0].pools)).items()}, now)
    await room.add(tx, {str(each.name): each for each in await explain.service_pools(tx, name)}, now)
    namespaces = {each.name: each for each in (*await kube_rows.namespaces(tx, found.id), *made)}
    families = tuple(dict.fromkeys(each.version for each in api.service_ranges)) if api is not None else ()
    class_less = api is not None and api.class_less
    nodes = await kube_rows.nodes(tx, found.id)
    return Around(tx, found.id, name, networks[0], nodes, namespaces, class_less, families or (4,), room, now)


@dataclass(frozen=True)
class _Pods:
    """What pods of one object are held against. nodes: those it may run on. held: of its pods, those that hold addresses. central: the
    manager decides, not the node."""

    asked: PodsAsked
    nodes: Sequence[KubeNode]
    held: int
    decision: Decision
    asked_pool: str
    addresses: tuple[str, ...]
    central: bool

    @property
    def whole(self) -> int:
        return len(self.nodes) if self.asked.count is None else self.asked.count

    @property
    def count(self) -> int:
        return max(0, self.whole - self.held)

    def outcome(self, fits: bool, taken: Sequence[Taking], reason: str) -> Outcome:
        said = f"{self.held} of its pods hold addresses already" if self.held else ""
        return Outcome(self.asked.what, self.asked.namespace, fits, tuple(taken), "; ".join(each for each in (said, reason) if each))


async def _pods(around: Around, asked: PodsAsked) -> Outcome:
    pods = await _read(around, asked)
    if pods.decision.refused:
        return pods.outcome(False, (), pods.decision.refused)
    if pods.central and pods.addresses and pods.count:
        return await _named(around, pods)
    return _counted(around, pods)


async def _read(around: Around, asked: PodsAsked) -> _Pods:
    nodes = [each for each in around.nodes if asked.node_selector.items() <= each.labels.items()]
    namespace = around.namespace(asked.namespace)
    labels = dict(nodes[0].labels) if nodes else {}
    who = Who(KubePod(asked.namespace, asked.what, "", annotations=asked.annotations, labels=asked.labels), namespace, labels)
    pools = [around.room.pools[name].candidate(place) for place, name in enumerate(around.network.pools)]
    central = around.network.is_decided_for(namespace.name) or asks_manager(namespace, pools)
    subject = who.subject() if central else Subject(Kind.NODE, node_labels=labels)
    decision = decide(subject, pools)
    return _Pods(asked, nodes, await _held(around, asked), decision, subject.asked_pool, who.addresses, central)


async def _held(around: Around, asked: PodsAsked) -> int:
    """Pods that have addresses, and places of a StatefulSet that keep theirs until their next pod."""
    if not asked.name:
        return 0
    shown = await kube_rows.pods(around.tx, around.cluster_id, asked.namespace)
    mine = [each for each in shown if workload_of(each) == (asked.kind, asked.name)]
    names = {each.name for each in mine if each.holds_addresses and each.addresses and not each.deleting}
    if asked.kind == "StatefulSet" and asked.count is not None:
        places = [each.place for each in await sticky_rows.every(around.tx, around.cluster_id)]
        kept = [each for each in places if (each.namespace, each.name, each.network) == (asked.namespace, asked.name, around.network.name)]
        names |= {f"{each.name}-{each.ordinal}" for each in kept if each.ordinal < asked.count}
    return len(names)


async def _named(around: Around, pods: _Pods) -> Outcome:
    """These very addresses, for one pod alone; any of the families that name none."""
    taken: list[Taking] = []
    try:
        addresses = [parse_address(text, ADDRESSES) for text in pods.addresses]
        if pods.whole > 1:
            raise Invalid(ADDRESSES, ", ".join(pods.addresses), f"addresses of one pod; these would be asked for by {pods.whole}")
        with around.room.attempt():
            for address in addresses:
                taken += await around.named(pods.asked.what, address, pods.decision.order, "the pools that it may have addresses of")
    except FabricError as error:
        return pods.outcome(False, (), sentence(error))
    others = [each.value for each in around.network.families if each.value not in {one.version for one in addresses}]
    return _taken(around, pods, taken, others)


def _counted(around: Around, pods: _Pods) -> Outcome:
    return _taken(around, pods, [], [each.value for each in around.network.families])


def _taken(around: Around, pods: _Pods, taken: list[Taking], families: Sequence[int]) -> Outcome:
    """Any addresses of families, beside those that were taken already."""
    room = around.room
    by_family = families_of(pods.decision, {name: pool.candidate().families for name, pool in room.pools.items()}, pods.asked_pool)
    short = []
    for family in families:
        some = room.take(by_family[family], family, pods.count, blocks=not pods.central)
        taken += some
        if (missing := pods.count - sum(each.count for each in some)) > 0:
            short.append(f"{missing} of {pods.count} pods find no IPv{family} address in {' or '.join(by_family[family]) or 'any pool'}")
    reason = "; ".join(short) or ("" if pods.central else _rounding(around, taken, pods.count, len(pods.nodes)))
    return pods.outcome(not short, taken, reason)


def _rounding(around: Around, taken: Sequence[Taking], count: int, nodes: int) -> str:
    """Nodes take whole blocks: the fewest, and as many as it can be where the scheduler spreads the pods."""
    said = []
    for each in taken:
        lengths = [prefix for prefix in around.room.pools[each.pool].prefixes if prefix.cidr.version == each.family and not prefix.central]
        if not lengths:
            continue
        size = 1 << (lengths[0].cidr.max_prefixlen - lengths[0].block_length)
        around.room.blocked[each.pool, each.family] = size
        spread = min(max(nodes, 1), count)
        most = spread * -(-each.count // (size * spread)) if count else 0
        said.append(f"{-(-each.count // size)} to {most} blocks of {size} addresses of {each.pool} on {nodes} nodes, those held counted")
    return "; ".join(said)
