"""Services that wait until nodes have spoken or fallen silent: one look at all of a cluster's, however many they are."""

from datetime import datetime

from sqlalchemy import DateTime, Float, Integer, bindparam, text

from fabricmgr.domain.election import LOUD_FOR
from fabricmgr.store.tx import Tx

# What another Service has too is not waited for: it stays announced.
_GOING = text("""
    select s.namespace, s.name, case s.state
      when 'moving' then s.assigned_at is null or s.assigned_at < :late or not exists (
        select from allocation a join announcement n on n.cluster_id = s.cluster_id and n.address in (a.address4, a.address6)
        where a.owner = s.owner and a.released_at is null and n.state <> 'speaking' and n.reason = '' and n.conflict = '')
      else not exists (
        select from unnest(array[case s.state when 'withdrawing' then s.owner end, s.former]) o (owner)
        join allocation a on a.owner = o.owner and a.released_at is null
        cross join lateral (values (a.address4), (a.address6)) h (address)
        where h.address is not null
          and not exists (
            select from service t where t.owner = o.owner and t.cluster_id = s.cluster_id and t.state <> 'withdrawing'
              and (t.namespace, t.name) <> (s.namespace, s.name))
          and (
            exists (select from announcement n where n.cluster_id = s.cluster_id and n.address = h.address and n.node_id is not null)
            or exists (
              select from voice v left join announcer b on b.node_id = v.node_id
              where v.cluster_id = s.cluster_id and v.address = h.address and v.stage <> 'silent'
                and greatest(b.beat_at, v.told_at) > clock_timestamp() - make_interval(secs => :loud))))
      end as ready
    from service s where s.cluster_id = :cluster and s.state in ('moving', 'leaving', 'withdrawing')
""").bindparams(bindparam("cluster", type_=Integer), bindparam("late", type_=DateTime(timezone=True)), bindparam("loud", type_=Float))


async def going(tx: Tx, cluster_id: int, late: datetime) -> dict[tuple[str, str], bool]:
    """By namespace and name: whether another look at it is worth it. Without those that wait for nothing.

    late: one that moves since before then waits no longer."""
    rows = await tx.all(_GOING, {"cluster": cluster_id, "late": late, "loud": LOUD_FOR})
    return {(row.namespace, row.name): row.ready for row in rows}
