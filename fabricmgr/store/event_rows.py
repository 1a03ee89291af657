"""Rows of positioned events."""

from datetime import datetime

from sqlalchemy import func, select

from fabricmgr.domain.events import Event
from fabricmgr.store.tables import event
from fabricmgr.store.tx import Tx


async def after(tx: Tx, position: int, limit: int) -> list[Event]:
    """Those behind a position, in order."""
    rows = await tx.all(select(event).where(event.c.position > position).order_by(event.c.position).limit(limit))
    return [Event(row.position, row.at, row.what, row.about) for row in rows]


async def bounds(tx: Tx) -> tuple[int, int]:
    """Positions of the oldest and the newest event that are kept; 0 and 0 when there is none."""
    row = await tx.only(select(func.coalesce(func.min(event.c.position), 0), func.coalesce(func.max(event.c.position), 0)))
    oldest, newest = tuple(row)
    return int(oldest), int(newest)


async def before(tx: Tx, at: datetime) -> int:
    """The newest position of what happened before a time; 0 for none."""
    return int(await tx.value(select(func.coalesce(func.max(event.c.position), 0)).where(event.c.at < at)))
