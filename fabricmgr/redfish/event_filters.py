"""What a subscriber wants: the filters of a subscription as its page says them, and a stream's $filter (DSP0266, 8.3.3)."""

from collections.abc import Callable, Sequence
from typing import Any

from fabricmgr import dmtf
from fabricmgr.domain.errors import Invalid, NotInList, QueryInvalid
from fabricmgr.domain.subscription import Filters
from fabricmgr.redfish.body import Flag, Items, Json, Kind, Object, Text
from fabricmgr.redfish.filter import parse, paths
from fabricmgr.redfish.messages import Message, key_of

SEVERITIES = ("OK", "Warning", "Critical")
# What a stream's $filter may name, as the page of the event service announces it.
STREAM_PROPERTIES = ("EventFormatType", "MessageId", "OriginResource", "RegistryPrefix", "ResourceType", "SubordinateResources")
CREATABLE: dict[str, Kind] = {
    "RegistryPrefixes": Items(Text()),
    "MessageIds": Items(Text()),
    "ExcludeRegistryPrefixes": Items(Text()),
    "ExcludeMessageIds": Items(Text()),
    "ResourceTypes": Items(Text()),
    "OriginResources": Items(Object({})),
    "SubordinateResources": Flag(),
    "Severities": Items(Text(SEVERITIES)),
}
_MOST = 1000  # entries of one filter


def read(given: Json) -> Filters:
    """Raises Invalid, NotInList."""
    for name in CREATABLE:
        if isinstance(given.get(name), list) and len(given[name]) > _MOST:
            raise Invalid(name, len(given[name]), f"at most {_MOST} entries")
    return Filters(
        registries=_registries(given, "RegistryPrefixes"),
        keys=_keys(given, "MessageIds"),
        not_registries=_registries(given, "ExcludeRegistryPrefixes"),
        not_keys=_keys(given, "ExcludeMessageIds"),
        types=tuple(each.lstrip("#").partition(".")[0] for each in given.get("ResourceTypes", [])),
        origins=_origins(given.get("OriginResources", [])),
        subordinates=given.get("SubordinateResources", False),
        severities=tuple(given.get("Severities", [])),
    )


def shown(filters: Filters) -> Json:
    """As a subscription's page says them."""
    return {
        "RegistryPrefixes": list(filters.registries),
        "MessageIds": list(filters.keys),
        "ExcludeRegistryPrefixes": list(filters.not_registries),
        "ExcludeMessageIds": list(filters.not_keys),
        "ResourceTypes": list(filters.types),
        "OriginResources": [{"@odata.id": each} for each in filters.origins],
        "OriginResources@odata.count": len(filters.origins),
        "SubordinateResources": filters.subordinates,
        "Severities": list(filters.severities),
    }


def _registries(given: Json, name: str) -> tuple[str, ...]:
    known = dmtf.registries()
    for index, each in enumerate(given.get(name, [])):
        if each not in known:
            raise NotInList(f"{name}/{index}", each, ", ".join(known))
    return tuple(given.get(name, []))


def _keys(given: Json, name: str) -> tuple[str, ...]:
    for index, each in enumerate(given.get(name, [])):
        if "." not in each:
            raise Invalid(f"{name}/{index}", each, "a registry and a message, such as ResourceEvent.ResourceChanged")
    return tuple(key_of(each) for each in given.get(name, []))


def _origins(given: Sequence[Any]) -> tuple[str, ...]:
    for index, each in enumerate(given):
        uri = each.get("@odata.id")
        if not isinstance(uri, str) or not uri.startswith("/redfish/v1/"):
            raise Invalid(f"OriginResources/{index}", uri, "a link to a resource of this service")
    return tuple(each["@odata.id"] for each in given)


def of_stream(text: str) -> Callable[[Message], bool]:
    """What a stream with that $filter carries. Raises QueryInvalid (400)."""
    if not text:
        return lambda _: True
    named = paths(text)
    unknown = sorted(named - set(STREAM_PROPERTIES))
    if unknown:
        raise QueryInvalid("$filter", text, f"{', '.join(STREAM_PROPERTIES)}; {unknown[0]} is not among them")
    holds = parse(text)
    below = "SubordinateResources" in named

    def wants(message: Message) -> bool:
        page = _page(message)
        if holds(page):
            return True
        # What lies below an origin passes by the origin alone, and only where the expression asks for what is subordinate.
        return below and any(
            holds({**page, "OriginResource": each, "SubordinateResources": True}) and not holds({**page, "OriginResource": each})
            for each in _at_and_above(message.origin)
        )

    return wants


def _page(message: Message) -> Json:
    return {
        "EventFormatType": "Event",
        "MessageId": message.key,
        "OriginResource": message.origin,
        "RegistryPrefix": message.registry,
        "ResourceType": message.resource_type,
        "SubordinateResources": False,
    }


def _at_and_above(uri: str) -> list[str]:
    parts = uri.rstrip("/").split("/")
    return ["/".join(parts[:length]) for length in range(len(parts), 2, -1)]
