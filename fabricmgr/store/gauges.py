"""What the gauges of /metrics ask: one query each."""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Row, bindparam, text

from fabricmgr.domain.election import OFF_SEGMENT
from fabricmgr.store.tx import Tx

_NOW = bindparam("now", type_=DateTime(timezone=True))

_UNCLAIMED = text("""
    select q.name as pool, family(p.cidr) as family,
      sum(power(2::float8, p.block_len - masklen(p.cidr))
        - (select count(*) from block b where b.prefix_id = p.id and b.state <> 'unclaimed')) as blocks
    from prefix p join pool q on q.id = p.pool_id where not p.central group by 1, 2
""")
_BLOCKS = text("""
    select q.name as pool, b.state, count(*) as blocks
    from block b join prefix p on p.id = b.prefix_id join pool q on q.id = p.pool_id group by 1, 2
""")
_NODES = text("select c.name as cluster, n.state, count(*) as nodes from node n join cluster c on c.id = n.cluster_id group by 1, 2")
_TRAIL = text("""
    select c.name as cluster, n.name as node, n.free,
      greatest(extract(epoch from :now - n.seen_at), 0)::float8 + n.report_age_ms / 1000.0 as seconds
    from node n join cluster c on c.id = n.cluster_id where n.seen_at is not null and n.state <> 'gone'
""").bindparams(_NOW)
_CLUSTERS = text("""
    select c.name as cluster, (a.state = 'following')::int as followed, extract(epoch from :now - a.progressed_at)::float8 as seconds
    from cluster_api a join cluster c on c.id = a.cluster_id
""").bindparams(_NOW)
_WORKLOADS = text("""
    select c.name as cluster, count(*) as all, count(*) filter (where w.state ->> 'available' = 'false') as degraded,
      count(*) filter (where w.state ->> 'rollout' = 'stalled') as stalled
    from workload w join cluster c on c.id = w.cluster_id where w.kind in ('Deployment', 'StatefulSet', 'DaemonSet') group by 1
""")
_SERVICE_ADDRESSES = text("""
    select c.name as cluster, count(*) filter (where a.state = 'speaking') as announced,
      count(*) filter (where a.state <> 'speaking' and a.reason <> :far) as unannounced,
      count(*) filter (where a.state <> 'speaking' and a.reason = :far) as off_segment
    from announcement a join cluster c on c.id = a.cluster_id group by 1
""").bindparams(bindparam("far", OFF_SEGMENT))
_OUTBOX = text("select count(*) as events, coalesce(extract(epoch from :now - min(at)), 0)::float8 as seconds from outbox").bindparams(_NOW)


async def unclaimed(tx: Tx) -> list[Row[Any]]:
    """pool, family, blocks."""
    return await tx.all(_UNCLAIMED)


async def blocks(tx: Tx) -> list[Row[Any]]:
    """pool, state, blocks."""
    return await tx.all(_BLOCKS)


async def nodes(tx: Tx) -> list[Row[Any]]:
    """cluster, state, nodes."""
    return await tx.all(_NODES)


async def trails(tx: Tx, now: datetime) -> list[Row[Any]]:
    """cluster, node, free (by network/family), seconds."""
    return await tx.all(_TRAIL, {"now": now})


async def clusters(tx: Tx, now: datetime) -> list[Row[Any]]:
    """cluster, followed, seconds (None: it never said anything)."""
    return await tx.all(_CLUSTERS, {"now": now})


async def workloads(tx: Tx) -> list[Row[Any]]:
    """cluster, all, degraded, stalled."""
    return await tx.all(_WORKLOADS)


async def service_addresses(tx: Tx) -> list[Row[Any]]:
    """cluster, announced, unannounced, off_segment."""
    return await tx.all(_SERVICE_ADDRESSES)


async def outbox(tx: Tx, now: datetime) -> tuple[int, float]:
    """Events that wait, and the age of the oldest in seconds."""
    row = (await tx.all(_OUTBOX, {"now": now}))[0]
    return int(row.events), float(row.seconds)


async def answers(tx: Tx) -> None:
    """Returns when the database answers."""
    await tx.value(text("select 1"))
