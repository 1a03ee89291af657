"""Nodes, namespaces and pods of a cluster as rows: what changed within a moment is one statement for each kind."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fabricmgr.controllers.cluster_view import ClusterView
from fabricmgr.kube.objects import Kind
from fabricmgr.kube.reflector import Change
from fabricmgr.kube.views import NAMESPACES, NODES, PODS
from fabricmgr.loop import Loop, Outcome
from fabricmgr.services import selecting
from fabricmgr.services.kube_shown import namespace_of, node_of, pod_of
from fabricmgr.store import kube_rows
from fabricmgr.store.tx import Tx

GATHER = 0.05  # seconds that changes gather in: pods come many at a time, and nobody waits longer for it than for the scheduler
PERIOD = 1.0  # seconds between looks that nothing woke
MOST = 500  # rows of one transaction


@dataclass
class Dirty:
    """Of one kind: objects to be written by uid, and uids that are gone."""

    written: dict[str, Any] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)

    def take(self, most: int) -> tuple[list[Any], list[str]]:
        """Some of it, which is no longer here then."""
        uids, gone = list(self.written)[:most], list(self.gone)
        self.gone.clear()
        return [self.written.pop(uid) for uid in uids], gone


class KubeRows:
    """A part of following. whole: set once rows say all that the API server shows."""

    name = "rows"
    kinds: Sequence[Kind[Any]] = (NODES, NAMESPACES, PODS)

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._dirty = {kind.name: Dirty() for kind in self.kinds}
        self._whole: set[str] = set()
        self.whole = asyncio.Event()
        self._loop = Loop(f"{self.name} of {view.cluster}", self.look, PERIOD, view.chance)

    def changed(self, kind: Kind[Any], change: Change[Any]) -> None:
        dirty, uid = self._dirty[kind.name], change.object.uid
        if change.new is None:
            dirty.written.pop(uid, None)
            dirty.gone[uid] = None
        else:
            dirty.written[uid] = change.new
        self._loop.wake_within(GATHER)

    async def run(self) -> None:
        await self._loop.run()

    async def look(self) -> Outcome:
        """All that is to be written, in as many transactions as it takes."""
        while await self._some():
            pass
        return Outcome.done("rows say what the API server shows")

    async def _some(self) -> bool:
        missing = [kind for kind in self.kinds if kind.name not in self._whole and self._view.synced(kind)]
        taken = {kind.name: self._dirty[kind.name].take(MOST) for kind in self.kinds}
        if not missing and not any(written or gone for written, gone in taken.values()):
            return False
        # What is taken out and not written, should this fail, is found again by holding all rows against the copies.
        whole, self._whole = self._whole, set()
        await self._view.database.run(partial(self._write, taken, missing))
        self._whole = whole | {kind.name for kind in missing}
        if len(self._whole) == len(self.kinds):
            self.whole.set()
        return any(dirty.written for dirty in self._dirty.values())

    async def _write(self, taken: dict[str, tuple[list[Any], list[str]]], missing: Sequence[Kind[Any]], tx: Tx) -> None:
        """What is gone first: its name may be another's by now."""
        cluster, now = self._view.cluster_id, self._view.clock()
        gone = {name: list(each[1]) for name, each in taken.items()}
        for kind in missing:
            known = await kube_rows.uids(tx, cluster, _TABLES[kind.name])
            gone[kind.name] += sorted(known - set(self._view.copy(kind).store))
            taken[kind.name] = list(self._view.copy(kind).store.values()), []
        forgotten = await self._forget(tx, gone)
        await kube_rows.write_nodes(tx, cluster, [node_of(each) for each in taken[NODES.name][0]], now)
        changed = await kube_rows.write_namespaces(tx, cluster, [namespace_of(each) for each in taken[NAMESPACES.name][0]])
        pods = taken[PODS.name][0]
        for start in range(0, len(pods), MOST):
            await kube_rows.write_pods(tx, cluster, [pod_of(each) for each in pods[start : start + MOST]])
        if changed or forgotten:
            await selecting.refresh(tx, cluster)

    async def _forget(self, tx: Tx, gone: dict[str, list[str]]) -> int:
        """Gives back how many namespaces."""
        cluster = self._view.cluster_id
        if gone[NODES.name]:
            await kube_rows.forget_nodes(tx, cluster, gone[NODES.name])
        if gone[PODS.name]:
            await kube_rows.forget_pods(tx, cluster, gone[PODS.name])
        return await kube_rows.forget_namespaces(tx, cluster, gone[NAMESPACES.name]) if gone[NAMESPACES.name] else 0


_TABLES = {NODES.name: "kube_node", NAMESPACES.name: "kube_namespace", PODS.name: "kube_pod"}
