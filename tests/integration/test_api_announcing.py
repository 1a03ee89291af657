"""Announcing over HTTP: what a node is to announce reaches its long poll at once, and its beats are answered."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fabricmgr.store import connect
from fabricmgr.store.connect import HOLDER
from tests.support.manager import Served, body_of, hello, serving

SELF = "/v1/nodes/self"
ADDRESS = "192.0.2.60"
WAKE = "select pg_notify('fabricmgr_announce', '')"


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with serving(database_url, tmp_path) as found:
        yield found


def sql(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await connect.connect(url, "test", HOLDER)
        async with connection.transaction():
            for each in statements:
                await connection.execute(each)
        await connection.close()

    asyncio.run(run())


def name(node: str, term: int) -> str:
    return (
        "insert into announcement (cluster_id, address, node_id, term, since)"
        f" select cluster_id, '{ADDRESS}', id, {term}, now() from node where name = '{node}'"
        " on conflict (cluster_id, address) do update set node_id = excluded.node_id, term = excluded.term"
    )


def greet(node: httpx2.Client, machine: str) -> str:
    said = hello(machine)
    assert node.post(f"{SELF}/hello", json=said).status_code == 200
    return str(said["life"])


def desired(node: httpx2.Client, life: str, version: str, wait: float) -> httpx2.Response:
    return node.get(f"{SELF}/desired", params={"life": life, "version": version, "wait": wait}, timeout=30)


def test_a_poll_that_waits_is_told_at_once_what_to_announce_and_when_to_stop(served: Served, database_url: str, tmp_path: Path) -> None:
    node = served.node(tmp_path, "w1")
    life = greet(node, "machine-w1")
    version = desired(node, life, "", 0).json()["version"]

    with ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(desired, node, life, version, 20)
        time.sleep(0.3)
        began = time.monotonic()
        sql(database_url, name("w1", 3), WAKE)
        told = waiting.result().json()
        took = time.monotonic() - began
        waiting = beside.submit(desired, node, life, told["version"], 20)
        time.sleep(0.3)
        sql(database_url, "update announcement set node_id = null", WAKE)
        after = waiting.result().json()

    assert told["announcements"] == [{"address": ADDRESS, "term": 3}]
    assert took < 0.2  # a whole look begins later than that
    assert told["version"].startswith(f"{version}.")
    assert ("announcements" in after, after["version"]) == (False, version)


def test_a_poll_with_an_old_version_gets_a_whole_document_with_what_to_announce(served: Served, database_url: str, tmp_path: Path) -> None:
    node = served.node(tmp_path, "w1")
    life = greet(node, "machine-w1")
    sql(database_url, name("w1", 3), WAKE)

    told = desired(node, life, "something else", 5).json()
    again = desired(node, life, told["version"], 0.3)

    assert told["announcements"] == [{"address": ADDRESS, "term": 3}]
    assert again.status_code == 304


def test_a_poll_that_waits_hears_of_nothing_that_others_are_to_announce(served: Served, database_url: str, tmp_path: Path) -> None:
    served.node(tmp_path, "w2")
    node = served.node(tmp_path, "w1")
    life = greet(node, "machine-w1")
    version = desired(node, life, "", 0).json()["version"]

    with ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(desired, node, life, version, 1)
        sql(database_url, name("w2", 1), WAKE)
        answer = waiting.result()

    assert answer.status_code == 304


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "MissingField"),
        ({"life": "no uuid"}, 400, "Invalid"),
        ({"life": "00000000-0000-0000-0000-000000000001"}, 409, "HelloRequired"),
        ({"voices": [{"address": "192.0.2", "term": 1}]}, 400, "Invalid"),
        ({"voices": [{"address": ADDRESS, "term": -1}]}, 400, "Invalid"),
        ({"voices": [{"address": ADDRESS}]}, 400, "MissingField"),
    ],
)
def test_a_beat_that_is_not_right_is_refused(served: Served, tmp_path: Path, body: dict[str, Any], status: int, code: str) -> None:
    node = served.node(tmp_path, "w1")
    life = greet(node, "machine-w1")

    answer = node.post(f"{SELF}/announcing", json={"life": life} | body if body else {})

    assert (answer.status_code, body_of(answer)["code"]) == (status, code), answer.text


def test_a_holder_is_answered_with_its_lease_and_another_node_with_none(served: Served, database_url: str, tmp_path: Path) -> None:
    holder, other = served.node(tmp_path, "w1"), served.node(tmp_path, "w2")
    lives = {"w1": greet(holder, "machine-w1"), "w2": greet(other, "machine-w2")}
    sql(database_url, name("w1", 3))
    voice = {"address": ADDRESS, "term": 3, "speaking": True}

    first = holder.post(f"{SELF}/announcing", json={"life": lives["w1"], "voices": [voice]})
    second = other.post(f"{SELF}/announcing", json={"life": lives["w2"], "voices": [voice]})

    assert first.json() == {"leases": [{"address": ADDRESS, "term": 3, "until_ms": 1000}]}
    assert second.json() == {}
