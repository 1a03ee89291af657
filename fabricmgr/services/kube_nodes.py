"""Nodes of a cluster's API beside ours: which are the same machine, what happens to them, and how many addresses each has left."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from fabricmgr.domain import kube_node, machine
from fabricmgr.domain.addresses import Address
from fabricmgr.domain.events import DomainEvent
from fabricmgr.domain.kube import KubeNode
from fabricmgr.domain.kube_node import Agent, Memory, Rules, Seen
from fabricmgr.domain.machine import Machine
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.network import Decide, Network
from fabricmgr.domain.node import Node, NodeState
from fabricmgr.domain.pool import Usage
from fabricmgr.services import nodes, pools
from fabricmgr.store import cluster_rows, kube_rows, network_rows, node_rows, pool_rows, pressure, workload_rows
from fabricmgr.store.tx import Tx
from fabricmgr.store.workload_rows import Key

KIND = "Node"
MOST_NAMED = 5  # in a sentence
POLICY = "policy: its Node was deleted and its agent has been silent"


@dataclass(frozen=True)
class Matched:
    """node: ours, None where no machine of ours is it. reason: why, or what is doubtful."""

    node: Node | None
    reason: str


class Ours:
    """Our nodes of a cluster as they were a moment ago, ready to be matched."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self._known = machine.Known(_machine(each) for each in nodes)

    def match(self, shown: KubeNode) -> Matched:
        """Which of our nodes a Node of the API is."""
        place, reason = self._known.find(Machine(uuid=shown.system_uuid, addresses=frozenset(shown.addresses), name=shown.name))
        return Matched(None if place is None else self.nodes[place], reason)


async def ours_of(tx: Tx, cluster_id: int) -> Ours:
    return Ours(await node_rows.of_cluster(tx, cluster_id))


def _machine(node: Node) -> Machine:
    macs = frozenset(str(each.get("mac", "")) for each in node.interfaces)
    return Machine(uuid=node.system_uuid, macs=macs, addresses=frozenset(node.addresses) | _interface_addresses(node), name=node.name)


def _interface_addresses(node: Node) -> set[Address]:
    found = set()
    for each in node.interfaces:
        listed = each.get("addresses")
        for text in listed if isinstance(listed, list) else ():
            with suppress(ValueError):
                found.add(ip_address(str(text).partition("/")[0]))
    return {each for each in found if not each.is_link_local and not each.is_loopback}


def unmatched(shown: Iterable[KubeNode], ours: Ours) -> tuple[list[tuple[str, str]], list[str]]:
    """Nodes of the API that none of ours is, with what is doubtful; and those of ours that the API does not show."""
    found = [(each.name, ours.match(each)) for each in shown]
    known = {matched.node.name for _, matched in found if matched.node is not None}
    alive = [str(each.name) for each in ours.nodes if each.state is not NodeState.GONE and each.name not in known]
    return [(name, matched.reason) for name, matched in found if matched.node is None], alive


def doubtful(shown: Iterable[KubeNode], ours: Ours) -> str:
    """Which Nodes have no agent and which agents no Node, in a sentence for people; empty where each has its own."""
    alone, agents = unmatched(shown, ours)
    without = [f"{name} ({reason})" if reason else name for name, reason in alone[:MOST_NAMED]]
    said = [f"no agent on {', '.join(without)}{_more(alone)}"] if alone else []
    said += [f"not in the API: {', '.join(agents[:MOST_NAMED])}{_more(agents)}"] if agents else []
    return "; ".join(said)


def _more(found: Sequence[object]) -> str:
    return f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""


async def shown_as(tx: Tx, ours: Sequence[Node]) -> dict[int, KubeNode]:
    """What the APIs of their clusters show of nodes of ours, by our id: the Node of the same name, else the one that is the machine."""
    found: dict[int, KubeNode] = {}
    for cluster in {each.cluster for each in ours}:
        known = await kube_rows.nodes(tx, (await cluster_rows.get(tx, cluster)).id)
        names = {each.name: each for each in known}
        mine = Ours([each for each in ours if each.cluster == cluster])
        matched = {node.id: each for each in known if (node := mine.match(each).node) is not None}
        found |= {node.id: each for node in mine.nodes if (each := names.get(node.name) or matched.get(node.id)) is not None}
    return found


@dataclass(frozen=True)
class Observed:
    """again: when to look once more. system: our node that it is, if any. doubt: why none is."""

    again: datetime | None
    system: str | None
    doubt: str
    told: Sequence[DomainEvent] = ()


async def observe(
    tx: Tx, cluster_id: int, cluster: ClusterName, name: str, shown: KubeNode | None, seen: Seen | None, ours: Ours, rules: Rules
) -> Observed:
    """Tell what happened to a Node since it was seen last; give its node of ours up when it is gone. Its labels are ours then too."""
    key = Key(KIND, "", name)
    state = await workload_rows.find(tx, cluster_id, key)
    memory = None if state is None else Memory.from_json(state)
    matched = ours.match(shown) if shown is not None else Matched(_remembered(state, ours.nodes, name), "")
    # As it is now: its agent may have spoken since.
    node = None if matched.node is None else await node_rows.find(tx, cluster, matched.node.name)
    agent = None if node is None else Agent(node.name, node.seen_at, node.state is NodeState.GONE)
    found = kube_node.look(cluster, name, memory, seen, agent, rules)
    for event in found.events:
        tx.emit(event)
    if found.memory is None:
        await workload_rows.delete(tx, cluster_id, key)
    elif found.memory != memory or (node is not None and state is not None and state.get("system") != node.name):
        told = {**found.memory.to_json(), "system": "" if node is None else node.name}
        await workload_rows.put(tx, cluster_id, key, found.memory.uid, told, rules.now)
    if found.gone and node is not None:
        await nodes.declare_gone(tx, cluster, node.name, POLICY, rules.now, POLICY)
    if node is not None and shown is not None and dict(node.labels) != dict(shown.labels):
        await node_rows.change(tx, node.id, {"labels": dict(shown.labels)})
    return Observed(found.again, None if node is None else node.name, "" if node is not None else matched.reason, found.events)


def _remembered(state: Mapping[str, object] | None, ours: Sequence[Node], name: str) -> Node | None:
    """A deleted Node says nothing of its machine any more: the one that it was."""
    system = (state or {}).get("system") or name
    return next((each for each in ours if each.name == system), None)


# --- headroom --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Headroom:
    """free: pods that the node could take, by the family that has fewest. exhausted: families of networks without any, such as podnet/4.
    faults: what its agent found wrong with the node's network, in sentences."""

    free: int
    exhausted: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stock:
    """What pools of a cluster's networks have: by name of the pool and family. pressed: pools without a block to claim."""

    networks: Sequence[Network]
    families: Mapping[tuple[str, int], Usage]
    pressed: frozenset[str]


async def stock(tx: Tx, cluster_id: int, cluster: ClusterName, now: datetime) -> Stock:
    """It counts every allocation of these pools."""
    networks = await network_rows.of_cluster(tx, cluster_id)
    return Stock(networks, await _families(tx, networks, now), frozenset(await pressure.pressed(tx, cluster, now)))


def headroom(ours: Ours, held: Stock, used: str | None) -> dict[str, Headroom]:
    """By the name of our node, for those whose agents said what they have. used: the network that every pod needs an address of."""
    alive = [each for each in ours.nodes if each.state in (NodeState.ENROLLED, NodeState.SUSPECT)]
    return {str(each.name): room for each in alive if (room := _headroom(each, held, used)) is not None}


async def most_used(tx: Tx, cluster_id: int) -> str | None:
    """The network that most pods are in: each pod has an address of it. It reads every allocation of the cluster."""
    return await workload_rows.busiest_network(tx, cluster_id)


async def _families(tx: Tx, networks: Iterable[Network], now: datetime) -> dict[tuple[str, int], Usage]:
    """How each pool stands, by name and family."""
    found = {}
    for pool in (await pool_rows.of_names(tx, {name for each in networks for name in each.pools})).values():
        for usage in await pools.usage_of(tx, pool, now):
            found[(str(pool.name), usage.family.value)] = usage
    return found


def _headroom(node: Node, held: Stock, used: str | None) -> Headroom | None:
    rooms: dict[str, dict[str, int]] = {}
    for network in held.networks:
        for family in network.families:
            room = _room(node, network, family.value, held)
            if room is not None:
                rooms.setdefault(network.name, {})[f"{network.name}/{family.value}"] = room
    if not rooms:
        return None
    # Second interfaces want other networks: a pod without one runs all the same.
    chosen = rooms[used] if used in rooms else max(rooms.values(), key=lambda each: min(each.values()))
    return Headroom(min(chosen.values()), tuple(sorted(place for place, room in chosen.items() if room <= 0)), node.faults)


def _room(node: Node, network: Network, family: int, held: Stock) -> int | None:
    """In its blocks, and in pools that it may still claim of or be given addresses of. None where its agent has not said yet."""
    open_pools = [name for name in network.pools if (name, family) in held.families]
    if network.decide is Decide.MANAGER:
        return sum(held.families[(name, family)].free for name in open_pools)
    said = node.free.get(f"{network.name}/{family}")
    if said is None:
        return None
    return int(said) + sum(held.families[(name, family)].free for name in open_pools if name not in held.pressed)
