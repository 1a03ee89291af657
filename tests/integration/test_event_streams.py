"""Streams of events under a real server: who gets one, what it says, how it is resumed, and what ends it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from fabricmgr.app.assembly import mount_redfish
from fabricmgr.controllers import deliveries
from fabricmgr.domain.subscription import Filters
from fabricmgr.redfish.streams import UNSEEN
from fabricmgr.services import subscriptions
from fabricmgr.settings import ManagerSettings
from fabricmgr.store.tables import event
from tests.support.database import NOW, opened
from tests.support.event_reader import STREAM, EventReader
from tests.support.here import HERE
from tests.support.manager import PASSWORD, Served, clock, serving

SERVICE = "/redfish/v1/EventService"
SUBSCRIPTIONS = f"{SERVICE}/Subscriptions"
SESSIONS = "/redfish/v1/SessionService/Sessions"
EVENTS = {"Accept": "text/event-stream"}
Json = dict[str, Any]


@contextmanager
def manager(url: str, folder: Path) -> Iterator[Served]:
    settings = ManagerSettings()
    with serving(url, folder, settings, lambda made, stores: mount_redfish(made, stores, settings, clock, HERE)) as served:
        yield served


def connection(served: Served) -> httpx2.Client:
    return httpx2.Client(base_url=served.url, verify=served.trust(), auth=("admin", PASSWORD), trust_env=False, timeout=20)


@contextmanager
def reading(served: Served, query: str = "", seen: list[tuple[str, Json]] | None = None) -> Iterator[EventReader]:
    """A reader with an open stream."""
    made = EventReader(partial(connection, served), query)
    made.seen += seen or []
    made.start()
    try:
        until(lambda: made.opened > 0)
        yield made
    finally:
        made.stop()


def until(holds: Callable[[], object], limit: float = 15.0) -> float:
    """Seconds until it held."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < limit, f"not within {limit} s"
        time.sleep(0.02)
    return time.monotonic() - began


def admin(served: Served) -> httpx2.Client:
    return served.client(auth=("admin", PASSWORD))


def members(client: httpx2.Client) -> list[Json]:
    found: list[Json] = client.get(f"{SUBSCRIPTIONS}?$expand=.").json()["Members"]
    return found


def tell(client: httpx2.Client, *texts: str, origin: str = "/redfish/v1/") -> None:
    for text in texts:
        body = {"MessageId": "ResourceEvent.1.4.TestMessage", "Message": text, "OriginOfCondition": origin}
        answer = client.post(f"{SERVICE}/Actions/EventService.SubmitTestEvent", json=body)
        assert answer.status_code == 204, answer.text


def texts(reader: EventReader) -> list[str]:
    return [each["Message"] for each in reader.records]


def test_a_stream_is_asked_for_as_what_it_is(database_url: str, tmp_path: Path) -> None:
    with manager(database_url, tmp_path) as served:
        client = admin(served)

        as_json = client.get(STREAM, headers={"Accept": "application/json"})
        nobody = served.client().get(STREAM, headers=EVENTS)
        head = client.head(STREAM, headers=EVENTS)
        posted = client.post(STREAM, headers=EVENTS)

        assert (as_json.status_code, nobody.status_code, head.status_code, posted.status_code) == (406, 401, 200, 405)
        assert as_json.json()["error"]["@Message.ExtendedInfo"][0]["MessageId"] == "Base.1.22.HeaderInvalid"
        assert head.headers["content-type"] == "text/event-stream"
        assert posted.headers["allow"] == "GET, HEAD"
        assert members(client) == []


def test_a_stream_and_its_subscription_live_and_die_together(database_url: str, tmp_path: Path) -> None:
    with manager(database_url, tmp_path) as served:
        client = admin(served)
        with reading(served):
            (made,) = members(client)
        closed = until(lambda: members(client) == [])

        assert (made["SubscriptionType"], made["Protocol"], made["Name"]) == ("SSE", "Redfish", "Stream of admin")
        assert isinstance(made["Context"], str)
        assert "Destination" not in made
        assert closed < 5


def test_deleting_the_subscription_ends_its_stream_and_no_other(database_url: str, tmp_path: Path) -> None:
    with manager(database_url, tmp_path) as served:
        client = admin(served)
        with reading(served) as other:
            with served.client(auth=("admin", PASSWORD)).stream("GET", STREAM, headers=EVENTS) as answer:
                pieces = answer.iter_raw()
                next(pieces)
                last = members(client)[-1]["@odata.id"]
                began = time.monotonic()
                assert client.delete(last).status_code == 204
                for _ in pieces:
                    pass
                ended = time.monotonic() - began
            assert ended < 5
            assert other.opened == 1
            assert len(members(client)) == 1


def test_deleting_the_session_that_opened_a_stream_leaves_it(database_url: str, tmp_path: Path) -> None:
    with manager(database_url, tmp_path) as served:
        client = admin(served)
        login = client.post(SESSIONS, json={"UserName": "reader", "Password": PASSWORD})
        headers = {**EVENTS, "X-Auth-Token": login.headers["x-auth-token"]}
        with served.client().stream("GET", STREAM, headers=headers) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert client.delete(login.headers["location"]).status_code == 204
            tell(client, "still here")
            heard = next(line for line in lines if line.startswith("data: "))

        assert "still here" in heard


def test_each_event_has_its_position_as_id_and_is_an_event(database_url: str, tmp_path: Path) -> None:
    with manager(database_url, tmp_path) as served:
        client = admin(served)
        with reading(served) as reader:
            tell(client, "one", "two", "three")
            until(lambda: len(reader.seen) == 3)

        ids = [int(id_) for id_, _ in reader.seen]
        assert ids == sorted(set(ids))
        assert texts(reader) == ["one", "two", "three"]
        for id_, payload in reader.seen:
            assert payload["@odata.type"] == "#Event.v1_13_0.Event"
            assert payload["Id"] == id_
            assert payload["Events"][0]["MessageSeverity"] == "OK"


def test_silence_is_broken_by_comments(database_url: str, tmp_path: Path) -> None:
    with manager(database_url, tmp_path) as served, reading(served) as reader:
        until(lambda: reader.pings >= 2, 15)

        assert reader.seen == []


def test_a_reader_that_quotes_its_last_id_misses_nothing_on_another_worker_after_a_restart(database_url: str, tmp_path: Path) -> None:
    with manager(database_url, tmp_path) as served:
        client = admin(served)
        with reading(served) as reader:
            tell(client, "one")
            until(lambda: reader.seen)
        seen = reader.seen
        tell(client, "two", "three")
    with manager(database_url, tmp_path) as served, reading(served, seen=seen) as again:
        tell(admin(served), "four")
        until(lambda: len(again.seen) == 4)

        assert texts(again) == ["one", "two", "three", "four"]


async def test_what_is_kept_no_longer_is_said_to_be_lost_before_the_oldest_that_is_kept(database_url: str, tmp_path: Path) -> None:
    with manager(database_url, tmp_path) as served:
        tell(admin(served), "one", "two", "three")
        async with opened(database_url) as database:
            until(lambda: len(admin(served).get("/v1/events?after=0&limit=1000").json()["items"]) >= 3)
            kept = event.c.about["text"].astext == "three"
            await database.run(lambda tx: tx.change(event.delete().where(~kept | event.c.about["text"].is_(None))))
    with manager(database_url, tmp_path) as served, reading(served, seen=[("1", {"Events": []})]) as reader:
        until(lambda: len(reader.records) >= 2)

    assert reader.records[0]["MessageId"] == "Base.1.22.EventBufferExceeded"
    assert texts(reader)[1] == "three"
    assert int(reader.seen[1][0]) < int(reader.seen[2][0])


@pytest.mark.parametrize("quoted", ["nonsense", "-4", "99999999999999999999", "4000000"])
def test_an_id_that_cannot_be_is_told_from_the_oldest(database_url: str, tmp_path: Path, quoted: str) -> None:
    with manager(database_url, tmp_path) as served:
        tell(admin(served), "one")
        until(lambda: "TestEventSubmitted" in admin(served).get("/v1/events?after=0").text)
        with reading(served, seen=[(quoted, {"Events": []})]) as reader:
            until(lambda: "one" in texts(reader))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("MessageId eq 'ResourceEvent.TestMessage'", ["root", "fabric", "pool"]),
        ("RegistryPrefix eq 'Fabric'", []),
        ("OriginResource eq '/redfish/v1/Fabrics/ethernet'", ["fabric"]),
        ("OriginResource eq '/redfish/v1/Fabrics/ethernet' and SubordinateResources eq true", ["fabric", "pool"]),
        ("not (OriginResource eq '/redfish/v1/') and RegistryPrefix eq 'ResourceEvent'", ["fabric", "pool"]),
    ],
)
def test_a_filter_chooses_what_a_stream_says(database_url: str, tmp_path: Path, text: str, wanted: list[str]) -> None:
    with manager(database_url, tmp_path) as served:
        client = admin(served)
        with reading(served, f"?$filter={text}") as reader, reading(served) as everything:
            tell(client, "root")
            tell(client, "fabric", origin="/redfish/v1/Fabrics/ethernet")
            tell(client, "pool", origin="/redfish/v1/Fabrics/ethernet/AddressPools/pods")
            until(lambda: "pool" in texts(everything))
            until(lambda: len(reader.records) >= len(wanted))

        assert texts(reader) == wanted


@pytest.mark.parametrize(
    ("query", "status"), [("$filter=Colour eq 'red'", 400), ("$filter=MessageId foo 'x'", 400), ("$top=3", 501), ("other=3", 200)]
)
def test_a_query_that_cannot_be_read_opens_no_stream(database_url: str, tmp_path: Path, query: str, status: int) -> None:
    with manager(database_url, tmp_path) as served:
        client = admin(served)
        with client.stream("GET", f"{STREAM}?{query}", headers=EVENTS) as answer:
            assert answer.status_code == status
            assert len(members(admin(served))) == (1 if status == 200 else 0)


def test_a_disabled_service_ends_streams_and_opens_none(database_url: str, tmp_path: Path) -> None:
    with manager(database_url, tmp_path) as served:
        client = admin(served)
        with served.client(auth=("admin", PASSWORD)).stream("GET", STREAM, headers=EVENTS) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            client.patch(SERVICE, json={"ServiceEnabled": False})
            for _ in pieces:
                pass
        refused = client.get(STREAM, headers=EVENTS)

        assert refused.status_code == 503
        assert refused.json()["error"]["@Message.ExtendedInfo"][0]["MessageId"] == "Base.1.22.ServiceTemporarilyUnavailable"


def test_streams_end_when_the_process_does_and_leave_no_subscription(database_url: str, tmp_path: Path) -> None:
    with manager(database_url, tmp_path) as served:
        reader = EventReader(partial(connection, served)).start()
        until(lambda: reader.opened)
        began = time.monotonic()
    ended = time.monotonic() - began
    reader.stop()

    with manager(database_url, tmp_path) as served:
        assert ended < 5
        assert members(admin(served)) == []


async def test_a_stream_whose_worker_was_killed_is_swept_after_a_minute(database_url: str) -> None:
    async with opened(database_url) as database:
        open_ = partial(subscriptions.open_stream, after=None, filters=Filters(), context="", made=UUID(int=1), by="boss", now=NOW)
        await database.run(open_)

        early = await deliveries.sweep(database, UNSEEN, NOW + UNSEEN)
        late = await deliveries.sweep(database, UNSEEN, NOW + UNSEEN * 1.1)

        assert early.sentence == "every stream is open"
        assert late.sentence == "1 streams ended without a word"
