"""Networks of a cluster: what a CNI configuration's name stands for."""

from datetime import datetime

from fabricmgr.domain.errors import AlreadyExists, InUse, Invalid, NotFound
from fabricmgr.domain.events import NetworkChanged, NetworkCreated, NetworkDeleted
from fabricmgr.domain.names import ClusterName, NetworkName, PoolName
from fabricmgr.domain.network import Decide, Network, NetworkChange, NetworkDraft
from fabricmgr.domain.page import Page, Paged
from fabricmgr.domain.pool import Pool, Purpose
from fabricmgr.services import selecting
from fabricmgr.store import cluster_rows, network_rows, pool_rows
from fabricmgr.store.tx import Tx


async def create(tx: Tx, draft: NetworkDraft, by: str, now: datetime) -> Network:
    """Raises AlreadyExists, NotFound (cluster, pool), Invalid for a pool that cannot serve it."""
    cluster = await cluster_rows.get(tx, draft.cluster)
    if await network_rows.find(tx, draft.cluster, draft.name) is not None:
        raise AlreadyExists("network", f"{draft.cluster}/{draft.name}")
    pools = await _pools(tx, draft.cluster, draft.pools)
    await network_rows.insert(tx, cluster.id, draft, pools, now)
    await selecting.refresh(tx, cluster.id)
    tx.emit(NetworkCreated(draft.cluster, draft.name, by))
    return await network_rows.get(tx, draft.cluster, draft.name)


async def get(tx: Tx, cluster: ClusterName, name: NetworkName) -> Network:
    """Raises NotFound."""
    return await network_rows.get(tx, cluster, name)


async def list_all(tx: Tx, cluster: ClusterName | None, page: Page) -> Paged[Network]:
    """By cluster and name. Raises NotFound for a cluster that does not exist."""
    if cluster is not None:
        await cluster_rows.get(tx, cluster)
    return await network_rows.page(tx, cluster, page)


async def change(
    tx: Tx, cluster: ClusterName, name: NetworkName, wanted: NetworkChange, if_version: int | None, by: str, now: datetime
) -> Network:
    """Raises NotFound, VersionConflict, Invalid. Attachments keep what they have: a pool taken out only gives no more."""
    del now
    found = await network_rows.take(tx, cluster, name, if_version)
    differing = {field: value for field, value in wanted.given().items() if getattr(found, field) != value}
    if not differing:
        return found
    _check_namespaces(found, differing)
    if "pools" in differing and wanted.pools is not None:
        await network_rows.replace_pools(tx, found.id, await _pools(tx, cluster, wanted.pools))
    await network_rows.change(tx, found.id, {field: value for field, value in differing.items() if field != "pools"})
    await selecting.refresh(tx, (await cluster_rows.get(tx, cluster)).id)
    tx.emit(NetworkChanged(cluster, name, tuple(sorted(differing)), by))
    return await network_rows.get(tx, cluster, name)


async def delete(tx: Tx, cluster: ClusterName, name: NetworkName, if_version: int | None, by: str, now: datetime) -> None:
    """Only when no container holds an address by it. Raises NotFound, VersionConflict, InUse."""
    del now
    found = await network_rows.take(tx, cluster, name, if_version)
    if await network_rows.has_attachments(tx, found):
        raise InUse("network", f"{cluster}/{name}", "containers hold addresses of it")
    await network_rows.delete(tx, found.id)
    tx.emit(NetworkDeleted(cluster, name, by))


def _check_namespaces(found: Network, differing: dict[str, object]) -> None:
    """The two fields are checked together, whichever of them changes."""
    decide = differing.get("decide", found.decide)
    if differing.get("namespaces", found.namespaces) and decide is not Decide.NAMESPACES:
        raise Invalid("namespaces", ", ".join(found.namespaces), "no namespaces, unless decide is 'namespaces'")


async def _pools(tx: Tx, cluster: ClusterName, names: tuple[PoolName, ...]) -> list[Pool]:
    """In the order given, each fit for pods of this cluster."""
    found = await pool_rows.of_names(tx, names)
    for name in names:
        if name not in found:
            raise NotFound("pool", name)
        _check_pool(cluster, found[name])
    scopes = {each.scope for each in found.values()}
    if len(scopes) > 1:
        raise Invalid("pools", ", ".join(names), "pools of one scope: addresses of two could be equal")
    return [found[name] for name in names]


def _check_pool(cluster: ClusterName, pool: Pool) -> None:
    if pool.purpose is not Purpose.POD:
        raise Invalid("pools", pool.name, f"a pool of purpose {Purpose.POD.value}; this one's is {pool.purpose.value}")
    if pool.cluster not in (None, cluster):
        raise Invalid("pools", pool.name, f"a pool of cluster {cluster}; this one is kept for {pool.cluster}")
