"""Where the addresses of a cluster's pods live, as routes of one of its nodes. One query for blocks, one for single addresses."""

from dataclasses import dataclass

from sqlalchemy import bindparam, text

from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class Place:
    """A block or a single address that lives on another node, which says it is reached by these addresses of its own."""

    cidr: Prefix
    network: str
    via: tuple[Address, ...]


# Pools of the cluster's networks whose agents lay routes themselves; a pool of two networks counts for the first one by name.
_ROUTED = """
    routed as materialized (
      select k.pool_id, min(w.name) as network from network_pool k join network w on w.id = k.network_id
      where w.cluster_id = :cluster and w.routing = 'host-gw' group by k.pool_id
    )
"""
_BLOCKS = text(f"""
    with {_ROUTED}
    select b.cidr, r.network, n.addresses
    from routed r join prefix p on p.pool_id = r.pool_id join block b on b.prefix_id = p.id join node n on n.id = b.node_id
    where b.state in ('confirmed', 'releasing', 'held_back') and n.id <> :node and n.cluster_id = :cluster
    order by b.cidr
""").bindparams(bindparam("cluster"), bindparam("node"))
# From the central blocks, which are few, to their allocations by the index of addresses: most addresses lie in blocks of nodes.
_SINGLE = text(f"""
    with {_ROUTED}
    select host(a.address)::inet::cidr as cidr, coalesce(a.network, r.network) as network, n.addresses
    from routed r join prefix p on p.pool_id = r.pool_id join block b on b.prefix_id = p.id and b.state in ('central', 'held_back')
    cross join lateral (select case family(b.cidr) when 4 then 32 else 128 end as w) y
    cross join lateral (
      select x.address4 as address, x.node_id, x.network from allocation x where family(b.cidr) = 4 and x.scope = b.scope
        and x.address4 between set_masklen(b.cidr::inet, w) and set_masklen(broadcast(b.cidr), w) and x.released_at is null
      union all
      select x.address6, x.node_id, x.network from allocation x where family(b.cidr) = 6 and x.scope = b.scope
        and x.address6 between set_masklen(b.cidr::inet, w) and set_masklen(broadcast(b.cidr), w) and x.released_at is null
    ) a
    join node n on n.id = a.node_id
    where n.id <> :node and n.cluster_id = :cluster and n.state <> 'gone' and b.node_id is distinct from n.id
    order by 1
""").bindparams(bindparam("cluster"), bindparam("node"))


async def places(tx: Tx, cluster_id: int, node_id: int) -> list[Place]:
    """Blocks of the cluster's other nodes, then single addresses that live there."""
    wanted = {"cluster": cluster_id, "node": node_id}
    rows = [*await tx.all(_BLOCKS, wanted), *await tx.all(_SINGLE, wanted)]
    return [Place(row.cidr, row.network, tuple(row.addresses)) for row in rows]
