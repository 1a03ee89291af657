"""What lives where in a cluster: its nodes, their blocks, and single addresses in central blocks. Three queries, however many nodes ask."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, text

from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.domain.names import NodeName, PoolName
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class NodePlace:
    """A node and the addresses it says it has; the first of each family is the way to it."""

    id: int
    name: NodeName
    addresses: tuple[Address, ...]
    looks: int = 0


@dataclass(frozen=True)
class HeldBlock:
    """A block that a node holds, or that is held back from it."""

    node_id: int
    pool: PoolName
    prefix_id: int
    cidr: Prefix
    state: str
    claim: int
    generation: int
    rested_at: datetime | None
    cooldown: timedelta


@dataclass(frozen=True)
class Single:
    """An address of a central block, and where it lives."""

    node_id: int
    pool: PoolName
    network: str | None
    cidr: Prefix


_NODES = text("select id, name, addresses, looks from node where cluster_id = :cluster and state <> 'gone'").bindparams(
    bindparam("cluster")
)
_BLOCKS = text(
    """
    select b.node_id, q.name as pool, b.prefix_id, b.cidr, b.state, b.claim, b.generation, b.rested_at, q.cooldown
    from node n join block b on b.node_id = n.id join prefix p on p.id = b.prefix_id join pool q on q.id = p.pool_id
    where n.cluster_id = :cluster order by q.name, b.cidr
    """
).bindparams(bindparam("cluster"))
# From the central blocks of the cluster's pools, which are few, to their allocations by the index of addresses: most lie elsewhere.
_SINGLES = text(
    """
    select n.id as node_id, q.name as pool, a.network, host(a.address)::inet::cidr as cidr
    from (select distinct k.pool_id from network_pool k join network w on w.id = k.network_id where w.cluster_id = :cluster) r
    join pool q on q.id = r.pool_id join prefix p on p.pool_id = q.id
    join block b on b.prefix_id = p.id and b.state in ('central', 'held_back')
    cross join lateral (select case family(b.cidr) when 4 then 32 else 128 end as w) y
    cross join lateral (
      select x.address4 as address, x.node_id, x.network from allocation x where family(b.cidr) = 4 and x.scope = b.scope
        and x.address4 between set_masklen(b.cidr::inet, w) and set_masklen(broadcast(b.cidr), w) and x.released_at is null
      union all
      select x.address6, x.node_id, x.network from allocation x where family(b.cidr) = 6 and x.scope = b.scope
        and x.address6 between set_masklen(b.cidr::inet, w) and set_masklen(broadcast(b.cidr), w) and x.released_at is null
    ) a
    join node n on n.id = a.node_id
    where n.cluster_id = :cluster and n.state <> 'gone' and b.node_id is distinct from n.id order by 4
    """
).bindparams(bindparam("cluster"))


async def nodes(tx: Tx, cluster_id: int) -> list[NodePlace]:
    """Those that are not gone."""
    return [NodePlace(row.id, NodeName(row.name), tuple(row.addresses), row.looks) for row in await tx.all(_NODES, {"cluster": cluster_id})]


async def blocks(tx: Tx, cluster_id: int) -> list[HeldBlock]:
    """By pool and address."""
    return [_block(row) for row in await tx.all(_BLOCKS, {"cluster": cluster_id})]


async def singles(tx: Tx, cluster_id: int) -> list[Single]:
    """By address."""
    return [Single(row.node_id, row.pool, row.network, row.cidr) for row in await tx.all(_SINGLES, {"cluster": cluster_id})]


def _block(row: Row[Any]) -> HeldBlock:
    return HeldBlock(
        node_id=row.node_id,
        pool=PoolName(row.pool),
        prefix_id=row.prefix_id,
        cidr=row.cidr,
        state=row.state,
        claim=row.claim,
        generation=row.generation,
        rested_at=row.rested_at,
        cooldown=row.cooldown,
    )
