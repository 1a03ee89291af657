"""Rows of networks and of the pools they take addresses from."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, CIDR, aggregate_order_by

from fabricmgr.domain.addresses import Family
from fabricmgr.domain.errors import NotFound, VersionConflict
from fabricmgr.domain.names import ClusterName, NetworkName, PoolName
from fabricmgr.domain.network import Decide, Network, NetworkDraft, Routing, StatusPolicy
from fabricmgr.domain.page import Page, Paged
from fabricmgr.domain.pool import Pool
from fabricmgr.domain.selectors import parse as parse_selectors
from fabricmgr.store.tables import allocation, cluster, network, network_pool, pool, prefix
from fabricmgr.store.tx import Tx

_NETWORKS = select(network, cluster.c.name.label("cluster")).join(cluster, cluster.c.id == network.c.cluster_id)


async def find(tx: Tx, in_cluster: ClusterName, name: NetworkName, *, lock: bool = False) -> Network | None:
    wanted = _NETWORKS.where(cluster.c.name == in_cluster, network.c.name == name)
    found = await _read(tx, wanted.with_for_update(of=network) if lock else wanted)
    return found[0] if found else None


async def get(tx: Tx, in_cluster: ClusterName, name: NetworkName) -> Network:
    """Raises NotFound."""
    found = await find(tx, in_cluster, name)
    if found is None:
        raise NotFound("network", f"{in_cluster}/{name}")
    return found


async def take(tx: Tx, in_cluster: ClusterName, name: NetworkName, quoted: int | None) -> Network:
    """Lock it for a change. Raises NotFound and VersionConflict."""
    found = await find(tx, in_cluster, name, lock=True)
    if found is None:
        raise NotFound("network", f"{in_cluster}/{name}")
    if quoted is not None and quoted != found.version:
        raise VersionConflict("network", f"{in_cluster}/{name}", str(quoted), str(found.version))
    return found


async def page(tx: Tx, in_cluster: ClusterName | None, wanted: Page) -> Paged[Network]:
    """By cluster and name."""
    key = tuple_(cluster.c.name, network.c.name)
    asked = _NETWORKS.order_by(cluster.c.name, network.c.name).limit(wanted.limit + 1)
    if in_cluster is not None:
        asked = asked.where(cluster.c.name == in_cluster)
    if wanted.after is not None:
        before, _, name = wanted.after.partition("/")
        asked = asked.where(key > tuple_(before, name))
    return wanted.cut(await _read(tx, asked), lambda each: f"{each.cluster}/{each.name}")


async def of_cluster(tx: Tx, cluster_id: int) -> list[Network]:
    """All of them, by name."""
    return await _read(tx, _NETWORKS.where(network.c.cluster_id == cluster_id).order_by(network.c.name))


async def insert(tx: Tx, cluster_id: int, draft: NetworkDraft, pools: list[Pool], now: datetime) -> None:
    values = columns({name: value for name, value in vars(draft).items() if name not in ("cluster", "pools")})
    row = {"cluster_id": cluster_id, "created_at": now, **values}
    network_id = int(await tx.value(network.insert().returning(network.c.id), row))
    await _insert_pools(tx, network_id, pools)


async def change(tx: Tx, network_id: int, values: Mapping[str, Any]) -> None:
    """Its version grows."""
    await tx.change(network.update().where(network.c.id == network_id).values(version=network.c.version + 1, **columns(values)))


async def replace_pools(tx: Tx, network_id: int, pools: list[Pool]) -> None:
    await tx.change(network_pool.delete().where(network_pool.c.network_id == network_id))
    await _insert_pools(tx, network_id, pools)


async def found(tx: Tx, network_id: int, namespaces: tuple[str, ...]) -> None:
    """Namespaces that the manager decides for besides those named by hand. Its version stays: nobody asked for a change."""
    await tx.change(network.update().where(network.c.id == network_id).values(namespaces_found=list(namespaces)))


async def clusters_of_pool(tx: Tx, pool_id: int) -> list[int]:
    """Ids of clusters with a network over this pool, in order."""
    asked = select(network.c.cluster_id).distinct().join(network_pool, network_pool.c.network_id == network.c.id)
    return [int(row.cluster_id) for row in await tx.all(asked.where(network_pool.c.pool_id == pool_id).order_by(network.c.cluster_id))]


async def delete(tx: Tx, network_id: int) -> None:
    await tx.change(network.delete().where(network.c.id == network_id))


async def has_attachments(tx: Tx, found: Network) -> bool:
    """Whether containers hold addresses by it."""
    asked = (
        select(allocation.c.owner)
        .join(cluster, cluster.c.id == allocation.c.cluster_id)
        .where(cluster.c.name == found.cluster, allocation.c.network == found.name)
        .limit(1)
    )
    return await tx.first(asked) is not None


def columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as columns: enums by their word, tuples as arrays."""
    plain = {name: getattr(value, "value", value) for name, value in values.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


async def _insert_pools(tx: Tx, network_id: int, pools: list[Pool]) -> None:
    rows = [{"network_id": network_id, "pool_id": each.id, "place": place} for place, each in enumerate(pools)]
    await tx.change(network_pool.insert(), rows)


async def _read(tx: Tx, asked: Select[Any]) -> list[Network]:
    rows = await tx.all(asked)
    pools = await _pools(tx, [row.id for row in rows])
    return [_network(row, pools.get(row.id, [])) for row in rows]


async def _pools(tx: Tx, network_ids: list[int]) -> dict[int, list[Row[Any]]]:
    """Name and prefixes of each network's pools, in its order of preference."""
    in_order = aggregate_order_by(prefix.c.cidr, prefix.c.id)
    cidrs = func.array_agg(in_order, type_=ARRAY(CIDR)).filter(prefix.c.id.is_not(None)).label("cidrs")
    asked = (
        select(network_pool.c.network_id, network_pool.c.place, pool.c.name, pool.c.selectors, pool.c.auto_assign, cidrs)
        .join_from(network_pool, pool, pool.c.id == network_pool.c.pool_id)
        .outerjoin(prefix, prefix.c.pool_id == pool.c.id)
        .where(network_pool.c.network_id.in_(network_ids))
        .group_by(network_pool.c.network_id, network_pool.c.place, pool.c.id)
        .order_by(network_pool.c.network_id, network_pool.c.place)
    )
    found: dict[int, list[Row[Any]]] = {}
    for row in await tx.all(asked) if network_ids else []:
        found.setdefault(row.network_id, []).append(row)
    return found


def _network(row: Row[Any], pools: list[Row[Any]]) -> Network:
    prefixes = tuple(cidr for each in pools for cidr in each.cidrs or ())
    return Network(
        id=row.id,
        cluster=ClusterName(row.cluster),
        name=NetworkName(row.name),
        pools=tuple(PoolName(each.name) for each in pools),
        families=tuple(family for family in Family if any(cidr.version == family.value for cidr in prefixes)),
        prefixes=prefixes,
        mtu=row.mtu,
        masquerade=row.masquerade,
        routing=Routing(row.routing),
        decide=Decide(row.decide),
        namespaces=tuple(row.namespaces),
        direct=tuple(row.direct),
        bridge=row.bridge,
        status_policy=StatusPolicy(row.status_policy),
        created_at=row.created_at,
        version=row.version,
        namespaces_found=tuple(row.namespaces_found),
        block_pools=tuple(PoolName(each.name) for each in pools if _for_blocks(each)),
    )


def _for_blocks(row: Row[Any]) -> bool:
    wanted = parse_selectors(row.selectors)
    return bool(row.auto_assign or wanted) and not wanted.by_namespace
