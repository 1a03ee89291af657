"""Subscriptions: who is told of which events (DSP0268, EventDestination)."""

import re
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import httpx2

from fabricmgr.domain.errors import Invalid, NotFound
from fabricmgr.domain.subscription import Kind, Policy, Subscription, SubscriptionChange, SubscriptionDraft
from fabricmgr.redfish import event_filters
from fabricmgr.redfish.body import Flag, Items, Json, Number, Object, Text, Words
from fabricmgr.redfish.body import Kind as Shape
from fabricmgr.redfish.resource import Action, Ask, Made, Resource
from fabricmgr.services import subscriptions
from fabricmgr.services.subscriptions import Headers
from fabricmgr.web.who import Principal

DEFAULT_HEARTBEAT = 1  # minutes
POLICIES = tuple(each.value for each in Policy)
LONGEST_URL = 2000  # characters
# ISO 8601, as Edm.Duration has it: days and smaller parts.
_DURATION = re.compile(r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:\.\d+)?)S)?)?\Z")
_CHANGEABLE: dict[str, Shape] = {
    "Context": Text(),
    "DeliveryRetryPolicy": Text(POLICIES),
    "VerifyCertificate": Flag(),
    "HttpHeaders": Items(Words()),
}


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("subscription", text) from None


async def get(ask: Ask) -> Subscription:
    wanted = _id(ask.params["subscription_id"])
    async with ask.database.read() as tx:
        return await subscriptions.get(tx, wanted)


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        found, total = await subscriptions.ids(tx, skip, top)
    return [str(each) for each in found], total


async def load(ask: Ask, ids: Sequence[str]) -> Sequence[Subscription | None]:
    async with ask.database.read() as tx:
        return await subscriptions.of_ids(tx, [UUID(each) for each in ids])


def body(found: Subscription) -> Json:
    healthy = not found.attempts and not found.suspended
    page: Json = {
        "Id": str(found.id),
        "Name": f"{'Stream' if found.kind is Kind.STREAM else 'Subscription'} of {found.account}",
        "Context": found.context,
        "Protocol": "Redfish",
        "SubscriptionType": found.kind.value,
        "EventFormatType": "Event",
        "Status": {"State": "Disabled" if found.suspended else "Enabled", "Health": "OK" if healthy else "Warning"},
    }
    return page if found.kind is Kind.STREAM else page | _of_push(found)


def _of_push(found: Subscription) -> Json:
    beats = {} if found.heartbeat_minutes is None else {"HeartbeatIntervalMinutes": found.heartbeat_minutes}
    return {
        "Destination": found.destination,
        "DeliveryRetryPolicy": found.policy.value,
        "VerifyCertificate": found.verify_certificate,
        "IncludeOriginOfCondition": found.include_origin,
        "SendHeartbeat": found.heartbeat_minutes is not None,
        **beats,
        # Secrets stand in them: they are written, and never shown.
        "HttpHeaders": [],
        **event_filters.shown(found.filters),
    }


async def create(ask: Ask, given: Json) -> Made:
    draft = SubscriptionDraft(
        destination=await _destination(ask, given["Destination"]),
        context=given.get("Context", ""),
        policy=Policy(given.get("DeliveryRetryPolicy", Policy.BACKOFF.value)),
        filters=event_filters.read(given),
        verify_certificate=given.get("VerifyCertificate", True),
        heartbeat_minutes=_heartbeat(given),
        headers=_headers(given),
    )
    if given.get("IncludeOriginOfCondition"):
        raise Invalid("IncludeOriginOfCondition", True, "false: this service does not include the resource")
    new = partial(subscriptions.create, draft=draft, sealer=ask.site.sealer, new_id=uuid.uuid4, by=ask.principal.actor, now=ask.now)
    made = await ask.database.run(new)
    return Made(str(made.id), made)


async def _destination(ask: Ask, text: str) -> str:
    """A URL that the outbound policy allows now; it is asked again at each delivery. Raises Invalid, DestinationRefused."""
    wanted = "an http or https URL without a name and password in it"
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        raise Invalid("Destination", text, wanted) from None
    if url.userinfo:
        raise Invalid("Destination", "(not shown)", wanted)
    if url.scheme not in ("http", "https") or not url.host or len(text) > LONGEST_URL:
        raise Invalid("Destination", text, wanted)
    await ask.site.outbound.address(url.host, url.port or (443 if url.scheme == "https" else 80))
    return text


def _heartbeat(given: Json) -> int | None:
    minutes: int | None = given.get("HeartbeatIntervalMinutes")
    if not given.get("SendHeartbeat", False):
        if minutes is not None:
            raise Invalid("HeartbeatIntervalMinutes", minutes, "SendHeartbeat beside it")
        return None
    return DEFAULT_HEARTBEAT if minutes is None else minutes


def _headers(given: Json) -> Headers:
    return tuple((name, value) for each in given.get("HttpHeaders", []) for name, value in each.items())


async def patch(ask: Ask, found: Subscription, given: Json, version: int | None) -> Subscription:
    asked = SubscriptionChange(
        context=given.get("Context"),
        policy=Policy(given["DeliveryRetryPolicy"]) if "DeliveryRetryPolicy" in given else None,
        verify_certificate=given.get("VerifyCertificate"),
        headers=_headers(given) if "HttpHeaders" in given else None,
    )
    return await ask.database.run(
        lambda tx: subscriptions.change(tx, found.id, asked, ask.site.sealer, version, ask.principal.actor),
    )


async def delete(ask: Ask, found: Subscription, version: int | None) -> None:
    await ask.database.run(lambda tx: subscriptions.delete(tx, found.id, version, ask.principal.actor))


async def suspend(ask: Ask, found: Subscription, _given: Json) -> None:
    await ask.database.run(lambda tx: subscriptions.suspend(tx, found.id, ask.principal.actor))


async def resume(ask: Ask, found: Subscription, given: Json) -> None:
    since = _since(given["DeliverBufferedEventDuration"], ask.now) if "DeliverBufferedEventDuration" in given else None
    await ask.database.run(lambda tx: subscriptions.resume(tx, found.id, since, ask.principal.actor))


def _since(text: str, now: datetime) -> datetime:
    match = _DURATION.match(text)
    if match is None or not any(match.groups()):
        raise Invalid("DeliverBufferedEventDuration", text, "a duration such as PT10M")
    days, hours, minutes, seconds = (float(each or 0) for each in match.groups())
    lasts = timedelta(days=min(days, 36500), hours=hours, minutes=minutes, seconds=seconds)
    return now - min(lasts, timedelta(days=36500))


def own(principal: Principal, found: Subscription) -> bool:
    """Whether it is one of the principal's own."""
    return principal.actor == found.account


subscription = Resource(
    schema="EventDestination",
    uri="/redfish/v1/EventService/Subscriptions/{subscription_id}",
    get=get,
    body=body,
    version=lambda found: found.version,
    members=members,
    load=load,
    collection_name="Subscriptions",
    patch=patch,
    patchable=Object(_CHANGEABLE),
    delete=delete,
    create=create,
    creatable=Object(
        {
            "Destination": Text(),
            "Protocol": Text(("Redfish",)),
            "SubscriptionType": Text((Kind.PUSH.value,)),
            "EventFormatType": Text(("Event",)),
            "IncludeOriginOfCondition": Flag(),
            "SendHeartbeat": Flag(),
            "HeartbeatIntervalMinutes": Number(),
            **_CHANGEABLE,
            **event_filters.CREATABLE,
        },
        required=("Destination", "Protocol"),
    ),
    actions=(
        Action("EventDestination.SuspendSubscription", suspend),
        Action("EventDestination.ResumeSubscription", resume, Object({"DeliverBufferedEventDuration": Text()})),
    ),
    own=own,
)
