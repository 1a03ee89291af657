"""Nodes by when their agents were last heard."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update

from fabricmgr.store.tables import cluster, node
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class Heard:
    """A node whose state changed, and when it was last heard."""

    cluster: str
    node: str
    seen_at: datetime


async def suspect(tx: Tx, silent_since: datetime) -> Sequence[Heard]:
    """Enrolled nodes that were not heard since then become suspect. Nothing else of them changes."""
    return await _change(tx, "enrolled", "suspect", node.c.seen_at < silent_since)


async def recover(tx: Tx, silent_since: datetime) -> Sequence[Heard]:
    """Suspect nodes that were heard again are enrolled ones."""
    return await _change(tx, "suspect", "enrolled", node.c.seen_at >= silent_since)


async def _change(tx: Tx, old: str, new: str, condition: Any) -> Sequence[Heard]:
    wanted = select(node.c.id).where(node.c.state == old, condition).order_by(node.c.id).with_for_update(skip_locked=True)
    changed = (
        update(node)
        .where(node.c.id.in_(wanted.scalar_subquery()), node.c.cluster_id == cluster.c.id)
        .values(state=new, version=node.c.version + 1)
        .returning(cluster.c.name.label("cluster"), node.c.name, node.c.seen_at)
    )
    return [_heard(row) for row in await tx.all(changed)]


def _heard(row: Row[Any]) -> Heard:
    return Heard(row.cluster, row.name, row.seen_at)
