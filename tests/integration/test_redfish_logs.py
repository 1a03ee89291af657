"""The audit log and the event log by Redfish: paged by themselves, looked through in the database, never changed."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from fabricmgr.redfish.messages import messages_of
from fabricmgr.services import logs
from fabricmgr.store import audit_rows
from fabricmgr.store.audit_rows import AuditRow
from fabricmgr.store.tables import event
from fabricmgr.store.tx import Tx
from tests.integration.test_redfish import PASSWORD, as_boss, message_of, service
from tests.support.database import NOW, opened
from tests.support.here import HERE

LOGS = f"/redfish/v1/Managers/{HERE.id}/LogServices"
AUDIT = f"{LOGS}/Audit/Entries"
EVENTS = f"{LOGS}/Events/Entries"


async def written(url: str, count: int = 3) -> None:
    """count audit rows, of which each third was denied, and four events."""
    second = timedelta(seconds=1)
    rows = [
        AuditRow(NOW + number * second, "ab"[number % 2], "192.0.2.8", "PATCH", f"/v1/pools/p{number}", (200, 201, 403)[number % 3])
        for number in range(count)
    ]
    rows[-1].detail["reason"] = "it may not"
    told = [
        ("PoolCreated", {"pool": "pods", "by": "ada"}),
        ("AccountLockedOut", {"account": "eve", "source": "192.0.2.8", "until": NOW.isoformat()}),
        ("TestEventSubmitted", {"message": "Base.1.22.Success", "args": [], "text": "", "severity": "Critical", "origin": "", "by": "ada"}),
        ("SomethingOfLater", {}),
    ]

    async def use(tx: Tx) -> None:
        await audit_rows.insert(tx, rows)
        for number, (what, about) in enumerate(told, 1):
            await tx.change(event.insert(), {"position": number, "at": NOW + number * second, "what": what, "about": about})

    async with opened(url) as database:
        await database.run(use)


async def found(client: httpx2.AsyncClient, uri: str) -> list[str]:
    """Ids of all pages."""
    ids: list[str] = []
    page: dict[str, Any] = {}
    while uri:
        page = (await client.get(uri)).json()
        ids += [each["@odata.id"].rpartition("/")[2] for each in page["Members"]]
        assert len(page["Members"]) <= 100
        uri = page.get("Members@odata.nextLink", "")
    assert len(ids) == page["Members@odata.count"]
    return ids


async def test_an_audit_entry_says_who_from_where_what_and_how_it_ended(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await written(database_url)

        page = (await client.get(f"{AUDIT}/3")).json()

    assert page["Message"] == "a from 192.0.2.8: PATCH /v1/pools/p2 was answered with 403 (it may not)"
    assert page["MessageArgs"] == ["a", "192.0.2.8", "PATCH", "/v1/pools/p2", "403", "1"]
    assert (page["Username"], page["Originator"], page["Severity"]) == ("a", "192.0.2.8", "Warning")
    assert page["Created"] == "2026-03-01T12:00:02+00:00"


async def test_entries_come_in_pages_that_add_up(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await written(database_url, 250)

        assert await found(client, AUDIT) == [str(number) for number in range(1, 251)]
        assert await found(client, f"{AUDIT}?$top=70") == [str(number) for number in range(1, 251)]
        beyond = (await client.get(f"{AUDIT}?$skip=9999999")).json()
        assert (beyond["Members"], beyond["Members@odata.count"]) == ([], 250)


@pytest.mark.parametrize(
    ("expression", "audit", "events"),
    [
        ("EntryType eq 'Oem'", ["1", "2", "3", "4", "5", "6"], []),
        ("EntryType eq 'Event'", [], ["1", "2", "3", "4"]),
        ("Severity eq 'Warning'", ["3", "6"], []),
        ("Severity eq 'OK'", ["1", "2", "4", "5"], ["1", "4"]),
        ("Severity eq 'Critical'", [], ["2", "3"]),
        ("Severity eq 'Purple'", [], []),
        ("Severity eq null", [], []),
        ("Created eq '2026-03-01T12:00:02+00:00'", ["3"], ["2"]),
        ("Created eq 'yesterday'", [], []),
        ("Created gt '2026-03-01T12:00:03'", ["4", "5", "6"], ["3", "4"]),
        ("Username eq 'b'", ["2", "4", "6"], []),
        ("Username eq null", [], ["1", "2", "3", "4"]),
        ("Username eq 'a' and Severity eq 'OK'", ["1", "5"], []),
        ("Originator eq '192.0.2.8' and not (Severity eq 'OK')", ["3", "6"], []),
        ("Id eq '4'", ["4"], ["4"]),
        ("Id eq 4", [], []),
        ("Id eq '04'", [], []),
        ("MessageId eq 'Fabric.1.0.AddressPoolCreated'", [], ["1"]),
    ],
)
async def test_entries_are_found_by_what_they_are_equal_to(database_url: str, expression: str, audit: list[str], events: list[str]) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await written(database_url, 6)

        assert await found(client, f"{AUDIT}?$filter={expression.replace('+', '%2B')}") == audit
        assert await found(client, f"{EVENTS}?$filter={expression.replace('+', '%2B')}") == events


async def test_an_event_is_told_in_the_log_as_subscribers_are_told(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await written(database_url)
        async with database.read() as tx:
            (told,) = messages_of(await logs.event(tx, 1))

        page = (await client.get(f"{EVENTS}/1")).json()
        unknown = (await client.get(f"{EVENTS}/4")).json()

    assert (page["MessageId"], page["Message"], page["EventId"]) == (told.message_id, told.text, told.id)
    assert unknown["Message"] == "SomethingOfLater"


@pytest.mark.parametrize("uri", [f"{AUDIT}/0", f"{AUDIT}/x", f"{AUDIT}/01", f"{EVENTS}/{2**63}", f"{LOGS}/Other", f"{LOGS}/Other/Entries"])
async def test_what_is_in_no_log_is_missing(database_url: str, uri: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        answer = await client.get(uri)

        assert (answer.status_code, message_of(answer)) == (404, "ResourceMissingAtURI")


async def test_nobody_changes_a_log(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await written(database_url)

        for method, uri in (("DELETE", f"{AUDIT}/1"), ("PATCH", f"{AUDIT}/1"), ("POST", AUDIT), ("PATCH", f"{LOGS}/Audit")):
            assert (await client.request(method, uri, json={})).status_code == 405
        assert (await client.get(AUDIT, auth=httpx2.BasicAuth("eve", PASSWORD))).status_code == 200
