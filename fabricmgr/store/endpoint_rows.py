"""Rows of endpoints, and the NICs of nodes that have none."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, select, true, tuple_

from fabricmgr.domain.fabric import Endpoint, EndpointDraft, Nic, ZoneName, endpoint_name
from fabricmgr.domain.names import ClusterName, NodeName
from fabricmgr.store.tables import cluster, endpoint, node, pool, zone, zone_endpoint, zone_pool
from fabricmgr.store.tx import Tx

_NAMED = (
    select(endpoint, node.c.name.label("node"), cluster.c.name.label("cluster"), node.c.interfaces, node.c.state)
    .join(node, node.c.id == endpoint.c.node_id)
    .join(cluster, cluster.c.id == node.c.cluster_id)
)
_NODES = select(node.c.id, node.c.name, node.c.interfaces, cluster.c.name.label("cluster")).join(cluster, cluster.c.id == node.c.cluster_id)


async def find(tx: Tx, name: str, *, lock: bool = False) -> Endpoint | None:
    """One that was named."""
    asked = _NAMED.where(endpoint.c.name == name)
    found = await _with_zones(tx, [_endpoint(row) for row in await tx.all(asked.with_for_update(of=endpoint) if lock else asked)])
    return found[0] if found else None


async def every(tx: Tx, *, of_node: int | None = None) -> list[Endpoint]:
    """By name: those with a row, and a NIC for each that has none, of nodes that are not gone."""
    of_row: ColumnElement[bool] = true() if of_node is None else endpoint.c.node_id == of_node
    named = [_endpoint(row) for row in await tx.all(_NAMED.where(of_row))]
    taken = {(each.node_id, each.interface) for each in named}
    here: ColumnElement[bool] = true() if of_node is None else node.c.id == of_node
    nodes = await tx.all(_NODES.where(here, node.c.state != "gone"))
    rest = [each for row in nodes for each in _unnamed(row) if (each.node_id, each.interface) not in taken]
    return sorted([*await _with_zones(tx, named), *rest], key=lambda each: each.name)


async def unnamed(tx: Tx, cluster_name: str, node_name: str, name: str) -> Endpoint | None:
    """The NIC of a node that is shown under this name, unless it has a row."""
    row = await tx.first(_NODES.where(cluster.c.name == cluster_name, node.c.name == node_name, node.c.state != "gone"))
    found = None if row is None else next((each for each in _unnamed(row) if each.name == name), None)
    if found is None:
        return None
    taken = endpoint.c.node_id == found.node_id, endpoint.c.interface == found.interface
    return None if await tx.first(select(endpoint.c.id).where(*taken)) is not None else found


async def insert(tx: Tx, name: str, node_id: int, interface: str, description: str, now: datetime) -> int:
    """Gives back its id. AlreadyExists comes from the database."""
    row = {"name": name, "node_id": node_id, "interface": interface, "description": description, "created_at": now}
    return int(await tx.value(endpoint.insert().returning(endpoint.c.id), row))


async def find_nic(tx: Tx, draft: EndpointDraft) -> str | None:
    """The name of the endpoint that this NIC has already."""
    asked = _NAMED.where(cluster.c.name == draft.cluster, node.c.name == draft.node, endpoint.c.interface == draft.interface)
    row = await tx.first(asked)
    return None if row is None else str(row.name)


async def change(tx: Tx, endpoint_ids: Iterable[int], **values: object) -> None:
    """Their versions grow, also without values: their zones changed then."""
    wanted = endpoint.update().where(endpoint.c.id.in_(list(endpoint_ids)))
    await tx.change(wanted.values(version=endpoint.c.version + 1, **values))


async def delete(tx: Tx, endpoint_id: int) -> None:
    await tx.change(endpoint.delete().where(endpoint.c.id == endpoint_id))


def _endpoint(row: Row[Any]) -> Endpoint:
    nic = next((Nic.of(each) for each in row.interfaces if each.get("name") == row.interface and row.state != "gone"), None)
    place = ClusterName(row.cluster), NodeName(row.node)
    return Endpoint(row.id, row.name, row.node_id, *place, row.interface, nic, row.description, version=row.version)


def _unnamed(row: Row[Any]) -> list[Endpoint]:
    place = ClusterName(row.cluster), NodeName(row.name)
    nics = [Nic.of(each) for each in row.interfaces]
    return [Endpoint(None, endpoint_name(*place, nic.name), row.id, *place, nic.name, nic) for nic in nics]


async def _with_zones(tx: Tx, found: list[Endpoint]) -> list[Endpoint]:
    asked = [each.id for each in found if each.id is not None]
    zones: dict[int, list[ZoneName]] = defaultdict(list)
    pools: dict[int, list[str]] = defaultdict(list)
    if asked:
        inside = (
            select(zone_endpoint.c.endpoint_id, zone.c.name, cluster.c.name.label("cluster"))
            .join(zone, zone.c.id == zone_endpoint.c.zone_id)
            .join(cluster, cluster.c.id == zone.c.cluster_id)
            .where(zone_endpoint.c.endpoint_id.in_(asked))
        )
        for row in await tx.all(inside.order_by(cluster.c.name, zone.c.name)):
            zones[row.endpoint_id].append(ZoneName(ClusterName(row.cluster), row.name))
        taking = (
            select(zone_endpoint.c.endpoint_id, pool.c.name)
            .distinct()
            .join(zone_pool, zone_pool.c.zone_id == zone_endpoint.c.zone_id)
            .join(pool, pool.c.id == zone_pool.c.pool_id)
            .where(zone_endpoint.c.endpoint_id.in_(asked))
        )
        for row in await tx.all(taking.order_by(pool.c.name)):
            pools[row.endpoint_id].append(row.name)
    return [replace(each, zones=tuple(zones[each.id or 0]), pools=tuple(pools[each.id or 0])) for each in found]


async def of_keys(tx: Tx, keys: Iterable[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Ids of the endpoints of NICs, by node and interface."""
    wanted = tuple_(endpoint.c.node_id, endpoint.c.interface).in_(list(keys))
    return {(row.node_id, row.interface): row.id for row in await tx.all(select(endpoint).where(wanted))}
