"""What every request meets: keep-alive, audit, logs, metrics, description, events, paging."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fabricmgr import wire
from fabricmgr.api.dispatch import Ask
from fabricmgr.api.health import Health
from fabricmgr.api.metrics import KEPT, Scrape
from fabricmgr.domain.names import pool_name
from fabricmgr.domain.pool import PoolDraft, PrefixDraft
from fabricmgr.services import pools
from fabricmgr.settings import ManagerSettings
from fabricmgr.store import connect
from fabricmgr.store.listen import Listener
from fabricmgr.store.tx import Database
from fabricmgr.web.privileges import TABLE
from fabricmgr.web.protocol import protocol_class
from fabricmgr.web.responses import problem
from fabricmgr.web.who import Principal
from tests.support.manager import PASSWORD, Served, clock
from tests.support.shared_manager import shared_manager


@pytest.fixture(scope="module")
def served(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with shared_manager(server_url, template, tmp_path_factory.mktemp("edge"), ManagerSettings(keep_alive_seconds=2.0)) as found:
        pool = {"name": "base", "purpose": "Service", "prefixes": [{"prefix": "10.1.0.0/16"}]}
        assert found.login().post("/v1/pools", json=pool).status_code == 201
        yield found


def rows(served: Served, statement: str) -> list[dict[str, Any]]:
    """Ask the database itself."""

    async def go() -> list[dict[str, Any]]:
        connection = await connect.connect(str(served.manager.parts.listener.url), "test")
        try:
            return [dict(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(go())


def eventually(served: Served, statement: str) -> list[dict[str, Any]]:
    """The rows, once there are some."""
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        if found := rows(served, statement):
            return found
        time.sleep(0.05)
    raise AssertionError(f"no row within 10 s: {statement}")


# --- the connection -------------------------------------------------------------------------------------------------------


def test_requests_are_parsed_by_httptools() -> None:
    """h11 costs three times the CPU."""
    assert issubclass(protocol_class(problem), HttpToolsProtocol)


def test_idle_connections_live_as_long_as_is_announced(served: Served) -> None:
    """F063: 200 POSTs on connections that were idle almost as long as the server keeps them: no reset, one allocation each."""
    failures: list[str] = []

    def reuse(number: int) -> None:
        with httpx2.Client(base_url=served.url, verify=served.trust(), trust_env=False, timeout=30) as client:
            opened = client.post("/v1/sessions", json={"account": "admin", "password": PASSWORD})
            client.headers["X-Auth-Token"] = opened.json()["token"]
            if opened.headers["keep-alive"] != "timeout=2":
                failures.append(opened.headers["keep-alive"])
            for round_ in range(4):
                time.sleep(1.2)
                answer = client.post("/v1/pools/base/allocations", json={"owners": [{"owner": f"k{number}-{round_}"}]})
                if answer.status_code != 200:
                    failures.append(answer.text)

    threads = [threading.Thread(target=reuse, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert len(rows(served, "select from allocation where name like 'k%-%'")) == 200
    assert ManagerSettings().keep_alive_seconds > 75


# --- audit and log ---------------------------------------------------------------------------------------------------------


def test_changes_and_denials_are_in_the_audit_log_and_secrets_are_not(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fabricmgr.request")
    operator = served.login("operator")

    made = operator.post("/v1/pools", json={"name": "audited"})
    refused = operator.post("/v1/accounts", json={"name": "x", "password": "do not show", "role": "ReadOnly"})

    change = eventually(served, "select * from audit where path = '/v1/pools' and actor = 'operator'")[0]
    denial = eventually(served, "select * from audit where path = '/v1/accounts' and actor = 'operator'")[0]
    login = eventually(served, "select * from audit where path = '/v1/sessions' and status = 201")[0]
    assert (change["method"], change["status"], change["source"]) == ("POST", 201, "127.0.0.1")
    assert made.headers["x-request-id"] in change["detail"]
    assert (denial["status"], refused.status_code) == (403, 403)
    assert "lacks the privilege: ConfigureUsers" in denial["detail"]
    assert login["method"] == "POST"
    everything = str(rows(served, "select * from audit")) + str([vars(record) for record in caplog.records])
    for secret in (PASSWORD, "do not show", operator.headers["x-auth-token"]):
        assert secret not in everything
    logged = [vars(record) for record in caplog.records if vars(record).get("request") == made.headers["x-request-id"]]
    assert [(line["levelname"], line["method"], line["status"], line["actor"]) for line in logged] == [("INFO", "POST", 201, "operator")]


def test_denials_of_one_source_are_counted_not_repeated(served: Served) -> None:
    client = served.client()

    for number in range(50):
        assert client.get(f"/v1/pools/{number}").status_code == 401

    found = eventually(served, "select * from audit where status = 401")
    assert len(found) == 1
    assert "X-Auth-Token" not in str(found)


# --- metrics, health, description -------------------------------------------------------------------------------------------


def test_metrics_count_requests_by_route_and_ask_the_database_for_gauges(served: Served) -> None:
    admin = served.login()
    admin.get("/v1/pools/base")

    text = admin.get("/metrics").text

    assert 'fabricmgr_http_requests_total{method="GET",route="/v1/pools/{pool}",status="200"}' in text
    assert 'fabricmgr_pool_addresses{family="IPv4",pool="base",state="total"} 65536.0' in text
    assert 'fabricmgr_pool_addresses{family="IPv4",pool="base",state="reserved"} 2.0' in text
    assert "fabricmgr_gauges_up 1.0" in text
    assert "fabricmgr_outbox_events" in text


def test_health_says_ready(served: Served) -> None:
    client = served.client()

    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"ready": True, "waiting_for": ""}


def test_the_description_names_every_route_and_describes_raw_bodies_as_the_codec_reads_them(served: Served) -> None:
    document = served.client().get("/v1/openapi.json").json()

    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert described == set(TABLE)
    assert document["openapi"].startswith("3.")
    schemas = document["components"]["schemas"]
    kinds: list[type[msgspec.Struct]] = [
        wire.Enrol,
        wire.Renew,
        wire.Hello,
        wire.Report,
        wire.BlocksWanted,
        wire.Attach,
        wire.Desired,
        wire.Welcome,
        wire.Enrolled,
    ]
    for kind in kinds:
        fields = {each.encode_name: each for each in msgspec.structs.fields(kind)}
        assert set(schemas[kind.__name__]["properties"]) == set(fields)
        assert set(schemas[kind.__name__].get("required", [])) == {name for name, each in fields.items() if each.required}
    assert not [name for name in schemas if "Validation" in name]
    for operations in document["paths"].values():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            assert operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
    _references_resolve(document, document)


def _references_resolve(document: Any, part: Any) -> None:
    if isinstance(part, dict):
        if isinstance(reference := part.get("$ref"), str):
            assert reference.rpartition("/")[2] in document["components"]["schemas"], reference
        for value in part.values():
            _references_resolve(document, value)
    elif isinstance(part, list):
        for value in part:
            _references_resolve(document, value)


# --- events and pages ---------------------------------------------------------------------------------------------------------


def test_events_are_read_by_position_and_waited_for(served: Served) -> None:
    admin = served.login()
    assert admin.post("/v1/pools", json={"name": "eventful"}).status_code == 201
    last = 0
    while not (found := admin.get("/v1/events", params={"after": last, "wait": 5}).json())["items"]:
        continue
    while (page := admin.get("/v1/events", params={"after": last, "limit": 1000}).json())["items"]:
        last = page["items"][-1]["position"]

    later = threading.Timer(0.3, lambda: served.login().delete("/v1/pools/eventful"))
    later.start()
    told = admin.get("/v1/events", params={"after": last, "wait": 20}).json()
    later.join()

    assert found["items"][0]["position"] == found["oldest"]
    assert [each["what"] for each in told["items"]] == ["PoolDeleted"]
    assert told["items"][0]["about"] == {"pool": "eventful", "by": "admin"}


def test_lists_come_in_pages_that_add_up(served: Served) -> None:
    admin = served.login()
    owners = [f"page-{number:03}" for number in range(25)]
    made = admin.post("/v1/pools/base/allocations", json={"owners": [{"owner": each} for each in owners]})
    assert {each["repeated"] for each in made.json()["items"]} == {False}

    found: list[str] = []
    asked: dict[str, str] | None = {"pool": "base", "limit": "7"}
    while asked is not None:
        page = admin.get("/v1/allocations", params=asked).json()
        found += [each["name"] for each in page["items"]]
        asked = asked | {"after": page["next"]} if page["next"] else None

    assert len(found) == len(set(found))
    assert set(owners) <= set(found)


def test_bulk_says_for_each_owner_what_it_has_or_why_not(served: Served) -> None:
    admin = served.login()
    wanted = [{"owner": "b1", "address": "10.1.200.1"}, {"owner": "b2", "address": "10.1.200.1"}, {"owner": "!"}, {"owner": "b3"}]

    answer = admin.post("/v1/pools/base/allocations", json={"owners": wanted})

    items = answer.json()["items"]
    assert answer.status_code == 200
    assert [each["owner"] for each in items] == ["b1", "b2", "!", "b3"]
    given = [each for each in items[:2] if "addresses" in each]
    refused = [each["error"]["code"] for each in items if "error" in each]
    assert len(given) == 1
    assert sorted(refused) == ["AddressHeld", "Invalid"]
    assert items[3]["addresses"]


def test_a_dry_run_takes_nothing(served: Served) -> None:
    admin = served.login()

    answer = admin.put("/v1/pools/base/allocations/dry", json={"dry_run": True})

    assert answer.status_code == 200, answer.text
    assert answer.json()["addresses"]
    assert admin.get("/v1/pools/base/allocations/dry").status_code == 404


def test_a_pool_kept_for_a_cluster_is_used_without_naming_the_cluster(served: Served) -> None:
    admin = served.login()
    assert admin.post("/v1/clusters", json={"name": "west"}).status_code == 201
    pool = {"name": "west-lb", "cluster": "west", "purpose": "Service", "prefixes": [{"prefix": "10.77.0.0/28"}]}
    assert admin.post("/v1/pools", json=pool).status_code == 201

    first = admin.put("/v1/pools/west-lb/allocations/web", json={})
    named = admin.put("/v1/pools/west-lb/allocations/web", json={}, params={"cluster": "west"})

    assert (first.status_code, named.status_code) == (201, 200), first.text
    assert first.json()["addresses"] == named.json()["addresses"]


# --- what happens around requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"])
def test_a_connection_on_which_no_request_comes_ends_like_an_idle_one(served: Served, said: bytes) -> None:
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=20) as plain,
        served.trust().wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(said)
        began = time.monotonic()
        with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError):
            assert secure.recv(1) == b""

    assert 1 < time.monotonic() - began < 10


async def test_gauges_are_asked_at_most_every_ten_seconds(served: Served) -> None:
    url = served.manager.parts.listener.url
    now = [100.0]
    database = await Database.open(url, clock=clock, name="test")
    scrape = Scrape(database, clock, lambda: now[0])
    wanted = b'fabricmgr_pool_addresses{family="IPv4",pool="gauged",state="total"} 16.0'

    before = (await scrape.answer()).body
    await database.run(
        lambda tx: pools.create(tx, PoolDraft(pool_name("gauged"), (PrefixDraft(ip_network("10.88.0.0/28")),)), "t", clock())
    )
    now[0] += KEPT - 0.1
    kept = (await scrape.answer()).body
    now[0] += 0.2
    fresh = (await scrape.answer()).body
    await database.close()

    assert wanted not in before
    assert wanted not in kept
    assert wanted in fresh


async def test_readiness_says_that_it_waits_for_the_database(tmp_path: Path) -> None:
    """Nobody listens there: health stays good, so that nobody restarts us for it."""
    url = f"postgresql://nobody@/none?host={tmp_path}&port=1"
    database = await Database.open(url, clock=clock, name="test")
    health = Health(database, Listener(url, "test", []), asyncio.Event())
    ask = Ask(Principal.anonymous(), {}, {}, b"", clock(), "local")

    ready, alive = await health.ready(ask), await health.alive(ask)
    await database.close()

    assert (ready.status, alive.status) == (503, 200)
    assert msgspec.json.decode(ready.body)["waiting_for"].startswith("the database: the database cannot be used now")


def test_counters_of_several_processes_are_added_up(tmp_path: Path) -> None:
    def run(script: str) -> str:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    for count in (2, 3):
        run(f"from fabricmgr.metrics import DENIALS; DENIALS.labels('forbidden').inc({count})")
    text = run("from fabricmgr.api.metrics import counters; print(counters().decode())")

    assert 'fabricmgr_denials_total{reason="forbidden"} 5.0' in text
