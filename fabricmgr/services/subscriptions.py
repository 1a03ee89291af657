"""Subscriptions: made, changed, suspended, ended; and how all events are delivered."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from fabricmgr.domain.errors import Invalid, NotFound, VersionConflict
from fabricmgr.domain.events import (
    EventServiceChanged,
    SubscriptionChanged,
    SubscriptionCreated,
    SubscriptionDeleted,
    TestEventSubmitted,
)
from fabricmgr.domain.subscription import (
    LONGEST_HEARTBEAT,
    LONGEST_INTERVAL,
    MOST_ATTEMPTS,
    EventSettings,
    Filters,
    Kind,
    Subscription,
    SubscriptionChange,
    SubscriptionDraft,
)
from fabricmgr.store import event_rows, subscription_rows
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Tx

LONGEST_CONTEXT = 1000  # characters
MOST_HEADERS = 32
LONGEST_HEADER = 4096
SERVICE = "the manager"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, section 5.6.2
_OURS = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"})

Headers = tuple[tuple[str, str], ...]
NewId = Callable[[], UUID]


async def create(tx: Tx, draft: SubscriptionDraft, sealer: Sealer, new_id: NewId, by: str, now: datetime) -> Subscription:
    """It is told what happens from now on. Raises Invalid; whether its destination may be reached is for the edge to ask."""
    _check_context(draft.context)
    if draft.heartbeat_minutes is not None and not 1 <= draft.heartbeat_minutes <= LONGEST_HEARTBEAT:
        raise Invalid("HeartbeatIntervalMinutes", draft.heartbeat_minutes, f"a number from 1 to {LONGEST_HEARTBEAT}")
    made = new_id()
    values = {
        "id": made,
        "kind": Kind.PUSH.value,
        "account": by,
        "destination": draft.destination,
        "context": draft.context,
        "policy": draft.policy.value,
        "filters": draft.filters.to_json(),
        "verify_certificate": draft.verify_certificate,
        "include_origin": draft.include_origin,
        "heartbeat_minutes": draft.heartbeat_minutes,
        "headers": _sealed(sealer, made, draft.headers),
        "position": await _newest(tx),
        "created_at": now,
    }
    await subscription_rows.insert(tx, values)
    tx.emit(SubscriptionCreated(made, by))
    return await subscription_rows.get(tx, made)


async def open_stream(tx: Tx, after: int | None, filters: Filters, context: str, made: UUID, by: str, now: datetime) -> Subscription:
    """A stream's own subscription, behind the position `after`, else from now on. It makes no event: streams would tell each other."""
    position = await _newest(tx) if after is None else after
    values = {"id": made, "kind": Kind.STREAM.value, "account": by, "context": context, "filters": filters.to_json()}
    await subscription_rows.insert(tx, {**values, "position": position, "created_at": now, "seen_at": now})
    return await subscription_rows.get(tx, made)


async def _newest(tx: Tx) -> int:
    return (await event_rows.bounds(tx))[1]


async def get(tx: Tx, wanted: UUID) -> Subscription:
    """Raises NotFound."""
    return await subscription_rows.get(tx, wanted)


async def ids(tx: Tx, skip: int, top: int | None) -> tuple[list[UUID], int]:
    """In the order they were made, with their total count."""
    return await subscription_rows.ids(tx, skip, top)


async def of_ids(tx: Tx, wanted: Sequence[UUID]) -> list[Subscription | None]:
    """In that order; None for one that is gone."""
    found = await subscription_rows.of_ids(tx, wanted)
    return [found.get(each) for each in wanted]


async def change(tx: Tx, wanted: UUID, asked: SubscriptionChange, sealer: Sealer, if_version: int | None, by: str) -> Subscription:
    """Raises NotFound, VersionConflict, Invalid; also Invalid for what a stream does not have."""
    found = await subscription_rows.take(tx, wanted, if_version)
    values: dict[str, Any] = {}
    if asked.context is not None:
        values["context"] = _check_context(asked.context)
    if found.kind is Kind.STREAM and (asked.policy, asked.verify_certificate, asked.headers) != (None, None, None):
        raise Invalid("DeliveryRetryPolicy", wanted, "nothing but Context: this subscription is a stream")
    if asked.policy is not None:
        values["policy"] = asked.policy.value
    if asked.verify_certificate is not None:
        values["verify_certificate"] = asked.verify_certificate
    if asked.headers is not None:
        values["headers"] = _sealed(sealer, wanted, asked.headers)
    if values:
        await subscription_rows.change(tx, wanted, values)
        _tell(tx, found, SubscriptionChanged(wanted, by))
    return await subscription_rows.get(tx, wanted)


async def delete(tx: Tx, wanted: UUID, if_version: int | None, by: str) -> None:
    """A stream ends within seconds. Raises NotFound, VersionConflict."""
    found = await subscription_rows.take(tx, wanted, if_version)
    await subscription_rows.remove(tx, [wanted])
    _tell(tx, found, SubscriptionDeleted(wanted, by))


async def suspend(tx: Tx, wanted: UUID, by: str) -> None:
    """Nothing is sent until it is resumed; nothing is lost either. Raises NotFound."""
    found = await _push(tx, wanted)
    if not found.suspended:
        await subscription_rows.change(tx, wanted, {"suspended": True, "next_try_at": None, "reason": f"suspended by {by}"})
        tx.emit(SubscriptionChanged(wanted, by))


async def resume(tx: Tx, wanted: UUID, since: datetime | None, by: str) -> None:
    """What happened meanwhile is delivered; since: no more than what happened from then on. Raises NotFound."""
    found = await _push(tx, wanted)
    values: dict[str, Any] = {"suspended": False, "attempts": 0, "next_try_at": None, "reason": ""}
    if since is not None:
        values["position"] = max(found.position, await event_rows.before(tx, since))
    if found.suspended or found.attempts:
        await subscription_rows.change(tx, wanted, values)
        tx.emit(SubscriptionChanged(wanted, by))


async def _push(tx: Tx, wanted: UUID) -> Subscription:
    found = await subscription_rows.take(tx, wanted, None)
    if found.kind is Kind.STREAM:
        raise Invalid("SubscriptionType", found.kind.value, f"{Kind.PUSH.value}: a stream is not suspended")
    return found


def _tell(tx: Tx, found: Subscription, event: SubscriptionChanged | SubscriptionDeleted) -> None:
    if found.kind is Kind.PUSH:
        tx.emit(event)
    else:
        tx.wake()


# --- what couriers note ----------------------------------------------------------------------------------------------


async def delivered(tx: Tx, found: Subscription, position: int) -> Subscription | None:
    """None: it was deleted meanwhile."""
    return await subscription_rows.advance(tx, found.id, position)


async def failed(tx: Tx, found: Subscription, reason: str, now: datetime) -> Subscription | None:
    """What its policy makes of a try that failed; None: it is ended."""
    settings = await subscription_rows.settings(tx)
    try:
        current = await subscription_rows.take(tx, found.id, None)
    except NotFound:
        return None
    after = current.failed(settings, reason, now)
    if after is None:
        await subscription_rows.remove(tx, [found.id])
        tx.emit(SubscriptionDeleted(found.id, SERVICE))
        return None
    await subscription_rows.postpone(tx, after)
    if after.suspended and not current.suspended:
        tx.emit(SubscriptionChanged(found.id, SERVICE))
    return replace(after, version=current.version + after.suspended)


def headers(sealer: Sealer, found: Subscription) -> Headers:
    """What is sent with each POST. Raises DatabaseUnsuitable under another master key."""
    if found.headers is None:
        return ()
    return tuple((name, value) for name, value in json.loads(sealer.open(_secret_name(found.id), found.headers)))


# --- the service -----------------------------------------------------------------------------------------------------


async def settings(tx: Tx) -> EventSettings:
    """How events are delivered."""
    return await subscription_rows.settings(tx)


async def change_settings(
    tx: Tx, enabled: bool | None, attempts: int | None, interval: timedelta | None, if_version: int | None, by: str
) -> EventSettings:
    """Raises VersionConflict, Invalid."""
    found = await subscription_rows.settings(tx, lock=True)
    if if_version is not None and if_version != found.version:
        raise VersionConflict("event service", "EventService", str(if_version), str(found.version))
    values: dict[str, Any] = {}
    if enabled is not None:
        values["enabled"] = enabled
    if attempts is not None:
        if not 0 <= attempts <= MOST_ATTEMPTS:
            raise Invalid("DeliveryRetryAttempts", attempts, f"a number from 0 to {MOST_ATTEMPTS}")
        values["retry_attempts"] = attempts
    if interval is not None:
        if not 1 <= interval.total_seconds() <= LONGEST_INTERVAL:
            raise Invalid("DeliveryRetryIntervalSeconds", int(interval.total_seconds()), f"a number from 1 to {LONGEST_INTERVAL}")
        values["retry_seconds"] = int(interval.total_seconds())
    if values:
        await subscription_rows.change_settings(tx, values)
        tx.emit(EventServiceChanged(by))
    return await subscription_rows.settings(tx)


async def submit_test(tx: Tx, event: TestEventSubmitted) -> None:
    """It goes the way of every event, to whoever wants such."""
    tx.emit(event)


def _check_context(context: str) -> str:
    if len(context) > LONGEST_CONTEXT or "\x00" in context:
        raise Invalid("Context", context, f"a text of at most {LONGEST_CONTEXT} characters")
    return context


def _sealed(sealer: Sealer, of: UUID, headers: Headers) -> bytes | None:
    for name, value in headers:
        if not _TOKEN.match(name) or name.lower() in _OURS or len(name) > LONGEST_HEADER:
            raise Invalid("HttpHeaders", name, f"names of headers, and none of {', '.join(sorted(_OURS))}")
        if len(value) > LONGEST_HEADER or not value.isprintable() or not value.isascii():
            raise Invalid("HttpHeaders", "(not shown)", f"values of at most {LONGEST_HEADER} printable ASCII characters")
    if len(headers) > MOST_HEADERS:
        raise Invalid("HttpHeaders", len(headers), f"at most {MOST_HEADERS} headers")
    return sealer.seal(_secret_name(of), json.dumps(headers).encode()) if headers else None


def _secret_name(of: UUID) -> str:
    return f"headers of subscription {of}"
