"""Rows of positioned events."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, case, func, select

from fabricmgr.domain.events import Event
from fabricmgr.domain.log import EventFilter, Severity
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


async def positions(tx: Tx, wanted: EventFilter, skip: int, limit: int) -> tuple[list[int], int]:
    """From `skip` on, with how many there are."""
    conditions = _conditions(wanted)
    rows = await tx.all(select(event.c.position).where(*conditions).order_by(event.c.position).offset(skip).limit(limit))
    total = await tx.value(select(func.count()).select_from(event).where(*conditions))
    return [row.position for row in rows], int(total)


async def some(tx: Tx, wanted: Sequence[int]) -> list[Event]:
    """By position; what is not there is left out."""
    rows = await tx.all(select(event).where(event.c.position.in_(wanted)).order_by(event.c.position))
    return [Event(row.position, row.at, row.what, row.about) for row in rows]


def _conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    columns = ((event.c.position, wanted.position), (event.c.at, wanted.at))
    found: list[ColumnElement[bool]] = [column == value for column, value in columns if value is not None]
    if wanted.severity is not None:
        told = func.coalesce(func.nullif(event.c.about["severity"].astext, ""), "OK") == wanted.severity.value
        known = [
            what for what, severity in wanted.severities.items() if (severity is wanted.severity) is not (wanted.severity is Severity.OK)
        ]
        named = event.c.what.not_in(known) if wanted.severity is Severity.OK else event.c.what.in_(known)
        found.append(case((event.c.what == "TestEventSubmitted", told), else_=named))
    return found
