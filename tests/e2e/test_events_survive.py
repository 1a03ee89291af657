"""No event is lost: a manager is killed again and again while thousands are made, and a subscriber and a stream's reader follow."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.support.event_reader import EventReader
from tests.support.receiver import Receiver, receiver
from tests.support.serve_process import Managers, ServeProcess, free_port, managers

EVENTS, BATCH, KILLS = 10_000, 50, 5
POOL = {"name": "pods", "purpose": "Pod", "prefixes": [{"prefix": "10.0.0.0/16", "central": True}]}
WANTED = "FabricMgr.AddressAllocated"
SUBSCRIPTIONS = "/redfish/v1/EventService/Subscriptions"
Json = dict[str, Any]


@pytest.fixture
def serve() -> Iterator[Managers]:
    with managers() as made:
        yield made


class Maker:
    """Allocates addresses, a batch after the other, and tries each again until it is answered: the same owner is never given two."""

    def __init__(self, client: "ClientOf") -> None:
        self.made = 0
        self.tried_again = 0
        self.answer = ""
        self._client = client
        self.thread = threading.Thread(target=self._run, daemon=True)

    def until_made(self, count: int) -> None:
        until(lambda: self.made >= count, f"{count} events are made; the last answer was {self.answer}")

    def _run(self) -> None:
        for first in range(0, EVENTS, BATCH):
            body = {"owners": [{"owner": f"owner-{number}"} for number in range(first, first + BATCH)]}
            while not self._answered(body):
                self.tried_again += 1
                time.sleep(0.05)
            self.made = first + BATCH

    def _answered(self, body: Json) -> bool:
        try:
            with self._client() as client:
                answer = client.post("/v1/pools/pods/allocations", json=body)
        except (httpx2.HTTPError, OSError):
            return False
        self.answer = f"{answer.status_code} {answer.text[:300]}"
        return answer.status_code == 200 and all("error" not in each for each in answer.json()["items"])


class ClientOf:
    """Makes clients of whichever manager serves at a URL now."""

    def __init__(self, manager: ServeProcess) -> None:
        self._url, self._tls, self._auth = manager.url, manager.tls(), ("admin", manager.password)

    def __call__(self) -> httpx2.Client:
        return httpx2.Client(base_url=self._url, verify=self._tls, auth=self._auth, trust_env=False, timeout=10)


def test_five_kills_lose_no_event_of_ten_thousand(serve: Managers) -> None:
    options = ("--listen", f"127.0.0.1:{free_port()}", "--outbound-allow", "127.0.0.0/8", "--lockout-attempts", "1000")
    running = serve.start(serve.folder / "data", *options).ready()
    client = ClientOf(running)
    with receiver() as taking:
        subscribe(client, taking)
        reader = EventReader(client, f"?$filter=MessageId eq '{WANTED}'").start()
        until(lambda: reader.opened == 1, "the stream is open")
        maker = Maker(client)
        maker.thread.start()

        for kill in range(1, KILLS + 1):
            maker.until_made(kill * EVENTS // (KILLS + 1))
            running.kill()
            running = serve.start(serve.folder / "data", *options).ready()
        maker.thread.join(60)

        truth = stored(client)
        until(lambda: taking.records[-1:] and int(taking.records[-1]["EventId"]) >= truth[-1][0], "the subscriber has the last event")
        until(lambda: reader.seen and int(reader.seen[-1][0]) >= truth[-1][0], "the reader has the last event")
        reader.stop()

    assert len({address for _, address in truth}) == len(truth) == EVENTS
    assert [position for position, _ in truth] == sorted({position for position, _ in truth})
    assert first_of_each(taking.records) == truth
    assert first_of_each(reader.records) == truth
    assert repeats_are_the_same(taking.records)
    assert len(reader.records) == EVENTS, "a stream's reader that quotes its last id is told nothing twice"
    assert reader.opened >= KILLS + 1
    assert taking.most_at_once == 1
    assert all(headers["X-Secret"] == "hidden" for headers in taking.headers)


def subscribe(client: ClientOf, taking: Receiver) -> None:
    body = {
        "Destination": taking.url,
        "Protocol": "Redfish",
        "Context": "survivor",
        "MessageIds": [WANTED],
        "DeliveryRetryPolicy": "RetryForever",
        "HttpHeaders": [{"X-Secret": "hidden"}],
    }
    with client() as asking:
        assert asking.post("/v1/pools", json=POOL).status_code == 201
        assert asking.patch("/redfish/v1/EventService", json={"DeliveryRetryIntervalSeconds": 1}).status_code == 200
        made = asking.post(SUBSCRIPTIONS, json=body)
    assert made.status_code == 201, made.text


def stored(client: ClientOf) -> list[tuple[int, str]]:
    """Position and address of every event of that kind, as the log has them."""
    found: list[tuple[int, str]] = []
    after = 0
    with client() as asking:
        while True:
            answer = asking.get(f"/v1/events?after={after}&limit=1000").json()
            found += [(each["position"], each["about"]["address"]) for each in answer["items"] if each["what"] == "AddressAllocated"]
            if not answer["items"]:
                if after >= answer["last"] and len(found) >= EVENTS:
                    return found
                time.sleep(0.1)
            else:
                after = answer["items"][-1]["position"]


def first_of_each(records: list[Json]) -> list[tuple[int, str]]:
    """What was told, in the order in which it was told first."""
    told: dict[str, str] = {}
    for record in records:
        told.setdefault(record["EventId"], record["MessageArgs"][0])
    return [(int(id_), address) for id_, address in told.items()]


def repeats_are_the_same(records: list[Json]) -> bool:
    """What comes twice has the same id and says the same; only its place within a POST may differ."""
    told: dict[str, Json] = {}
    return all(told.setdefault(each["EventId"], bare(each)) == bare(each) for each in records)


def bare(record: Json) -> Json:
    return {name: value for name, value in record.items() if name != "MemberId"}


def until(holds: Callable[[], object], what: str, limit: float = 60.0) -> None:
    for _ in range(int(limit / 0.05)):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {limit} s: {what}")
