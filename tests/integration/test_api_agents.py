"""What agents call, over mutual TLS on a real server: identity, hello, blocks, reports, desired state, attachments."""

import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fabricmgr.settings import ManagerSettings
from tests.support.manager import Served, body_of, clock, enrolment, hello, serving

SELF = "/v1/nodes/self"


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with serving(database_url, tmp_path, ManagerSettings(token_lifetime=timedelta(minutes=10))) as found:
        admin = found.login()
        pods = {"name": "pods", "prefixes": [{"prefix": "10.2.0.0/16"}, {"prefix": "2001:db8:2::/64"}]}
        assert admin.post("/v1/pools", json=pods).status_code == 201
        assert admin.post("/v1/clusters/default/networks", json={"name": "podnet", "pools": ["pods"]}).status_code == 201
        yield found


def add(served: Served, name: str) -> str:
    answer = served.login().post("/v1/clusters/default/nodes", json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def greet(client: httpx2.Client, name: str) -> str:
    said = hello(f"machine-{name}")
    answer = client.post(f"{SELF}/hello", json=said)
    assert answer.status_code == 200, answer.text
    return str(said["life"])


def desired(client: httpx2.Client, life: str, version: str = "", wait: float = 0) -> httpx2.Response:
    return client.get(f"{SELF}/desired", params={"life": life, "version": version, "wait": wait})


def test_a_token_is_good_once_and_its_owner_may_ask_again(served: Served) -> None:
    token = add(served, "w1")
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    anyone = served.client()

    first = anyone.post("/v1/enrol", json=enrolment(key, token, "m1"))
    again = anyone.post("/v1/enrol", json=enrolment(key, token, "m1"))
    stolen = anyone.post("/v1/enrol", json=enrolment(other, token, "m2"))

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["certificate"] == again.json()["certificate"]
    assert (stolen.status_code, body_of(stolen)["code"]) == (403, "TokenRefused")
    assert token not in stolen.text


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"token": "fm1." + "a" * 32 + "." + "0" * 64}, 403, "TokenRefused"),
        ({"token": "nonsense"}, 403, "TokenRefused"),
        ({"proof": "AAAA"}, 400, "Invalid"),
        ({"public_key": "no key"}, 400, "Invalid"),
        ({"now": (clock() - timedelta(hours=2)).isoformat()}, 400, "ClockSkew"),
        ({"now": "noon"}, 400, "Invalid"),
        ({"machine_id": ""}, 400, "Invalid"),
    ],
)
def test_an_enrolment_that_is_not_right_is_refused(served: Served, change: dict[str, str], status: int, code: str) -> None:
    body = enrolment(ec.generate_private_key(ec.SECP256R1()), add(served, "w1"), "m1") | change

    answer = served.client().post("/v1/enrol", json=body)

    assert (answer.status_code, body_of(answer)["code"]) == (status, code), answer.text
    assert served.login().get("/v1/clusters/default/nodes/w1").json()["state"] == "added"


def test_the_authorities_are_open_and_are_those_of_the_token(served: Served) -> None:
    answer = served.client().get("/v1/authorities")

    assert answer.headers["content-type"] == "application/x-pem-file"
    assert answer.text == served.authorities


def test_a_node_claims_confirms_assigns_reports_and_the_manager_knows(served: Served, tmp_path: Path) -> None:
    node = served.node(tmp_path, "w1")
    life = greet(node, "w1")

    asked = {"life": life, "wanted": [{"network": "podnet", "family": 4, "count": 1}]}
    granted = node.post(f"{SELF}/blocks", json=asked).json()["blocks"][0]
    held = {name: granted[name] for name in ("prefix", "claim")} | {"generation": granted.get("generation", 0)}
    confirmed = node.post(f"{SELF}/blocks", json={"life": life, "confirm": [held]}).json()["blocks"][0]
    owned = attachment("c1", granted["prefix"].replace("/26", "").rpartition(".")[0] + ".5", granted["prefix"], granted["claim"])
    report = {"life": life, "number": 1, "changes": [{"kind": "assigned", "owned": owned}]}
    first, second = node.post(f"{SELF}/reports", json=report), node.post(f"{SELF}/reports", json=report)

    assert granted["state"] == "pending"
    assert confirmed["state"] == "confirmed"
    assert (first.status_code, first.json()["number"], second.json()["number"]) == (200, 1, 1), first.text
    held_now = served.login().get("/v1/allocations", params={"node": "w1"}).json()["items"]
    assert [(each["namespace"], each["pod"], each["container"]) for each in held_now] == [("shop", "cart-0", "c1")]
    address = held_now[0]["addresses"][0]["address"]
    assert served.login().get("/v1/history", params={"address": address}).json()["items"][0]["node"] == "w1"


def attachment(container: str, address: str, block: str, claim: int) -> dict[str, Any]:
    return {
        "network": "podnet",
        "container": container,
        "ifname": "eth0",
        "addresses": [{"address": address, "generation": 1, "block": block, "claim": claim}],
        "at": clock().isoformat(),
        "namespace": "shop",
        "pod": "cart-0",
    }


def test_a_report_of_another_life_or_with_a_gap_is_refused(served: Served, tmp_path: Path) -> None:
    node = served.node(tmp_path, "w1")
    life = greet(node, "w1")

    foreign = node.post(f"{SELF}/reports", json={"life": str(uuid4()), "number": 1, "changes": []})
    early = node.post(f"{SELF}/reports", json={"life": life, "number": 7, "changes": []})

    assert (foreign.status_code, body_of(foreign)["code"]) == (409, "HelloRequired")
    assert (early.status_code, body_of(early)["code"]) == (409, "ReportGap")
    assert body_of(early)["fields"]["expected"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"at": "9999-12-31T23:59:59-14:00"},
        {"at": "0001-01-01T00:00:00+14:00"},
        {"at": "2026-01-01T00:00:00"},
        {"pod": "\x00"},
        {"container": "../x"},
        {"addresses": [{"address": "10.2.0.5%eth0", "generation": 1}]},
        {"addresses": [{"address": "10.2.0.5", "generation": 2**70}]},
    ],
)
def test_a_report_that_cannot_be_is_refused_whole(served: Served, tmp_path: Path, change: dict[str, Any]) -> None:
    node = served.node(tmp_path, "w1")
    life = greet(node, "w1")
    owned = attachment("c1", "10.2.0.5", "10.2.0.0/26", 1) | change

    answer = node.post(f"{SELF}/reports", json={"life": life, "number": 1, "changes": [{"kind": "assigned", "owned": owned}]})

    assert answer.status_code == 400, answer.text
    again = node.post(f"{SELF}/reports", json={"life": life, "number": 1, "changes": []})
    assert again.json()["number"] == 1


def test_desired_state_is_told_at_once_and_again_when_it_changes(served: Served, tmp_path: Path) -> None:
    node = served.node(tmp_path, "w1")
    life = greet(node, "w1")
    known = desired(node, life).json()

    began = time.monotonic()
    change = threading.Timer(0.5, lambda: served.login().patch("/v1/clusters/default/networks/podnet", json={"mtu": 9000}))
    change.start()
    told = desired(node, life, known["version"], wait=20)
    change.join()

    assert known["networks"][0]["name"] == "podnet"
    assert told.status_code == 200
    assert told.json()["networks"][0]["mtu"] == 9000
    assert 0.4 < time.monotonic() - began < 5


def test_a_poll_without_news_is_304_and_is_the_heartbeat(served: Served, tmp_path: Path) -> None:
    node = served.node(tmp_path, "w1")
    life = greet(node, "w1")
    version = desired(node, life).json()["version"]
    before = served.login().get("/v1/clusters/default/nodes/w1").json()

    answer = desired(node, life, version, wait=0.3)

    after = served.login().get("/v1/clusters/default/nodes/w1").json()
    assert (answer.status_code, answer.content) == (304, b"")
    assert after["seen_at"] > before["seen_at"]
    assert after["desired_acted"] == version


def test_a_life_that_does_not_speak_for_the_node_is_no_heartbeat(served: Served, tmp_path: Path) -> None:
    node = served.node(tmp_path, "w1")
    early = desired(node, str(uuid4()))
    greet(node, "w1")
    before = served.login().get("/v1/clusters/default/nodes/w1").json()["seen_at"]

    twin = desired(node, str(uuid4()))

    assert (early.status_code, body_of(early)["code"]) == (409, "HelloRequired")
    assert (twin.status_code, body_of(twin)["code"]) == (409, "HelloRequired")
    assert served.login().get("/v1/clusters/default/nodes/w1").json()["seen_at"] == before
    assert desired(node, "no-uuid").status_code == 400


def test_an_attachment_asks_again_and_gets_the_same_and_is_its_nodes_alone(served: Served, tmp_path: Path) -> None:
    node, other = served.node(tmp_path, "w1"), served.node(tmp_path, "w2")
    where = "/v1/attachments/podnet/c1/eth0"

    first = node.put(where, json={"namespace": "shop", "pod": "cart-0"})
    again = node.put(where)
    elsewhere = other.delete(where)
    kept = served.login().get("/v1/allocations", params={"state": "held"}).json()["items"]
    gone = node.delete(where)
    twice = node.delete(where)

    assert (first.status_code, again.status_code) == (201, 200), first.text
    assert first.json()["addresses"] == again.json()["addresses"]
    assert len(first.json()["addresses"]) == 2
    assert elsewhere.status_code == 204
    assert [each["container"] for each in kept] == ["c1"]
    assert (gone.status_code, twice.status_code) == (204, 204)
    assert served.login().get("/v1/allocations", params={"state": "held"}).json()["items"] == []


def test_revocation_takes_effect_on_the_next_write(served: Served, tmp_path: Path) -> None:
    node = served.node(tmp_path, "w1")
    life = greet(node, "w1")
    assert served.login().post("/v1/clusters/default/nodes/w1/revoke").status_code == 200

    writes = [
        node.post(f"{SELF}/reports", json={"life": life, "number": 1, "changes": []}),
        node.post(f"{SELF}/blocks", json={"life": life}),
        node.put("/v1/attachments/podnet/c1/eth0", json={}),
        node.delete("/v1/attachments/podnet/c1/eth0"),
        node.post(f"{SELF}/hello", json=hello("machine-w1", life)),
    ]

    assert [each.status_code for each in writes] == [401] * 5
    assert served.login().get("/v1/allocations").json()["items"] == []


def test_a_node_enrols_again_and_its_old_certificate_counts_no_more(served: Served, tmp_path: Path) -> None:
    old = served.node(tmp_path, "w1")
    life = greet(old, "w1")
    token = served.login().post("/v1/clusters/default/nodes/w1/token").json()["token"]

    new = served.client(certificate=served.enrol(tmp_path, "w1", token))

    assert old.post(f"{SELF}/blocks", json={"life": life}).status_code == 401
    assert new.post(f"{SELF}/blocks", json={"life": life}).status_code == 200


def test_a_certificate_of_another_ca_does_not_get_through_tls(served: Served, tmp_path: Path) -> None:
    from fabricmgr.services import certificates

    certificate, key = certificates.new_authority("somebody else", clock())
    path = tmp_path / "foreign.pem"
    path.write_text(key + certificate)

    with pytest.raises(httpx2.HTTPError):
        served.client(certificate=path).get(f"{SELF}/desired")


def test_long_polls_end_when_the_manager_stops(database_url: str, tmp_path: Path) -> None:
    """F055: endless requests are ended first, with an answer, and nothing waits for them."""
    with serving(database_url, tmp_path) as served:
        node = served.node(tmp_path, "w1")
        life = greet(node, "w1")
        version = desired(node, life).json()["version"]
        answers: list[httpx2.Response] = []
        admin = served.login()
        newest = admin.get("/v1/events").json()["last"]
        polls = [
            threading.Thread(target=lambda: answers.append(desired(node, life, version, wait=50))),
            threading.Thread(target=lambda: answers.append(admin.get("/v1/events", params={"after": newest + 1000, "wait": 50}))),
        ]
        for poll in polls:
            poll.start()
        _wait_for_connections(served, polls)
        began = time.monotonic()
        served.loop.call_soon_threadsafe(served.manager.drain)
        for poll in polls:
            poll.join(10)

    assert sorted(each.status_code for each in answers) == [200, 304]
    assert time.monotonic() - began < 5


def _wait_for_connections(served: Served, polls: list[threading.Thread]) -> None:
    """Until both requests are being answered: a third one is answered after them, by the same loop."""
    time.sleep(0.3)
    assert all(poll.is_alive() for poll in polls)
    with socket.create_connection(("127.0.0.1", served.port), timeout=5):
        assert served.client().get("/healthz").status_code == 200
