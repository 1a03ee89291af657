"""EventService: how all events are delivered, tests of it, and the stream (DSP0268, EventService; DSP0266, 8.3)."""

import re
import uuid
from datetime import timedelta
from functools import partial

from fabricmgr import dmtf
from fabricmgr.domain.errors import Busy, Invalid
from fabricmgr.domain.events import TestEventSubmitted
from fabricmgr.domain.subscription import EventSettings, Filters
from fabricmgr.redfish import event_filters
from fabricmgr.redfish.body import Flag, Items, Json, Number, Object, Text
from fabricmgr.redfish.messages import EVENT_SERVICE, SUBSCRIPTIONS
from fabricmgr.redfish.resource import Action, Ask, Opening, Pieces, Resource, Stream
from fabricmgr.services import events, subscriptions
from fabricmgr.store.tx import Tx

_MESSAGE_ID = re.compile(r"[A-Za-z][A-Za-z0-9]*(\.\d+\.\d+)?\.[A-Za-z][A-Za-z0-9]*\Z")
TYPES = (
    "AccountService",
    "AddressPool",
    "Certificate",
    "ComputerSystem",
    "Endpoint",
    "EventDestination",
    "EventService",
    "Fabric",
    "FabricMgrWorkload",
    "Manager",
    "ManagerAccount",
    "Role",
    "ServiceRoot",
    "Task",
    "Zone",
)
_LONGEST = 1000  # characters of a text of a test event


async def get(ask: Ask) -> EventSettings:
    async with ask.database.read() as tx:
        return await subscriptions.settings(tx)


def body(settings: EventSettings) -> Json:
    return {
        "Id": "EventService",
        "Name": "Event service",
        "ServiceEnabled": settings.enabled,
        "Status": {"State": "Enabled" if settings.enabled else "Disabled", "Health": "OK"},
        "DeliveryRetryAttempts": settings.attempts,
        "DeliveryRetryIntervalSeconds": int(settings.interval.total_seconds()),
        "EventFormatTypes": ["Event"],
        "RegistryPrefixes": dmtf.registries(),
        "ResourceTypes": list(TYPES),
        "Severities": list(event_filters.SEVERITIES),
        "SubordinateResourcesSupported": True,
        "OriginResourcesSupported": True,
        "IncludeOriginOfConditionSupported": False,
        "ExcludeMessageId": True,
        "ExcludeRegistryPrefix": True,
        "ServerSentEventUri": f"{EVENT_SERVICE}/SSE",
        "SSEIncludeOriginOfConditionSupported": False,
        "SSEFilterPropertiesSupported": {
            "MetricReportDefinition": False,
            **dict.fromkeys(event_filters.STREAM_PROPERTIES, True),
        },
        "Subscriptions": {"@odata.id": SUBSCRIPTIONS},
    }


async def patch(ask: Ask, _settings: EventSettings, given: Json, version: int | None) -> EventSettings:
    seconds = given.get("DeliveryRetryIntervalSeconds")

    async def use_case(tx: Tx) -> EventSettings:
        return await subscriptions.change_settings(
            tx,
            given.get("ServiceEnabled"),
            given.get("DeliveryRetryAttempts"),
            # As a number of days this would not fit where a client says something wild.
            None if seconds is None else timedelta(seconds=max(-1, min(seconds, 10**9))),
            version,
            ask.principal.actor,
        )

    return await ask.database.run(use_case)


async def submit(ask: Ask, _settings: EventSettings, given: Json) -> None:
    if not _MESSAGE_ID.match(given["MessageId"]):
        raise Invalid("MessageId", given["MessageId"], "a message's id, such as ResourceEvent.1.4.TestMessage")
    for name in ("Message", "OriginOfCondition"):
        if len(given.get(name, "")) > _LONGEST or "\x00" in given.get(name, ""):
            raise Invalid(name, given[name], f"a text of at most {_LONGEST} characters")
    event = TestEventSubmitted(
        message=given["MessageId"],
        args=tuple(given.get("MessageArgs", [])),
        text=given.get("Message", ""),
        severity=given.get("MessageSeverity", ""),
        origin=given.get("OriginOfCondition", ""),
        by=ask.principal.actor,
    )
    await ask.database.run(partial(subscriptions.submit_test, event=event))


async def tell_all(ask: Ask, _settings: EventSettings, _given: Json) -> None:
    event = TestEventSubmitted(dmtf.message_id("ResourceEvent", "TestMessage"), (), "", "", "", ask.principal.actor)
    await ask.database.run(partial(subscriptions.submit_test, event=event))


async def open_stream(ask: Ask, settings: EventSettings, opening: Opening) -> Pieces:
    """Behind Last-Event-ID where the client has one, else from now on."""
    if not settings.enabled:
        raise Busy("the event service, which is disabled,", 60)
    wants = event_filters.of_stream(opening.filter)
    context = opening.filter or "stream"
    last = opening.headers.get("last-event-id")

    async def use_case(tx: Tx) -> int:
        after = None if last is None else await _position(tx, last)
        return (await subscriptions.open_stream(tx, after, Filters(), context, made, ask.principal.actor, ask.now)).position

    made = uuid.uuid4()
    position = await ask.database.run(use_case)
    return lambda gone: ask.site.streams.follow(made, wants, context, position, gone)


async def _position(tx: Tx, last: str) -> int:
    """Where a client was. One that cannot be (of another database, say) is told from the oldest that is kept."""
    position = int(last) if last.isascii() and last.isdigit() and len(last) < 19 else 0
    return position if position <= await events.newest(tx) else 0


event_service = Resource(
    schema="EventService",
    uri="/redfish/v1/EventService",
    get=get,
    body=body,
    version=lambda settings: settings.version,
    patch=patch,
    patchable=Object(
        {"ServiceEnabled": Flag(), "DeliveryRetryAttempts": Number(), "DeliveryRetryIntervalSeconds": Number()},
    ),
    actions=(
        Action(
            "EventService.SubmitTestEvent",
            submit,
            Object(
                {
                    "MessageId": Text(),
                    "Message": Text(),
                    "MessageArgs": Items(Text()),
                    "MessageSeverity": Text(event_filters.SEVERITIES),
                    "Severity": Text(),
                    "OriginOfCondition": Text(),
                    "EventId": Text(),
                    "EventTimestamp": Text(),
                    "EventType": Text(),
                    "EventGroupId": Number(),
                },
                required=("MessageId",),
            ),
        ),
        Action("EventService.TestEventSubscription", tell_all),
    ),
    streams=(Stream("SSE", "text/event-stream", open_stream),),
)
