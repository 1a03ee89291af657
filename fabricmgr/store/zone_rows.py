"""Rows of zones and what is in them."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from fabricmgr.domain.fabric import Zone
from fabricmgr.domain.names import ClusterName
from fabricmgr.store.tables import cluster, endpoint, pool, zone, zone_endpoint, zone_pool
from fabricmgr.store.tx import Tx

_ZONES = select(zone, cluster.c.name.label("cluster")).join(cluster, cluster.c.id == zone.c.cluster_id)


async def find(tx: Tx, in_cluster: ClusterName, name: str, *, lock: bool = False) -> Zone | None:
    asked = _ZONES.where(cluster.c.name == in_cluster, zone.c.name == name)
    found = await _read(tx, asked.with_for_update(of=zone) if lock else asked)
    return found[0] if found else None


async def every(tx: Tx) -> list[Zone]:
    """By cluster and name."""
    return await _read(tx, _ZONES.order_by(cluster.c.name, zone.c.name))


async def of_cluster(tx: Tx, in_cluster: ClusterName) -> list[Zone]:
    """By name."""
    return await _read(tx, _ZONES.where(cluster.c.name == in_cluster).order_by(zone.c.name))


async def of_pool(tx: Tx, pool_id: int) -> list[Zone]:
    """Those whose endpoints take addresses from it."""
    taking = select(zone_pool.c.zone_id).where(zone_pool.c.pool_id == pool_id)
    return await _read(tx, _ZONES.where(zone.c.id.in_(taking)).order_by(cluster.c.name, zone.c.name))


async def insert(tx: Tx, cluster_id: int, name: str, description: str, now: datetime) -> int:
    row = {"cluster_id": cluster_id, "name": name, "description": description, "created_at": now}
    return int(await tx.value(zone.insert().returning(zone.c.id), row))


async def change(tx: Tx, zone_id: int, **values: object) -> None:
    """Its version grows, also without values: what is in it changed then."""
    await tx.change(zone.update().where(zone.c.id == zone_id).values(version=zone.c.version + 1, **values))


async def grow_around_node(tx: Tx, node_id: int) -> None:
    """Versions grow of zones that endpoints of a node are in, and of those zones' pools: their pages lose them with the node."""
    own = select(endpoint.c.id).where(endpoint.c.node_id == node_id)
    inside = select(zone_endpoint.c.zone_id).where(zone_endpoint.c.endpoint_id.in_(own))
    taking = select(zone_pool.c.pool_id).where(zone_pool.c.zone_id.in_(inside))
    await tx.change(zone.update().where(zone.c.id.in_(inside)).values(version=zone.c.version + 1))
    await tx.change(pool.update().where(pool.c.id.in_(taking)).values(version=pool.c.version + 1))


async def grow_around_pool(tx: Tx, pool_id: int) -> None:
    """Versions grow of zones that take addresses from a pool, and of their endpoints."""
    taking = select(zone_pool.c.zone_id).where(zone_pool.c.pool_id == pool_id)
    inside = select(zone_endpoint.c.endpoint_id).where(zone_endpoint.c.zone_id.in_(taking))
    await tx.change(zone.update().where(zone.c.id.in_(taking)).values(version=zone.c.version + 1))
    await tx.change(endpoint.update().where(endpoint.c.id.in_(inside)).values(version=endpoint.c.version + 1))


async def set_endpoints(tx: Tx, zone_id: int, endpoint_ids: Iterable[int]) -> None:
    """These and no others."""
    await tx.change(zone_endpoint.delete().where(zone_endpoint.c.zone_id == zone_id))
    rows = [{"zone_id": zone_id, "endpoint_id": each} for each in sorted(set(endpoint_ids))]
    if rows:
        await tx.change(zone_endpoint.insert(), rows)


async def set_pools(tx: Tx, zone_id: int, pool_ids: Iterable[int]) -> None:
    """These and no others."""
    await tx.change(zone_pool.delete().where(zone_pool.c.zone_id == zone_id))
    rows = [{"zone_id": zone_id, "pool_id": each} for each in sorted(set(pool_ids))]
    if rows:
        await tx.change(zone_pool.insert(), rows)


async def delete(tx: Tx, zone_id: int) -> None:
    await tx.change(zone.delete().where(zone.c.id == zone_id))


async def _read(tx: Tx, asked: Select[Any]) -> list[Zone]:
    rows = await tx.all(asked)
    endpoints = await _names(tx, zone_endpoint.c.zone_id, select(endpoint.c.name).join(zone_endpoint), [row.id for row in rows])
    pools = await _names(tx, zone_pool.c.zone_id, select(pool.c.name).join(zone_pool), [row.id for row in rows])
    return [
        Zone(row.id, ClusterName(row.cluster), row.name, row.description, endpoints[row.id], pools[row.id], row.version) for row in rows
    ]


async def _names(tx: Tx, zone_id: Any, asked: Select[Any], zone_ids: list[int]) -> dict[int, tuple[str, ...]]:
    """Names of what is in each zone, in order."""
    found: dict[int, tuple[str, ...]] = defaultdict(tuple)
    if zone_ids:
        for row in await tx.all(asked.add_columns(zone_id.label("zone_id")).where(zone_id.in_(zone_ids)).order_by("name")):
            found[row.zone_id] += (row.name,)
    return found
