"""Ranges of clusters and prefixes of pools, to be held against each other."""

from sqlalchemy import select, text

from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.pool import Purpose
from fabricmgr.domain.ranges import ClusterRanges, PooledPrefix
from fabricmgr.store.tables import cluster, cluster_api, pool, prefix
from fabricmgr.store.tx import Tx

# Any number that nobody else takes: two that add a range and a prefix at the same time see one another.
_LOCK = text("select pg_advisory_xact_lock(7283561)")


async def lock(tx: Tx) -> None:
    """Until the end of the transaction, nobody else adds a range or a prefix."""
    await tx.all(_LOCK)


async def ranges(tx: Tx) -> list[ClusterRanges]:
    """Of every cluster that has an API server."""
    asked = select(cluster.c.name, cluster_api).join_from(cluster_api, cluster, cluster.c.id == cluster_api.c.cluster_id)
    rows = await tx.all(asked.order_by(cluster.c.name))
    return [ClusterRanges(ClusterName(row.name), tuple(row.service_ranges), tuple(row.pod_ranges)) for row in rows]


async def prefixes(tx: Tx) -> list[PooledPrefix]:
    """Of all pools of the address space that clusters lie in."""
    asked = (
        select(prefix.c.cidr, pool.c.name, pool.c.purpose, cluster.c.name.label("cluster"))
        .join_from(prefix, pool, pool.c.id == prefix.c.pool_id)
        .outerjoin(cluster, cluster.c.id == pool.c.cluster_id)
        .where(pool.c.scope == 0)
        .order_by(pool.c.name, prefix.c.cidr)
    )
    return [
        PooledPrefix(row.name, None if row.cluster is None else ClusterName(row.cluster), Purpose(row.purpose), row.cidr)
        for row in await tx.all(asked)
    ]
