"""Rows of the history, to be read: who had an address, what an owner had."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Row, and_, bindparam, or_, select, text
from sqlalchemy.dialects.postgresql import INET

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.allocation import HistoryEntry, Holding
from fabricmgr.domain.names import ClusterName, NodeName
from fabricmgr.store.tables import history, node
from fabricmgr.store.tx import Tx

# An assignment ends with its own release, which has its generation; where that was lost, with the next assignment of the address. Each look
# walks the index of (address, at) from its own time on, and stops at the first hit, so an address may have been used any number of times.
_HOLDINGS = text(
    """
    select h.id, h.at, h.owner, h.scope, h.address, h.generation, h.actor, h.detail, n.name as node, c.name as cluster,
      released.at as released_at, released.reason, gone.at as gone_at, gone.reason as gone_reason, next.at as next_at
    from history h left join node n on n.id = h.node_id left join cluster c on c.id = n.cluster_id
    left join lateral (
      select e.at, e.detail ->> 'reason' as reason from history e where e.address = h.address and e.at >= h.at and e.scope = h.scope
        and e.generation = h.generation and e.what = 'released' order by e.at, e.id limit 1) released on true
    left join lateral (
      select e.at, e.detail ->> 'reason' as reason from history e where e.address = h.address and e.at >= h.at and e.scope = h.scope
        and e.generation = h.generation and e.what = 'gone' order by e.at, e.id limit 1) gone on true
    left join lateral (
      select e.at from history e where e.address = h.address and e.at >= h.at and e.scope = h.scope and e.what = 'assigned'
        and (e.at, e.id) > (h.at, h.id) order by e.at, e.id limit 1) next on true
    where h.address = :address and h.what = 'assigned' and h.at <= coalesce(:at, 'infinity')
      and (h.at, h.id) < (coalesce(:before_at, 'infinity'), coalesce(:before_id, 0))
    order by h.at desc, h.id desc limit :most
    """
).bindparams(
    bindparam("address", type_=INET),
    bindparam("at", type_=DateTime(timezone=True)),
    bindparam("before_at", type_=DateTime(timezone=True)),
    bindparam("before_id", type_=BigInteger),
)

Key = tuple[datetime, int]


async def holdings(tx: Tx, address: Address, at: datetime | None, before: Key | None, most: int) -> list[tuple[Key, Holding]]:
    """Newest first, each with its place in the list. at: those that began by then."""
    before_at, before_id = before or (None, None)
    values = {"address": address, "at": at, "before_at": before_at, "before_id": before_id, "most": most}
    return [((row.at, row.id), _holding(row)) for row in await tx.all(_HOLDINGS, values)]


def _holding(row: Row[Any]) -> Holding:
    detail: Mapping[str, Any] = row.detail or {}
    return Holding(
        address=row.address,
        scope=row.scope,
        owner=row.owner,
        label=str(detail.get("owner", row.owner or "")),
        generation=row.generation,
        cluster=None if row.cluster is None else ClusterName(row.cluster),
        node=None if row.node is None else NodeName(row.node),
        from_at=row.at,
        until_at=row.released_at or row.gone_at or row.next_at,
        gone_at=row.gone_at,
        reason=row.reason or row.gone_reason or "",
        by=row.actor or "",
        about={name: value for name, value in detail.items() if name not in ("owner", "reason")},
    )


async def entries(tx: Tx, address: Address | None, owner: UUID | None, before: Key | None, most: int) -> list[HistoryEntry]:
    """Newest first."""
    asked = select(history, node.c.name.label("node")).outerjoin(node, node.c.id == history.c.node_id)
    asked = asked.order_by(history.c.at.desc(), history.c.id.desc()).limit(most)
    if address is not None:
        asked = asked.where(history.c.address == address)
    if owner is not None:
        asked = asked.where(history.c.owner == owner)
    if before is not None:
        at, line = before
        asked = asked.where(history.c.at <= at, or_(history.c.at < at, and_(history.c.at == at, history.c.id < line)))
    return [_entry(row) for row in await tx.all(asked)]


def _entry(row: Row[Any]) -> HistoryEntry:
    detail = row.detail or {}
    return HistoryEntry(
        id=row.id,
        at=row.at,
        what=row.what,
        owner=row.owner,
        label=str(detail.get("owner", row.owner or "")),
        address=row.address,
        generation=row.generation,
        node=None if row.node is None else NodeName(row.node),
        by=row.actor or "",
        detail=detail,
    )
