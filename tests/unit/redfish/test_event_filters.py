"""What a subscriber wants: each filter, alone and together."""

from datetime import UTC, datetime

import pytest

from fabricmgr.domain.errors import QueryInvalid
from fabricmgr.domain.events import Event
from fabricmgr.domain.subscription import Filters
from fabricmgr.redfish.event_filters import of_stream, read, shown
from fabricmgr.redfish.messages import Message, messages_of

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POOL = "/redfish/v1/Fabrics/ethernet/AddressPools/pods"


def changed() -> Message:
    return messages_of(Event(1, AT, "PoolChanged", {"pool": "pods", "changed": [], "by": "boss"}))[0]


def exhausted() -> Message:
    return messages_of(Event(2, AT, "PoolExhausted", {"pool": "pods", "family": "IPv4"}))[0]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ["changed", "exhausted"]),
        ({"RegistryPrefixes": ["Fabric"]}, ["changed"]),
        ({"RegistryPrefixes": ["Fabric", "FabricMgr"]}, ["changed", "exhausted"]),
        ({"ExcludeRegistryPrefixes": ["Fabric"]}, ["exhausted"]),
        ({"MessageIds": ["Fabric.AddressPoolModified"]}, ["changed"]),
        ({"MessageIds": ["FabricMgr.1.2.PoolExhausted"]}, ["exhausted"]),
        ({"ExcludeMessageIds": ["FabricMgr.1.2.PoolExhausted"]}, ["changed"]),
        ({"ResourceTypes": ["Zone"]}, []),
        ({"ResourceTypes": ["#AddressPool.v1_3_0.AddressPool"]}, ["changed", "exhausted"]),
        ({"Severities": ["Critical"]}, ["exhausted"]),
        ({"Severities": ["Critical"], "RegistryPrefixes": ["Fabric"]}, []),
        ({"OriginResources": [{"@odata.id": POOL}]}, ["changed", "exhausted"]),
        ({"OriginResources": [{"@odata.id": "/redfish/v1/Fabrics/ethernet"}]}, []),
        ({"OriginResources": [{"@odata.id": "/redfish/v1/Fabrics/ethernet"}], "SubordinateResources": True}, ["changed", "exhausted"]),
        ({"OriginResources": [{"@odata.id": "/redfish/v1/"}], "SubordinateResources": True}, ["changed", "exhausted"]),
        ({"OriginResources": [{"@odata.id": f"{POOL[:-1]}"}], "SubordinateResources": True}, []),
    ],
)
def test_a_filter_lets_through_what_it_names(given: dict[str, object], wanted: list[str]) -> None:
    filters = read(given)

    passed = [name for name, message in (("changed", changed()), ("exhausted", exhausted())) if filters.wants(message)]

    assert passed == wanted
    assert Filters.from_json(filters.to_json()) == filters
    assert read(shown(filters)) == filters


def test_either_of_two_origins_in_a_stream_takes_in_only_its_own_subordinates() -> None:
    text = f"OriginResource eq '{POOL[:-5]}' or (OriginResource eq '/redfish/v1/Systems' and SubordinateResources eq true)"

    assert not of_stream(text)(changed())
    assert of_stream(f"OriginResource eq '{POOL}' or (OriginResource eq '/x' and SubordinateResources eq true)")(changed())


@pytest.mark.parametrize("text", ["Colour eq 1", "MessageId", "MessageId eq", "(MessageId eq 'x'"])
def test_a_filter_of_a_stream_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(QueryInvalid):
        of_stream(text)
