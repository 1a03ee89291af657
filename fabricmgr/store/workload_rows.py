"""What was last said of workloads and Nodes of a cluster, so that a restart says nothing twice and misses nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from fabricmgr.domain.events import Json
from fabricmgr.store.tables import allocation, workload
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class Key:
    """namespace: empty for a Node."""

    kind: str
    namespace: str
    name: str


async def find(tx: Tx, cluster_id: int, key: Key) -> Mapping[str, Json] | None:
    """Its state, locked."""
    row = await tx.first(select(workload.c.state).where(*_at(cluster_id, key)).with_for_update())
    return None if row is None else dict(row.state)


async def put(tx: Tx, cluster_id: int, key: Key, uid: str, state: Mapping[str, Json], now: datetime) -> None:
    values = {"uid": uid, "state": dict(state), "at": now}
    statement = upsert(workload).values(cluster_id=cluster_id, **vars(key), **values)
    await tx.change(statement.on_conflict_do_update(index_elements=["cluster_id", "kind", "namespace", "name"], set_=values))


async def delete(tx: Tx, cluster_id: int, key: Key) -> None:
    await tx.change(workload.delete().where(*_at(cluster_id, key)))


async def keys(tx: Tx, cluster_id: int) -> set[Key]:
    """Of all that is remembered."""
    asked = select(workload.c.kind, workload.c.namespace, workload.c.name).where(workload.c.cluster_id == cluster_id)
    return {Key(row.kind, row.namespace, row.name) for row in await tx.all(asked)}


async def busiest_network(tx: Tx, cluster_id: int) -> str | None:
    """The one with most attachments."""
    wanted = (allocation.c.cluster_id == cluster_id, allocation.c.kind == "attachment")
    asked = select(allocation.c.network).where(*wanted).group_by(allocation.c.network)
    row = await tx.first(asked.order_by(func.count().desc(), allocation.c.network).limit(1))
    return None if row is None else str(row.network)


def _at(cluster_id: int, key: Key) -> tuple[ColumnElement[bool], ...]:
    columns = workload.c
    return (
        columns.cluster_id == cluster_id,
        columns.kind == key.kind,
        columns.namespace == key.namespace,
        columns.name == key.name,
    )
