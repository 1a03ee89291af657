"""Nodes of a cluster: matched with ours, told of, and marked with how many addresses they have left.

The scheduler knows CPU and memory, not addresses. A Node without any is tainted so that no further pod is sent there; STATUS does not fail
for it, since that would evict those that run. A label shows the number to people.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from fabricmgr.controllers.cluster_view import ClusterView
from fabricmgr.domain.errors import ApiRefused
from fabricmgr.domain.kube_node import Rules, Seen
from fabricmgr.domain.names import ClusterName
from fabricmgr.kube import node_marks
from fabricmgr.kube.objects import Kind
from fabricmgr.kube.queue import Queue
from fabricmgr.kube.reflector import Change
from fabricmgr.kube.views import NODES, Node
from fabricmgr.loop import Loop, Outcome
from fabricmgr.metrics import KUBE_TRANSITIONS
from fabricmgr.problems import sentence
from fabricmgr.services import kube_nodes
from fabricmgr.services.kube_nodes import KIND, Headroom
from fabricmgr.services.kube_shown import node_of
from fabricmgr.store import workload_rows
from fabricmgr.store.tx import Tx

log = logging.getLogger(__name__)

NO_ADDRESSES = "fabricmgr.io/no-addresses"  # taint
DEGRADED = "fabricmgr.io/network-degraded"  # taint
FREE = "fabricmgr.io/free-addresses"  # label
MARKS = "headroom"  # the cluster's page has a right that is missing for marks beside what is doubtful of Nodes
PERIOD = 2.0  # seconds between looks at what is free
RESYNC = 30.0  # seconds between looks at all Nodes: agents fall silent without a change of their Node
COUNT = timedelta(seconds=5)  # between counts of what pools have
QUIET = timedelta(seconds=60)  # between two writes of a number that changed little


@dataclass(frozen=True)
class Shown:
    """What a Node's label says, and since when."""

    free: int
    at: datetime


class KubeNodes:
    """A part of following. grace: from a deleted Node's silence to its being given up; None for never."""

    name = "nodes"
    kinds: Sequence[Kind[Any]] = (NODES,)

    def __init__(self, view: ClusterView, grace: timedelta | None) -> None:
        self._view = view
        self._grace = grace
        self._systems: dict[str, str] = {}
        self.doubts: dict[str, str] = {}
        self._shown: dict[str, Shown] = {}
        self._known = False
        self._ours = kube_nodes.Ours([])
        self._stock = kube_nodes.Stock((), {}, frozenset())
        self._counted_at: datetime | None = None
        self._used: str | None = None
        self._used_at: datetime | None = None
        self._queue: Queue[str] = Queue("nodes", self.reconcile, chance=view.chance, keys=self._names, resync=RESYNC)
        self._loop = Loop(f"headroom of {view.cluster}", self.mark, PERIOD, view.chance)

    def changed(self, kind: Kind[Any], change: Change[Any]) -> None:
        if not self._known or _said(change.old) != _said(change.new):
            self._queue.add(change.object.name)

    async def run(self) -> None:
        await self._view.until_synced(NODES)
        await self._database_look()
        await self._view.database.run(self._take_in)
        self._known = True
        for name in self._names():
            self._queue.add(name)
        await _both(self._queue, self._loop)

    async def _take_in(self, tx: Tx) -> None:
        """What is there when nobody ever looked is no news."""
        if self._view.first:
            for name in self._names():
                await self._observe(tx, name, baseline=True)
        else:
            for key in await workload_rows.keys(tx, self._view.cluster_id):
                if key.kind == KIND:
                    self._systems.setdefault(key.name, "")

    def _names(self) -> Iterable[str]:
        """Of Nodes that are there, and of those that are remembered."""
        return sorted({each.name for each in self._view.copy(NODES).store.values()} | set(self._systems))

    # --- what happens to them ---

    async def reconcile(self, name: str) -> Outcome:
        """One look at one Node."""
        observed = await self._view.database.run(partial(self._observe, name=name))
        if self._view.copy(NODES).find(name) is None and observed.again is None:
            self._systems.pop(name, None)
        for event in observed.told:
            KUBE_TRANSITIONS.labels(self._view.cluster, event.what).inc()
            log.info("kubernetes node", extra={"event": event.what, "about": event.about()})
        if observed.again is not None:
            self._queue.add_within(name, max(0.1, (observed.again - self._view.clock()).total_seconds()))
        if observed.doubt:
            return Outcome.blocked(f"no machine of ours is it: {observed.doubt}")
        return Outcome.done(f"it is {observed.system}" if observed.system else "it has no agent")

    async def _observe(self, tx: Tx, name: str, *, baseline: bool = False) -> kube_nodes.Observed:
        found = self._view.copy(NODES).find(name)
        seen = None if found is None else Seen(found.uid, found.ready, unready(found))
        rules = Rules(self._view.clock(), self._view.began, self._grace, baseline)
        shown = None if found is None else node_of(found)
        observed = await kube_nodes.observe(
            tx, self._view.cluster_id, ClusterName(self._view.cluster), name, shown, seen, self._ours, rules
        )
        self._systems[name] = observed.system or ""
        return observed

    # --- what is left on them ---

    async def mark(self) -> Outcome:
        """Taints and labels of Nodes whose agents are known, where they differ from what they should be."""
        nodes = list(self._view.copy(NODES).store.values())
        await self._database_look()
        self._view.notes[self.name] = kube_nodes.doubtful(map(node_of, nodes), self._ours)
        rooms = kube_nodes.headroom(self._ours, self._stock, self._used)
        written = 0
        try:
            for node in nodes:
                room = rooms.get(self._systems.get(node.name, ""))
                if room is not None and not node.metadata.deleting:
                    written += await self._mark(node, room)
        except ApiRefused as refused:
            self._view.notes[MARKS] = f"free addresses are not shown: {sentence(refused)}"
            return Outcome.again(60.0, self._view.notes[MARKS])
        self._view.notes.pop(MARKS, None)
        return Outcome.done(f"marked {written} nodes" if written else "nodes show what they have left")

    async def _database_look(self) -> None:
        """Nodes each time; what costs a count of allocations only now and then."""
        now, cluster, name = self._view.clock(), self._view.cluster_id, ClusterName(self._view.cluster)
        async with self._view.database.read() as tx:
            self._ours = await kube_nodes.ours_of(tx, cluster)
            if self._counted_at is None or now - self._counted_at >= COUNT:
                self._stock, self._counted_at = await kube_nodes.stock(tx, cluster, name, now), now
            if self._used_at is None or now - self._used_at >= QUIET:
                self._used, self._used_at = await kube_nodes.most_used(tx, cluster), now

    async def _mark(self, node: Node, room: Headroom) -> bool:
        exhausted = bool(room.exhausted)
        changed = node_marks.tainted(node, NO_ADDRESSES) != exhausted
        if changed:
            await node_marks.taint(self._view.client, node.name, NO_ADDRESSES, on=exhausted)
            await self._say(node, room)
        if node_marks.tainted(node, DEGRADED) != bool(room.faults):
            await node_marks.taint(self._view.client, node.name, DEGRADED, on=bool(room.faults))
            changed = True
        if self._worth_it(node, room.free):
            await node_marks.label(self._view.client, node.name, {FREE: str(room.free)})
            self._shown[node.name] = Shown(room.free, self._view.clock())
            changed = True
        return changed

    async def _say(self, node: Node, room: Headroom) -> None:
        if room.exhausted:
            message = f"No free address is left for pods here ({', '.join(room.exhausted)}): no further pod is sent to this node."
            await self._view.events.say(NODES, node, "NoFreeAddresses", message, warning=True)
        else:
            await self._view.events.say(NODES, node, "FreeAddresses", "Addresses are free for pods again.")

    def _worth_it(self, node: Node, free: int) -> bool:
        """Each write wakes everybody who watches Nodes: a number that changed by less than a tenth waits."""
        text = node.labels.get(FREE, "")
        if text == str(free):
            return False
        if not text.isdecimal() or (int(text) == 0) != (free == 0):
            return True
        shown = self._shown.get(node.name)
        late = shown is None or self._view.clock() - shown.at >= QUIET
        return late or abs(free - int(text)) * 10 >= max(free, int(text))


async def _both(queue: Queue[str], loop: Loop) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(queue.run())
        group.create_task(loop.run())


def unready(node: Node) -> str:
    """Why a Node is not ready, in the words of its condition."""
    for each in node.status.conditions or ():
        if each.type == "Ready" and each.status != "True":
            return each.message or each.reason
    return ""


def _said(node: Node | None) -> object:
    """What of a Node is told or matched. Its heartbeat is not."""
    return None if node is None else (node.uid, node.ready, node_of(node))
