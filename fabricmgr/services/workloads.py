"""What was said of a workload, and what is to be said: both in one transaction, so that a restart neither repeats nor misses it."""

from collections.abc import Sequence
from datetime import datetime

from fabricmgr.domain.events import DomainEvent, WorkloadDeleted
from fabricmgr.domain.workload import Memory, Place, Seen, look
from fabricmgr.store import workload_rows
from fabricmgr.store.tx import Tx
from fabricmgr.store.workload_rows import Key


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
