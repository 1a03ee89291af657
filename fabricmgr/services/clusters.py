"""Clusters. A site that never names one lives in `default`."""

from datetime import datetime

from fabricmgr.domain.errors import AlreadyExists, InUse
from fabricmgr.domain.events import ClusterCreated, ClusterDeleted
from fabricmgr.domain.names import DEFAULT_CLUSTER, ClusterName
from fabricmgr.domain.network import Cluster
from fabricmgr.domain.page import Page, Paged
from fabricmgr.store import cluster_rows
from fabricmgr.store.tx import Tx


async def create(tx: Tx, name: ClusterName, by: str, now: datetime) -> Cluster:
    """Raises AlreadyExists."""
    if await cluster_rows.find(tx, name) is not None:
        raise AlreadyExists("cluster", name)
    made = await cluster_rows.insert(tx, name, now)
    tx.emit(ClusterCreated(name, by))
    return made


async def ensure_default(tx: Tx, now: datetime) -> Cluster:
    """The cluster of those who never name one. At each start."""
    return await cluster_rows.find(tx, DEFAULT_CLUSTER) or await create(tx, DEFAULT_CLUSTER, "fabricmgr", now)


async def get(tx: Tx, name: ClusterName) -> Cluster:
    """Raises NotFound."""
    return await cluster_rows.get(tx, name)


async def exists(tx: Tx, name: ClusterName) -> bool:
    return await cluster_rows.find(tx, name) is not None


async def list_all(tx: Tx, page: Page) -> Paged[Cluster]:
    """By name."""
    return await cluster_rows.page(tx, page)


async def delete(tx: Tx, name: ClusterName, by: str, now: datetime) -> None:
    """Only an empty one. Raises NotFound, and InUse while networks, nodes, pools or allocations belong to it."""
    del now
    found = await cluster_rows.get(tx, name, lock=True)
    users = await cluster_rows.users(tx, found)
    if users:
        raise InUse("cluster", name, f"it has {' and '.join(users)}")
    await cluster_rows.delete(tx, found)
    tx.emit(ClusterDeleted(name, by))
