"""StatefulSets whose ordinals keep their addresses: held while a pod is away, given back when the ordinal is no more."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fabricmgr.controllers.cluster_view import ClusterView
from fabricmgr.domain.owner import SetPlace
from fabricmgr.kube.objects import Kind
from fabricmgr.kube.reflector import Change
from fabricmgr.kube.views import STATEFUL_SETS, StatefulSet
from fabricmgr.loop import Loop, Outcome
from fabricmgr.services import sticky
from fabricmgr.store import sticky_rows
from fabricmgr.store.tx import Tx

PERIOD = 1.0  # seconds: well below the cooldown that an address needs which nobody holds


class KubeSticky:
    """A part of following."""

    name = "sticky"
    kinds: Sequence[Kind[Any]] = (STATEFUL_SETS,)

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._loop = Loop(f"sticky addresses of {view.cluster}", self.look, PERIOD, view.chance)

    def changed(self, kind: Kind[Any], change: Change[Any]) -> None:
        self._loop.wake()

    async def run(self) -> None:
        await self._view.until_synced(STATEFUL_SETS)
        await self._loop.run()

    async def look(self) -> Outcome:
        """One pass over the places of the cluster; where there are none, one question."""
        async with self._view.database.read() as tx:
            rows = await sticky_rows.every(tx, self._view.cluster_id)
        if rows:
            await self._view.database.run(partial(self._settle, gone=[row.place for row in rows if not self._is_there(row.place)]))
        return Outcome.done("places of StatefulSets have their addresses" if rows else "no StatefulSet keeps addresses")

    async def _settle(self, tx: Tx, gone: Sequence[SetPlace]) -> None:
        now = self._view.clock()
        if gone:
            await sticky.forget(tx, gone, now)
        await sticky.keep(tx, self._view.cluster_id, now)

    def _is_there(self, place: SetPlace) -> bool:
        found = self._view.copy(STATEFUL_SETS).find(place.name, place.namespace)
        return found is not None and place.ordinal in ordinals(found)


def ordinals(found: StatefulSet) -> range:
    """Of the pods that it wants (Kubernetes reference, StatefulSetSpec: replicas, ordinals)."""
    start = found.spec.ordinals.start if found.spec.ordinals is not None else 0
    return range(start, start + (1 if found.spec.replicas is None else found.spec.replicas))
