"""Rows of subscriptions, and the one row of how events are delivered."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, select, update

from fabricmgr.domain.errors import NotFound, VersionConflict
from fabricmgr.domain.subscription import EventSettings, Filters, Kind, Policy, Subscription
from fabricmgr.store.tables import event_service, subscription
from fabricmgr.store.tx import Tx

_ORDER = (subscription.c.created_at, subscription.c.id)


def _subscription(row: Row[Any]) -> Subscription:
    parsed = {"kind": Kind(row.kind), "policy": Policy(row.policy), "filters": Filters.from_json(row.filters)}
    return Subscription(**{**dict(zip(row._fields, row, strict=True)), **parsed})


async def get(tx: Tx, wanted: UUID) -> Subscription:
    """Raises NotFound."""
    row = await tx.first(select(subscription).where(subscription.c.id == wanted))
    if row is None:
        raise NotFound("subscription", str(wanted))
    return _subscription(row)


async def take(tx: Tx, wanted: UUID, quoted: int | None) -> Subscription:
    """Lock it for a change. Raises NotFound and VersionConflict."""
    row = await tx.first(select(subscription).where(subscription.c.id == wanted).with_for_update())
    if row is None:
        raise NotFound("subscription", str(wanted))
    if quoted is not None and quoted != row.version:
        raise VersionConflict("subscription", str(wanted), str(quoted), str(row.version))
    return _subscription(row)


async def ids(tx: Tx, skip: int, top: int | None) -> tuple[list[UUID], int]:
    """In the order they were made, with their total count."""
    rows = await tx.all(select(subscription.c.id).order_by(*_ORDER).offset(skip).limit(top))
    return [row.id for row in rows], int(await tx.value(select(func.count()).select_from(subscription)))


async def of_ids(tx: Tx, wanted: Sequence[UUID]) -> dict[UUID, Subscription]:
    rows = await tx.all(select(subscription).where(subscription.c.id.in_(wanted)))
    return {row.id: _subscription(row) for row in rows}


async def pushes(tx: Tx) -> list[Subscription]:
    """All that events are posted to."""
    return [
        _subscription(row) for row in await tx.all(select(subscription).where(subscription.c.kind == Kind.PUSH.value).order_by(*_ORDER))
    ]


async def insert(tx: Tx, values: dict[str, Any]) -> None:
    await tx.change(subscription.insert(), values)


async def change(tx: Tx, wanted: UUID, values: dict[str, Any]) -> None:
    """A change that clients see: the version grows."""
    await tx.change(update(subscription).where(subscription.c.id == wanted).values(version=subscription.c.version + 1, **values))


async def remove(tx: Tx, wanted: Collection[UUID]) -> None:
    await tx.change(delete(subscription).where(subscription.c.id.in_(list(wanted))))


async def advance(tx: Tx, wanted: UUID, position: int) -> Subscription | None:
    """Delivered up to a position; never back. None: it is gone."""
    values = {"position": func.greatest(subscription.c.position, position), "attempts": 0, "next_try_at": None, "reason": ""}
    row = await tx.first(update(subscription).where(subscription.c.id == wanted).values(values).returning(subscription))
    return None if row is None else _subscription(row)


async def postpone(tx: Tx, after: Subscription) -> None:
    """A delivery failed: what is known of it. Clients see a new version only where it was suspended."""
    values: dict[str, Any] = {"attempts": after.attempts, "next_try_at": after.next_try_at, "reason": after.reason}
    if after.suspended:
        values |= {"suspended": True, "version": subscription.c.version + 1}
    await tx.change(update(subscription).where(subscription.c.id == after.id).values(values))


# --- streams ---------------------------------------------------------------------------------------------------------


async def touch(tx: Tx, wanted: Collection[UUID], now: datetime) -> set[UUID]:
    """Streams that are open still. Gives back those whose subscription is there."""
    rows = await tx.all(update(subscription).where(subscription.c.id.in_(list(wanted))).values(seen_at=now).returning(subscription.c.id))
    return {row.id for row in rows}


async def known(tx: Tx, wanted: Collection[UUID]) -> set[UUID]:
    rows = await tx.all(select(subscription.c.id).where(subscription.c.id.in_(list(wanted))))
    return {row.id for row in rows}


async def remove_unseen(tx: Tx, before: datetime) -> int:
    """Streams whose worker has gone without a word."""
    return await tx.change(delete(subscription).where(subscription.c.kind == Kind.STREAM.value, subscription.c.seen_at < before))


# --- the service -----------------------------------------------------------------------------------------------------


async def settings(tx: Tx, *, lock: bool = False) -> EventSettings:
    asked = select(event_service)
    row = await tx.only(asked.with_for_update() if lock else asked)
    return EventSettings(row.enabled, row.retry_attempts, timedelta(seconds=row.retry_seconds), row.version)


async def change_settings(tx: Tx, values: dict[str, Any]) -> None:
    await tx.change(update(event_service).values(version=event_service.c.version + 1, **values))
