"""Rows of allocations, to be read."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, case, exists, false, func, or_, select

from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.domain.allocation import Allocation, AllocationFilter, AllocationState, HeldAddress
from fabricmgr.domain.names import ClusterName, NetworkName, NodeName, PoolName
from fabricmgr.domain.owner import OwnerKind
from fabricmgr.store.tables import allocation, cluster, kube_pod, node, pool, prefix
from fabricmgr.store.tx import Tx
from fabricmgr.store.usage_rows import lies_in

_PREFIX4, _PREFIX6 = prefix.alias("prefix4"), prefix.alias("prefix6")
_POOL4, _POOL6 = pool.alias("pool4"), pool.alias("pool6")
# A ReplicaSet is called after its Deployment and the hash of its pods; a pod that nothing made has no owner.
_SUFFIX = func.concat("-", kube_pod.c.labels["pod-template-hash"].astext)
_OF_DEPLOYMENT = and_(
    kube_pod.c.owner_kind == "ReplicaSet", _SUFFIX != "-", func.right(kube_pod.c.owner_name, func.length(_SUFFIX)) == _SUFFIX
)
_made_by: ColumnElement[str] = case((_OF_DEPLOYMENT, func.left(kube_pod.c.owner_name, -func.length(_SUFFIX))), else_=kube_pod.c.owner_name)
_ITS_POD = and_(
    kube_pod.c.cluster_id == allocation.c.cluster_id,
    kube_pod.c.namespace == allocation.c.about["namespace"].astext,
    kube_pod.c.name == allocation.c.about["pod"].astext,
)
_ALLOCATIONS = (
    select(
        allocation,
        cluster.c.name.label("cluster"),
        node.c.name.label("node"),
        _POOL4.c.name.label("pool4"),
        _POOL6.c.name.label("pool6"),
        _made_by.label("workload"),
    )
    .outerjoin(kube_pod, _ITS_POD)
    .outerjoin(node, node.c.id == allocation.c.node_id)
    .outerjoin(cluster, cluster.c.id == allocation.c.cluster_id)
    .outerjoin(_PREFIX4, _PREFIX4.c.id == allocation.c.prefix4)
    .outerjoin(_PREFIX6, _PREFIX6.c.id == allocation.c.prefix6)
    .outerjoin(_POOL4, _POOL4.c.id == _PREFIX4.c.pool_id)
    .outerjoin(_POOL6, _POOL6.c.id == _PREFIX6.c.pool_id)
)


async def find(tx: Tx, wanted: AllocationFilter, after: UUID | None, limit: int) -> list[Allocation]:
    """By owner's key, which is their primary key."""
    conditions = _conditions(wanted)
    if wanted.pool is not None:
        conditions.append(await _of_pool(tx, wanted.pool))
    asked = _ALLOCATIONS.where(*conditions).order_by(allocation.c.owner).limit(limit)
    if after is not None:
        asked = asked.where(allocation.c.owner > after)
    return [_allocation(row) for row in await tx.all(asked)]


async def some(tx: Tx, wanted: AllocationFilter, skip: int, top: int) -> tuple[list[Allocation], int]:
    """By address, from the `skip`th on, with how many there are in all."""
    conditions = _conditions(wanted)
    if wanted.pool is not None:
        conditions.append(await _of_pool(tx, wanted.pool))
    order = (allocation.c.address4, allocation.c.address6)
    total = int(await tx.value(select(func.count()).select_from(allocation).where(*conditions)))
    asked = _ALLOCATIONS.where(*conditions).order_by(*order).offset(skip).limit(top)
    return [_allocation(row) for row in await tx.all(asked)], total


def _conditions(wanted: AllocationFilter) -> list[ColumnElement[bool]]:
    plain = (
        (allocation.c.node_id.in_(select(node.c.id).where(node.c.name == wanted.node)) if wanted.node else None),
        (allocation.c.cluster_id.in_(select(cluster.c.id).where(cluster.c.name == wanted.cluster)) if wanted.cluster else None),
        (allocation.c.network == wanted.network if wanted.network else None),
        (allocation.c.about["namespace"].astext == wanted.namespace if wanted.namespace else None),
        (allocation.c.about["pod"].astext == wanted.pod if wanted.pod else None),
        (_of_workload(wanted.workload) if wanted.workload else None),
        (allocation.c.owner == wanted.owner if wanted.owner else None),
        (allocation.c.owner.in_(wanted.owners) if wanted.owners is not None else None),
        (allocation.c.kind == wanted.kind.value if wanted.kind else None),
        (allocation.c.name == wanted.name if wanted.name else None),
        (allocation.c.container_id == wanted.container if wanted.container else None),
        (_at(wanted.address) if wanted.address else None),
        (_in_state(wanted.state) if wanted.state else None),
    )
    return [each for each in plain if each is not None]


def _of_workload(name: str) -> ColumnElement[bool]:
    return exists().where(and_(_ITS_POD, _made_by == name)).correlate(allocation)


async def _of_pool(tx: Tx, name: PoolName) -> ColumnElement[bool]:
    """By the ranges of its prefixes, so that a small pool among a million addresses is found by the index of addresses."""
    rows = await tx.all(select(prefix.c.cidr, prefix.c.scope).join(pool, pool.c.id == prefix.c.pool_id).where(pool.c.name == name))
    return or_(false(), *(and_(allocation.c.scope == row.scope, lies_in(_column(row.cidr), row.cidr)) for row in rows))


def _column(thing: Address | Prefix) -> ColumnElement[Any]:
    columns = allocation.c
    return columns.address4 if thing.version == 4 else columns.address6


def _at(address: Address) -> ColumnElement[bool]:
    """By the scopes of the prefixes around it, so that the index of (scope, address) serves it."""
    scopes = select(prefix.c.scope).where(prefix.c.cidr.op(">>=", is_comparison=True)(address))
    return and_(allocation.c.scope.in_(scopes), _column(address) == address)


def _in_state(state: AllocationState) -> ColumnElement[bool]:
    released = allocation.c.released_at
    return released.is_(None) if state is AllocationState.HELD else released.is_not(None)


def _allocation(row: Row[Any]) -> Allocation:
    halves = ((row.address4, row.pool4, row.generation4), (row.address6, row.pool6, row.generation6))
    held = tuple(HeldAddress(a, PoolName(p or ""), g) for a, p, g in halves if a is not None)
    return Allocation(
        owner=row.owner,
        kind=OwnerKind(row.kind),
        label=_label(row, held),
        addresses=held,
        cluster=None if row.cluster is None else ClusterName(row.cluster),
        node=None if row.node is None else NodeName(row.node),
        network=None if row.network is None else NetworkName(row.network),
        container=row.container_id,
        ifname=row.ifname,
        name=row.name,
        mac=row.mac,
        about=row.about,
        at=row.at,
        released_at=row.released_at,
        workload=row.workload or "",
    )


def _label(row: Row[Any], held: tuple[HeldAddress, ...]) -> str:
    if row.kind == OwnerKind.ATTACHMENT.value:
        return f"container {row.container_id} interface {row.ifname} network {row.network} node {row.node}"
    return f"{row.name} (pool {held[0].pool})"
