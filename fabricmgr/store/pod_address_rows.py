"""Addresses in pods' statuses beside allocations, both ways. Finished pods and those on their host's network have none of their own."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Integer, Row, bindparam, text

from fabricmgr.domain.kube import FINISHED, MIRROR
from fabricmgr.domain.pod_addresses import Mismatch, Trail, What
from fabricmgr.store.tx import Tx

_CLUSTER = bindparam("cluster", type_=Integer)
_LIVE = f"not p.host_network and not p.deleting and p.phase not in ({', '.join(repr(each) for each in sorted(FINISHED))})"

# Only addresses of the pools of this cluster's networks are ours to speak of. Those of a scope are found by its index.
_SHOWN = text(f"""
    select p.namespace, p.name, p.node, host(x.address) as address, a.owner, a.about, a.container_id, n.name as holder
    from kube_pod p cross join lateral unnest(p.addresses) as x (address)
    join lateral (
      select r.scope from prefix r join network_pool k on k.pool_id = r.pool_id join network w on w.id = k.network_id
      where w.cluster_id = :cluster and r.cidr >>= x.address limit 1
    ) s on true
    left join lateral (
      select * from allocation b where b.scope = s.scope and b.address4 = x.address and family(x.address) = 4
      union all
      select * from allocation b where b.scope = s.scope and b.address6 = x.address and family(x.address) = 6
    ) a on true
    left join node n on n.id = a.node_id
    where p.cluster_id = :cluster and {_LIVE} and (
      a.owner is null or a.node_id is not null and n.name is distinct from p.node
      or (a.about ->> 'pod') is not null and (a.about ->> 'namespace', a.about ->> 'pod') is distinct from (p.namespace, p.name))
    order by 1, 2, 4
""").bindparams(_CLUSTER)

# A pod with several interfaces shows the first one's addresses alone: one attachment of it that agrees is enough. An allocation of another
# UID is of a namesake before, whose end is on its way.
_HELD = text("""
    select a.about ->> 'namespace' as namespace, a.about ->> 'pod' as pod, n.name as node,
      coalesce(host(a.address4), host(a.address6)) as address, p.uid is not null as shown
    from allocation a join node n on n.id = a.node_id
    left join kube_pod p on p.cluster_id = a.cluster_id and p.namespace = a.about ->> 'namespace' and p.name = a.about ->> 'pod'
    where a.cluster_id = :cluster and a.kind = 'attachment' and a.released_at is null and (a.about ->> 'pod') is not null and (
      p.uid is null
      or not p.host_network and not p.deleting and p.phase = 'Running' and cardinality(p.addresses) > 0
        and (a.about ->> 'uid' is null or a.about ->> 'uid' = p.uid)
        and not exists (
          select from allocation b where b.node_id = a.node_id and b.about ->> 'pod' = p.name and b.about ->> 'namespace' = p.namespace
            and (b.address4 = any (p.addresses) or b.address6 = any (p.addresses))))
    order by 1, 2, 4
""").bindparams(_CLUSTER)

# kubelet gives a pod that it has from a file the hash of its configuration as UID; the mirror in the API carries it as an annotation.
_MIRRORS = text(f"""
    update allocation a set about = a.about || jsonb_build_object('uid', p.uid, 'configuration', a.about ->> 'uid')
    from kube_pod p
    where p.cluster_id = :cluster and p.annotations ? '{MIRROR}' and a.cluster_id = p.cluster_id
      and a.about ->> 'namespace' = p.namespace and a.about ->> 'pod' = p.name and a.about ->> 'uid' = p.annotations ->> '{MIRROR}'
""").bindparams(_CLUSTER)

_TRAILS = text("select name, seen_at, report_age_ms from node where cluster_id = :cluster").bindparams(_CLUSTER)


async def mismatches(tx: Tx, cluster_id: int) -> list[Mismatch]:
    """All that differs now, whether it will in a moment or not."""
    shown = [_shown(row) for row in await tx.all(_SHOWN, {"cluster": cluster_id})]
    held = [
        Mismatch(What.MISSING, row.namespace or "", row.pod, row.node, row.address, shown=row.shown)
        for row in await tx.all(_HELD, {"cluster": cluster_id})
    ]
    return shown + held


def _shown(row: Row[Any]) -> Mismatch:
    if row.owner is None:
        return Mismatch(What.UNKNOWN, row.namespace, row.name, row.node, row.address)
    pod = f"pod {row.about['namespace']}/{row.about['pod']}" if {"namespace", "pod"} <= set(row.about) else ""
    holder = pod or (f"container {row.container_id}" if row.container_id else f"owner {row.owner}")
    return Mismatch(
        What.CONFLICT, row.namespace, row.name, row.node, row.address, f"{holder} of node {row.holder}" if row.holder else holder
    )


async def name_mirrors(tx: Tx, cluster_id: int) -> int:
    """Allocations of static pods get the UID that the API server knows them by. Gives back how many did."""
    return await tx.change(_MIRRORS, {"cluster": cluster_id})


async def trails(tx: Tx, cluster_id: int) -> dict[str, Trail]:
    """By the name of the node."""
    rows = await tx.all(_TRAILS, {"cluster": cluster_id})
    return {row.name: Trail(row.seen_at, timedelta(milliseconds=row.report_age_ms)) for row in rows}
