"""What is measured: asked of the database when somebody looks, by Prometheus or by Redfish. No number is kept beside the truth."""

from collections.abc import Sequence
from datetime import datetime

from fabricmgr import metrics
from fabricmgr.domain.page import LARGEST_LIMIT, Page
from fabricmgr.domain.pool import Pool, PoolFilter
from fabricmgr.metrics import Query
from fabricmgr.services import pools
from fabricmgr.store import gauges
from fabricmgr.store.tx import Tx

_STATES = ("total", "held", "reserved", "cooling", "idle", "free")
POOLS = (metrics.POOL_ADDRESSES, metrics.POOL_UNCLAIMED, metrics.POOL_BLOCKS)
AGENTS = (metrics.NODES, metrics.NODE_TRAIL, metrics.NODE_FREE)
EVENTS = (metrics.OUTBOX_EVENTS, metrics.OUTBOX_AGE)

Samples = list[tuple[Query, tuple[str, ...], float]]


async def ask(tx: Tx, now: datetime) -> Samples:
    """Every gauge, with the values of its labels."""
    return [*await of_pools(tx, now), *await of_agents(tx, now), *await of_clusters(tx, now), *await of_events(tx, now)]


async def of_pools(tx: Tx, now: datetime) -> Samples:
    """How full pools are, and their blocks."""
    found: Samples = []
    for pool in await every_pool(tx):
        for usage in await pools.usage_of(tx, pool, now):
            found += [(metrics.POOL_ADDRESSES, (pool.name, usage.family.label, s), float(getattr(usage, s))) for s in _STATES]
    found += [(metrics.POOL_UNCLAIMED, (row.pool, f"IPv{row.family}"), row.blocks) for row in await gauges.unclaimed(tx)]
    return found + [(metrics.POOL_BLOCKS, (row.pool, row.state), row.blocks) for row in await gauges.blocks(tx)]


async def of_agents(tx: Tx, now: datetime) -> Samples:
    """Nodes by state, how far behind the manager is of each, and what each could give by itself."""
    found: Samples = [(metrics.NODES, (row.cluster, row.state), row.nodes) for row in await gauges.nodes(tx)]
    for row in await gauges.trails(tx, now):
        found.append((metrics.NODE_TRAIL, (row.cluster, row.node), row.seconds))
        for place, count in row.free.items():
            network, _, family = place.rpartition("/")
            found.append((metrics.NODE_FREE, (row.cluster, row.node, network, f"IPv{family}"), count))
    return found


async def of_clusters(tx: Tx, now: datetime) -> Samples:
    """How clusters' API servers are followed, and how their workloads are."""
    found: Samples = []
    for row in await gauges.clusters(tx, now):
        found.append((metrics.CLUSTER_FOLLOWED, (row.cluster,), float(row.followed)))
        if row.seconds is not None:
            found.append((metrics.CLUSTER_PROGRESS, (row.cluster,), max(0.0, row.seconds)))
    for row in await gauges.workloads(tx):
        found += [(metrics.WORKLOADS, (row.cluster, state), float(getattr(row, state))) for state in ("all", "degraded", "stalled")]
    for row in await gauges.service_addresses(tx):
        states = ("announced", "unannounced", "off_segment")
        found += [(metrics.SERVICE_ADDRESSES, (row.cluster, state), float(getattr(row, state))) for state in states]
    return found


async def of_events(tx: Tx, now: datetime) -> Samples:
    """Events that wait."""
    events, age = await gauges.outbox(tx, now)
    return [(metrics.OUTBOX_EVENTS, (), float(events)), (metrics.OUTBOX_AGE, (), age)]


async def every_pool(tx: Tx) -> Sequence[Pool]:
    """By name."""
    found: list[Pool] = []
    after: str | None = None
    while True:
        page = await pools.list_all(tx, PoolFilter(), Page(LARGEST_LIMIT, after))
        found += page.items
        if page.next is None:
            return found
        after = page.next
