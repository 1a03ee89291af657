"""What was said of a workload, and what is to be said: both in one transaction, so that a restart neither repeats nor misses it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fabricmgr.domain.events import DomainEvent, WorkloadDeleted
from fabricmgr.domain.kube import KubePod
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.workload import Memory, Place, Seen, look
from fabricmgr.services import peers
from fabricmgr.store import cluster_rows, kube_rows, workload_rows
from fabricmgr.store.tx import Tx
from fabricmgr.store.workload_rows import Filter, Key


async def observe(
    tx: Tx, cluster_id: int, place: Place, seen: Seen, now: datetime, *, baseline: bool = False
) -> tuple[Sequence[DomainEvent], datetime | None]:
    """Tell what happened to it since it was seen last. Gives back that, and when it must be looked at again though nothing changes."""
    key = Key(place.kind, place.namespace, place.name)
    state = await workload_rows.find(tx, cluster_id, key)
    memory = None if state is None else Memory.from_json(state)
    found = look(place, memory, seen, now, baseline=baseline)
    for event in found.events:
        tx.emit(event)
    if found.memory != memory:
        await workload_rows.put(tx, cluster_id, key, seen.uid, found.memory.to_json(), now)
    return found.events, found.again


async def forget(tx: Tx, cluster_id: int, place: Place) -> Sequence[DomainEvent]:
    """One that is gone: another of its name is another. Told once, and only of one that anything was remembered of."""
    key = Key(place.kind, place.namespace, place.name)
    if await workload_rows.find(tx, cluster_id, key) is None:
        return ()
    await workload_rows.delete(tx, cluster_id, key)
    gone = WorkloadDeleted(**vars(place))
    tx.emit(gone)
    return (gone,)


# --- for people ------------------------------------------------------------------------------------------------------------

KINDS = ("DaemonSet", "Deployment", "StatefulSet")


@dataclass(frozen=True)
class WorkloadView:
    """pods: those that hold addresses now, by name."""

    cluster: ClusterName
    key: Key
    uid: str
    memory: Memory
    at: datetime
    pods: tuple[KubePod, ...]


async def some(tx: Tx, cluster: ClusterName, wanted: Filter, skip: int, top: int) -> tuple[list[Key], int]:
    """Those of a cluster that fit, from the `skip`th on; and how many fit. Raises NotFound (cluster)."""
    return await workload_rows.some(tx, (await cluster_rows.get(tx, cluster)).id, KINDS, wanted, skip, top)


async def views(tx: Tx, cluster: ClusterName, keys: Sequence[Key]) -> dict[Key, WorkloadView]:
    """As they are remembered, with their pods. Raises NotFound (cluster)."""
    found = await cluster_rows.get(tx, cluster)
    rows = await workload_rows.read(tx, found.id, keys)
    pods: dict[Key, list[KubePod]] = defaultdict(list)
    for namespace in {each.namespace for each in rows}:
        for pod in await kube_rows.pods(tx, found.id, namespace):
            kind, name = peers.workload_of(pod)
            if pod.holds_addresses and pod.addresses:
                pods[Key(kind, namespace, name)].append(pod)
    return {
        key: WorkloadView(cluster, key, row.uid, Memory.from_json(row.state), row.at, tuple(sorted(pods[key], key=lambda each: each.name)))
        for key, row in rows.items()
    }
