"""Subscriptions as Redfish clients make, change and end them."""

from typing import Any

import httpx2
import pytest

from fabricmgr.store.tables import subscription
from tests.integration.test_redfish import PASSWORD, as_boss, message_of, service
from tests.support.database import opened

SERVICE = "/redfish/v1/EventService"
SUBSCRIPTIONS = f"{SERVICE}/Subscriptions"
BODY = {"Destination": "https://192.0.2.7:8443/events", "Protocol": "Redfish"}
Json = dict[str, Any]


async def test_a_subscription_is_made_shown_changed_and_ended(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        wanted = {
            "Context": "mine",
            "DeliveryRetryPolicy": "SuspendRetries",
            "RegistryPrefixes": ["Fabric", "FabricMgr"],
            "MessageIds": ["Fabric.1.0.AddressPoolCreated"],
            "ExcludeMessageIds": ["ResourceEvent.TestMessage"],
            "ResourceTypes": ["#AddressPool.v1_3_0.AddressPool"],
            "OriginResources": [{"@odata.id": "/redfish/v1/Fabrics/ethernet"}],
            "SubordinateResources": True,
            "Severities": ["Warning", "Critical"],
            "SendHeartbeat": True,
            "HeartbeatIntervalMinutes": 5,
        }

        made = await client.post(SUBSCRIPTIONS, json={**BODY, **wanted})
        uri = made.headers["location"]
        changed = await client.patch(uri, json={"Context": "other", "VerifyCertificate": False}, headers={"If-Match": made.headers["etag"]})
        stale = await client.patch(uri, json={"Context": "third"}, headers={"If-Match": made.headers["etag"]})
        listed = (await client.get(f"{SUBSCRIPTIONS}?$expand=.")).json()
        ended = await client.delete(uri)

        assert made.status_code == 201
        page = made.json()
        for name, value in {**BODY, **wanted}.items():
            shown = {"MessageIds": ["Fabric.AddressPoolCreated"], "ResourceTypes": ["AddressPool"]}.get(name, value)
            assert page[name] == shown, name
        assert page["SubscriptionType"] == "RedfishEvent"
        assert (changed.json()["Context"], changed.json()["VerifyCertificate"]) == ("other", False)
        assert (stale.status_code, message_of(stale)) == (412, "PreconditionFailed")
        assert [each["@odata.id"] for each in listed["Members"]] == [uri]
        assert ended.status_code == 204
        assert (await client.get(uri)).status_code == 404


@pytest.mark.parametrize(
    ("change", "message", "field"),
    [
        ({"Protocol": "FTP"}, "PropertyValueNotInList", "Protocol"),
        ({"Protocol": None}, "PropertyValueTypeError", "Protocol"),
        ({"Destination": "ftp://192.0.2.7/"}, "PropertyValueError", "Destination"),
        ({"Destination": "https://user:secret@192.0.2.7/"}, "PropertyValueError", "Destination"),
        ({"Destination": "nothing"}, "PropertyValueError", "Destination"),
        ({"SubscriptionType": "SSE"}, "PropertyValueNotInList", "SubscriptionType"),
        ({"EventFormatType": "MetricReport"}, "PropertyValueNotInList", "EventFormatType"),
        ({"RegistryPrefixes": ["Nonsense"]}, "PropertyValueNotInList", "RegistryPrefixes/0"),
        ({"MessageIds": ["Nonsense"]}, "PropertyValueError", "MessageIds/0"),
        ({"Severities": ["Bad"]}, "PropertyValueNotInList", "Severities/0"),
        ({"OriginResources": [{"@odata.id": 7}]}, "PropertyValueError", "OriginResources/0"),
        ({"HttpHeaders": [{"Host": "x"}]}, "PropertyValueError", "HttpHeaders"),
        ({"HttpHeaders": [{"X": "a\r\nY: b"}]}, "PropertyValueError", "HttpHeaders"),
        ({"HttpHeaders": [{"X": 3}]}, "PropertyValueTypeError", "HttpHeaders/0"),
        ({"HeartbeatIntervalMinutes": 3}, "PropertyValueError", "HeartbeatIntervalMinutes"),
        ({"SendHeartbeat": True, "HeartbeatIntervalMinutes": 0}, "PropertyValueError", "HeartbeatIntervalMinutes"),
        ({"DeliveryRetryPolicy": "Never"}, "PropertyValueNotInList", "DeliveryRetryPolicy"),
        ({"IncludeOriginOfCondition": True}, "PropertyValueError", "IncludeOriginOfCondition"),
        ({"Colour": 1}, "PropertyUnknown", "Colour"),
    ],
)
async def test_a_wrong_subscription_is_refused_by_the_property_that_is_wrong(
    database_url: str, change: Json, message: str, field: str
) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        answer = await client.post(SUBSCRIPTIONS, json={**BODY, **change})

        assert (answer.status_code, message_of(answer)) == (400, message)
        assert answer.json()["error"]["@Message.ExtendedInfo"][0]["RelatedProperties"] == [f"#/{field}"]
        assert "secret" not in answer.text
        assert (await client.get(SUBSCRIPTIONS)).json()["Members"] == []


@pytest.mark.parametrize("to", ["http://127.0.0.1/", "https://[::1]/", "http://169.254.169.254/latest", "http://198.51.100.1/"])
async def test_a_destination_that_the_outbound_policy_refuses_is_400(database_url: str, to: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        answer = await client.post(SUBSCRIPTIONS, json={**BODY, "Destination": to})

        assert (answer.status_code, message_of(answer)) == (400, "PropertyValueError")


async def test_headers_are_written_never_shown_and_sealed(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        made = await client.post(SUBSCRIPTIONS, json={**BODY, "HttpHeaders": [{"Authorization": "Bearer hidden"}]})
        changed = await client.patch(made.headers["location"], json={"HttpHeaders": [{"Authorization": "Bearer hidden-too"}]})

        assert made.json()["HttpHeaders"] == changed.json()["HttpHeaders"] == []
        assert "hidden" not in made.text + changed.text
    async with opened(database_url) as database, database.read() as tx:
        (row,) = await tx.all(subscription.select())
    assert row.headers is not None
    assert b"hidden" not in row.headers


async def test_suspend_and_resume_show_in_the_status(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        uri = (await client.post(SUBSCRIPTIONS, json=BODY)).headers["location"]

        async def state_after(action: str, body: Json | None = None) -> str:
            answer = await client.post(f"{uri}/Actions/EventDestination.{action}", json=body or {})
            assert answer.status_code == 204, answer.text
            return str((await client.get(uri)).json()["Status"]["State"])

        assert await state_after("SuspendSubscription") == "Disabled"
        assert await state_after("SuspendSubscription") == "Disabled"
        assert await state_after("ResumeSubscription", {"DeliverBufferedEventDuration": "P1DT2H30M"}) == "Enabled"
        bad = await client.post(f"{uri}/Actions/EventDestination.ResumeSubscription", json={"DeliverBufferedEventDuration": "10 minutes"})
        assert (bad.status_code, message_of(bad)) == (400, "PropertyValueError")


async def test_who_may_subscribe_and_whose_subscription_one_may_change(database_url: str) -> None:
    async with service(database_url) as client:

        def by(name: str) -> httpx2.BasicAuth:
            return httpx2.BasicAuth(name, PASSWORD)

        reader = await client.post(SUBSCRIPTIONS, json=BODY, auth=by("eve"))
        own = (await client.post(SUBSCRIPTIONS, json=BODY, auth=by("op"))).headers["location"]
        others = (await client.post(SUBSCRIPTIONS, json=BODY, auth=by("boss"))).headers["location"]

        assert reader.status_code == 403
        assert (await client.get(others, auth=by("eve"))).status_code == 200
        assert (await client.patch(own, json={"Context": "x"}, auth=by("op"))).status_code == 200
        assert (await client.patch(others, json={"Context": "x"}, auth=by("op"))).status_code == 403
        assert (await client.post(f"{others}/Actions/EventDestination.SuspendSubscription", auth=by("op"))).status_code == 403
        assert (await client.delete(others, auth=by("op"))).status_code == 403
        assert (await client.delete(own, auth=by("boss"))).status_code == 204


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "PropertyMissing"),
        ({"MessageId": "nonsense"}, "PropertyValueError"),
        ({"MessageId": "ResourceEvent.1.4.TestMessage", "MessageSeverity": "Bad"}, "PropertyValueNotInList"),
        ({"MessageId": "ResourceEvent.1.4.TestMessage", "MessageArgs": "x"}, "PropertyValueTypeError"),
    ],
)
async def test_a_test_event_that_is_none_is_refused(database_url: str, body: Json, message: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        answer = await client.post(f"{SERVICE}/Actions/EventService.SubmitTestEvent", json=body)

        assert (answer.status_code, message_of(answer)) == (400, message)


@pytest.mark.parametrize(
    "change", [{"DeliveryRetryAttempts": -1}, {"DeliveryRetryIntervalSeconds": 0}, {"DeliveryRetryIntervalSeconds": 10**30}]
)
async def test_how_events_are_delivered_has_limits(database_url: str, change: Json) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        answer = await client.patch(SERVICE, json=change)
        good = await client.patch(SERVICE, json={"DeliveryRetryAttempts": 7, "DeliveryRetryIntervalSeconds": 11})

        assert (answer.status_code, message_of(answer)) == (400, "PropertyValueError")
        assert (good.json()["DeliveryRetryAttempts"], good.json()["DeliveryRetryIntervalSeconds"]) == (7, 11)
        assert good.headers["etag"] == '"2"'


async def test_what_a_filter_of_a_stream_may_name_is_announced(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        page = (await client.get(SERVICE)).json()

        assert page["ServerSentEventUri"] == f"{SERVICE}/SSE"
        assert page["SSEFilterPropertiesSupported"]["OriginResource"] is True
        assert {"Fabric", "FabricMgr", "ResourceEvent", "Base"} <= set(page["RegistryPrefixes"])
