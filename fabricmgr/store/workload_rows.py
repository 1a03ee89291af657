"""What was last said of workloads and Nodes of a cluster, so that a restart says nothing twice and misses nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select, tuple_
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


@dataclass(frozen=True)
class Filter:
    """None: any."""

    kind: str | None = None
    namespace: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Remembered:
    key: Key
    uid: str
    state: Mapping[str, Json]
    at: datetime


async def some(tx: Tx, cluster_id: int, kinds: Sequence[str], wanted: Filter, skip: int, top: int) -> tuple[list[Key], int]:
    """Those of these kinds that fit, by kind, namespace and name, from the `skip`th on; and how many fit."""
    columns = workload.c
    fits = [columns.cluster_id == cluster_id, columns.kind.in_(kinds)]
    fits += [columns[name] == value for name, value in vars(wanted).items() if value is not None]
    named = (columns.kind, columns.namespace, columns.name)
    rows = await tx.all(select(*named).where(*fits).order_by(*named).offset(skip).limit(top))
    total = await tx.value(select(func.count()).select_from(workload).where(*fits))
    return [Key(row.kind, row.namespace, row.name) for row in rows], int(total)


async def read(tx: Tx, cluster_id: int, keys: Sequence[Key]) -> dict[Key, Remembered]:
    """What is remembered of these; of some of them there may be nothing."""
    named = tuple_(workload.c.kind, workload.c.namespace, workload.c.name)
    places = [(each.kind, each.namespace, each.name) for each in keys]
    rows = await tx.all(select(workload).where(workload.c.cluster_id == cluster_id, named.in_(places)))
    found = [Remembered(Key(row.kind, row.namespace, row.name), row.uid, dict(row.state), row.at) for row in rows]
    return {each.key: each for each in found}


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
