"""Does a manifest fit? Decided by the functions that decide when it is applied; nothing is taken."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import yaml

from fabricmgr.domain.addresses import Address, parse_address
from fabricmgr.domain.errors import MalformedBody, NotFound
from fabricmgr.domain.kube import ADDRESSES, KubeNamespace, KubeNode, KubePod
from fabricmgr.domain.manifest import PodsAsked, ServiceAsked, read
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.network import Network
from fabricmgr.domain.pool import Pool, PoolPrefix, alone
from fabricmgr.domain.selectors import Decision, Kind, Subject, decide, families_of
from fabricmgr.services import explain, pools
from fabricmgr.services.kube_pods import Who
from fabricmgr.store import api_rows, cluster_rows, kube_rows, network_rows, pool_rows, usage_rows
from fabricmgr.store.tx import Tx

CLASS = "fabricmgr.io/lb"
LONGEST = 1 << 20  # characters of a manifest


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


@dataclass(frozen=True)
class Simulated:
    fits: bool
    objects: tuple[Outcome, ...]
    left: tuple[Left, ...]
    passed: tuple[str, ...]


@dataclass
class _Room:
    """What is left, as the objects before have left it. central, in_blocks: by pool and family."""

    pools: dict[str, Pool] = field(default_factory=dict)
    free: dict[tuple[str, int], int] = field(default_factory=dict)
    idle: dict[tuple[str, int], int] = field(default_factory=dict)
    before: dict[tuple[str, int], int] = field(default_factory=dict)
    blocked: dict[tuple[str, int], int] = field(default_factory=dict)
    given: set[Address] = field(default_factory=set)
    shared: dict[tuple[str, str], tuple[Taking, ...]] = field(default_factory=dict)

    def take(self, names: Sequence[str], family: int, count: int, blocks: bool) -> list[Taking]:
        """As many as there are, from the first pools that have some."""
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


@dataclass(frozen=True)
class _Cluster:
    """What objects are held against."""

    tx: Tx
    name: ClusterName
    network: Network
    nodes: Sequence[KubeNode]
    namespaces: dict[str, KubeNamespace]
    class_less: bool
    service_families: tuple[int, ...]
    room: _Room


async def simulate(tx: Tx, cluster: ClusterName, network: str, text: str, namespace: str, now: datetime) -> Simulated:
    """network: whose pods they are; empty: the first of the cluster, by name. Raises NotFound, MalformedBody, Invalid, MissingField."""
    manifest = read(documents(text), namespace)
    here = await _cluster(tx, cluster, network, now)
    outcomes = [_pods(here, each) if isinstance(each, PodsAsked) else await _service(here, each) for each in manifest.asked]
    return Simulated(all(each.fits for each in outcomes), tuple(outcomes), _left(here.room), manifest.passed)


async def _cluster(tx: Tx, name: ClusterName, network: str, now: datetime) -> _Cluster:
    found = await cluster_rows.get(tx, name)
    networks = [each for each in await network_rows.of_cluster(tx, found.id) if network in ("", each.name)]
    if not networks:
        raise NotFound("network", f"{name}/{network}")
    api = await api_rows.by_id(tx, found.id)
    room = _Room({str(each): pool for each, pool in (await pool_rows.of_names(tx, networks[0].pools)).items()})
    room.pools |= {str(each.name): each for each in await explain.service_pools(tx, name)}
    for pool in room.pools.values():
        for usage in await pools.usage_of(tx, pool, now):
            key = (pool.name, usage.family.value)
            room.free[key], room.idle[key] = usage.free, usage.idle
            room.before[key] = usage.free + usage.idle
    namespaces = {each.name: each for each in await kube_rows.namespaces(tx, found.id)}
    families = tuple(dict.fromkeys(each.version for each in api.service_ranges)) if api is not None else ()
    class_less = api is not None and api.class_less
    return _Cluster(tx, name, networks[0], await kube_rows.nodes(tx, found.id), namespaces, class_less, families or (4,), room)


def _left(room: _Room) -> tuple[Left, ...]:
    return tuple(
        Left(pool, family, before, room.free[pool, family] + room.idle[pool, family], room.blocked.get((pool, family), 0))
        for (pool, family), before in sorted(room.before.items())
    )


# --- pods ----------------------------------------------------------------------------------------------------------------


def _pods(here: _Cluster, asked: PodsAsked) -> Outcome:
    nodes = [each for each in here.nodes if asked.node_selector.items() <= each.labels.items()]
    count = len(nodes) if asked.count is None else asked.count
    namespace = here.namespaces.get(asked.namespace, KubeNamespace(asked.namespace, ""))
    labels = dict(nodes[0].labels) if nodes else {}
    who = Who(KubePod(asked.namespace, asked.what, "", annotations=asked.annotations, labels=asked.labels), namespace, labels)
    central = explain.who_decides(here.network, namespace).startswith("the manager")
    subject = who.subject() if central else Subject(Kind.NODE, node_labels=labels)
    ordered = [here.room.pools[name] for name in here.network.pools]
    decision = decide(subject, [each.candidate(place) for place, each in enumerate(ordered)])
    if decision.refused:
        return Outcome(asked.what, asked.namespace, False, (), decision.refused)
    if central and who.addresses:
        return _asked_for(here, asked.what, asked.namespace, who.addresses, decision, count)
    return _counted(here, asked, decision, subject.asked_pool, count, len(nodes), blocks=not central)


def _counted(here: _Cluster, asked: PodsAsked, decision: Decision, asked_pool: str, count: int, nodes: int, *, blocks: bool) -> Outcome:
    by_family = families_of(decision, {name: pool.candidate().families for name, pool in here.room.pools.items()}, asked_pool)
    taken: list[Taking] = []
    short = []
    for family in (each.value for each in here.network.families):
        some = here.room.take(by_family[family], family, count, blocks)
        taken += some
        if (missing := count - sum(each.count for each in some)) > 0:
            short.append(f"{missing} of {count} pods find no IPv{family} address in {' or '.join(by_family[family]) or 'any pool'}")
    reason = "; ".join(short) or (_rounding(here, taken, count, nodes) if blocks else "")
    return Outcome(asked.what, asked.namespace, not short, tuple(taken), reason)


def _rounding(here: _Cluster, taken: Sequence[Taking], count: int, nodes: int) -> str:
    """Nodes take whole blocks: the fewest, and as many as it can be where the scheduler spreads the pods."""
    said = []
    for each in taken:
        lengths = [prefix for prefix in here.room.pools[each.pool].prefixes if prefix.cidr.version == each.family and not prefix.central]
        if not lengths:
            continue
        size = 1 << (lengths[0].cidr.max_prefixlen - lengths[0].block_length)
        here.room.blocked[each.pool, each.family] = size
        spread = min(max(nodes, 1), count)
        most = spread * -(-each.count // (size * spread)) if count else 0
        said.append(f"{-(-each.count // size)} to {most} blocks of {size} addresses of {each.pool} on {nodes} nodes, those held counted")
    return "; ".join(said)


# --- Services ----------------------------------------------------------------------------------------------------------------


async def _service(here: _Cluster, asked: ServiceAsked) -> Outcome:
    if asked.cls != CLASS and not (here.class_less and not asked.cls):
        return Outcome(asked.what, asked.namespace, True, (), f"it is not ours: its class is {asked.cls or 'not set'}, ours is {CLASS}")
    subject = await explain.service_subject(here.tx, here.name, asked.namespace, asked.labels, asked.annotations)
    known = [pool for pool in here.room.pools.values() if pool.purpose.value == "Service"]
    decision = decide(subject, [each.candidate() for each in known])
    if decision.refused:
        return Outcome(asked.what, asked.namespace, False, (), decision.refused)
    shared = here.room.shared.get((asked.namespace, asked.sharing_key)) if asked.sharing_key else None
    if shared is not None:
        return Outcome(asked.what, asked.namespace, True, (), f"it shares the address of sharing key {asked.sharing_key!r}")
    outcome = await _one_each(here, asked, decision, subject.asked_pool) if not asked.addresses else await _free_for(here, asked, decision)
    if outcome.fits and asked.sharing_key:
        here.room.shared[asked.namespace, asked.sharing_key] = outcome.taken
    return outcome


async def _one_each(here: _Cluster, asked: ServiceAsked, decision: Decision, asked_pool: str) -> Outcome:
    families = asked.families or here.service_families
    if asked.policy == "SingleStack":
        families = families[:1]
    elif asked.policy == "RequireDualStack":
        families = (4, 6)
    by_family = families_of(decision, {name: pool.candidate().families for name, pool in here.room.pools.items()}, asked_pool)
    taken = [each for family in families for each in here.room.take(by_family[family], family, 1, False)]
    missing = [family for family in families if family not in {each.family for each in taken}]
    must = missing if asked.policy != "PreferDualStack" else missing if not taken else []
    if must:
        for each in taken:
            here.room.free[each.pool, each.family] += each.count
        return Outcome(asked.what, asked.namespace, False, (), f"no pool for it has a free IPv{' and IPv'.join(map(str, must))} address")
    return Outcome(asked.what, asked.namespace, True, tuple(taken), "")


async def _free_for(here: _Cluster, asked: ServiceAsked, decision: Decision) -> Outcome:
    for text in asked.addresses:
        address = parse_address(text, ADDRESSES)
        held = [each for pool in decision.order for each in await usage_rows.holders(here.tx, here.room.pools[pool].scope, alone(address))]
        if held:
            return Outcome(asked.what, asked.namespace, False, (), f"address {text} is held already")
    return _asked_for(here, asked.what, asked.namespace, asked.addresses, decision, 1)


def _in(address: Address, prefix: PoolPrefix) -> bool:
    return address.version == prefix.cidr.version and address in prefix.cidr


def _asked_for(here: _Cluster, what: str, namespace: str, texts: Sequence[str], decision: Decision, count: int) -> Outcome:
    """These very addresses, for one object alone."""
    taken: list[Taking] = []
    for address in (parse_address(text, ADDRESSES) for text in texts):
        around = (here.room.pools[name] for name in decision.order)
        pool = next((each for each in around if any(_in(address, prefix) for prefix in each.prefixes)), None)
        if pool is None:
            return Outcome(what, namespace, False, (), f"address {address} lies in no pool that it may have addresses of")
        if address in here.room.given or count > 1:
            return Outcome(what, namespace, False, (), f"address {address} is asked for more than once")
        here.room.given.add(address)
        taken += here.room.take([pool.name], address.version, 1, False)
    return Outcome(what, namespace, True, tuple(taken), "")
