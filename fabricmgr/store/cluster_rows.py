"""Rows of clusters."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, exists, select

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.network import Cluster
from fabricmgr.domain.page import Page, Paged
from fabricmgr.store.tables import allocation, cluster, cluster_api, network, node, pool, zone
from fabricmgr.store.tx import Tx


def _cluster(row: Row[Any]) -> Cluster:
    return Cluster(row.id, ClusterName(row.name), row.created_at, row.version)


async def insert(tx: Tx, name: ClusterName, now: datetime) -> Cluster:
    row = await tx.only(cluster.insert().returning(cluster), {"name": name, "created_at": now})
    return _cluster(row)


async def find(tx: Tx, name: ClusterName, *, lock: bool = False) -> Cluster | None:
    wanted = select(cluster).where(cluster.c.name == name)
    row = await tx.first(wanted.with_for_update() if lock else wanted)
    return None if row is None else _cluster(row)


async def get(tx: Tx, name: ClusterName, *, lock: bool = False) -> Cluster:
    """Raises NotFound."""
    found = await find(tx, name, lock=lock)
    if found is None:
        raise NotFound("cluster", name)
    return found


async def page(tx: Tx, wanted: Page) -> Paged[Cluster]:
    rows = await tx.all(select(cluster).where(cluster.c.name > (wanted.after or "")).order_by(cluster.c.name).limit(wanted.limit + 1))
    return wanted.cut([_cluster(row) for row in rows], lambda each: each.name)


async def users(tx: Tx, found: Cluster) -> list[str]:
    """Who stands in the way of its deletion, as kinds."""
    tables = {"networks": network, "nodes": node, "pools": pool, "allocations": allocation, "zones": zone}
    asked = select(*(exists().where(table.c.cluster_id == found.id).label(kind) for kind, table in tables.items()))
    row = await tx.only(asked)
    return [kind for kind in tables if getattr(row, kind)]


async def has_api(tx: Tx, cluster_id: int) -> bool:
    """Whether an API server is known that says who its pods are."""
    return bool(await tx.value(select(exists().where(cluster_api.c.cluster_id == cluster_id))))


async def delete(tx: Tx, found: Cluster) -> None:
    await tx.change(cluster.delete().where(cluster.c.id == found.id))


async def grow(tx: Tx, cluster_id: int) -> None:
    """Its version grows: what lies in it changed."""
    await tx.change(cluster.update().where(cluster.c.id == cluster_id).values(version=cluster.c.version + 1))
