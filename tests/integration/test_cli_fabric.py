"""Endpoints, zones and a pool's thresholds by command line and /v1."""

import json
from pathlib import Path

from tests.integration.test_cli import Run, logged_in, run, served
from tests.support.manager import Served, hello

__all__ = ["logged_in", "run", "served"]  # fixtures


def with_a_nic(served: Served, folder: Path) -> None:
    """n1, whose agent reports eth0."""
    told = hello("machine-n1")
    told["interfaces"] = [{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "up": True, "addresses": ["192.0.2.10/24"]}]
    answer = served.node(folder, "n1").post("/v1/nodes/self/hello", json=told)
    assert answer.status_code == 200, answer.text


def test_a_nic_is_named_grouped_and_let_go(logged_in: Served, run: Run, tmp_path: Path) -> None:
    with_a_nic(logged_in, tmp_path)
    before = json.loads(run("endpoint", "list", "-o", "json")[1])

    assert run("pool", "add", "pods", "10.1.0.0/16")[0] == 0
    assert run("endpoint", "add", "front", "n1", "eth0", "-d", "by the door")[0] == 0
    assert run("zone", "add", "racks", "-e", "front", "-p", "pods")[0] == 0
    assert run("zone", "change", "racks", "-d", "first row")[0] == 0
    shown = json.loads(run("endpoint", "show", "front", "-o", "json")[1])
    listed = run("zone", "list")[1]
    in_use = run("endpoint", "delete", "front")
    unknown = run("zone", "change", "racks", "-e", "nobody")
    assert run("zone", "delete", "racks")[0] == 0
    assert run("endpoint", "change", "front", "-d", "")[0] == 0
    assert run("endpoint", "delete", "front")[0] == 0
    after = json.loads(run("endpoint", "list", "-o", "json")[1])

    assert [(each["name"], each["claimed"]) for each in before] == [("default_n1_eth0", False)]
    assert (shown["zones"], shown["pools"], shown["mac"]) == (["default/racks"], ["pods"], "02:00:00:00:00:01")
    assert "first row" in listed
    assert in_use[0] != 0
    assert "zone default/racks holds it" in in_use[2]
    assert "there is no endpoint 'nobody'" in unknown[2]
    assert after == before


def test_a_change_that_quotes_an_old_version_is_refused(served: Served) -> None:
    admin = served.login()
    made = admin.post("/v1/clusters/default/zones", json={"name": "racks"})

    changed = admin.patch("/v1/clusters/default/zones/racks", json={"description": "x"}, headers={"If-Match": made.headers["etag"]})
    stale = admin.patch("/v1/clusters/default/zones/racks", json={"description": "y"}, headers={"If-Match": made.headers["etag"]})
    reader = served.login("reader").delete("/v1/clusters/default/zones/racks")

    assert (made.status_code, changed.status_code, stale.status_code, reader.status_code) == (201, 200, 412, 403)
    assert admin.get("/v1/clusters/default/zones").json()["items"][0]["description"] == "x"
    assert admin.get("/v1/clusters/nowhere/zones").status_code == 404


def test_names_that_cannot_be_are_refused_and_nothing_is_made(served: Served) -> None:
    admin = served.login()
    zones, endpoints = "/v1/clusters/default/zones", "/v1/endpoints"
    nul = "a\0b"

    answers = [
        admin.get("/v1/endpoints/%00"),
        admin.get(f"{zones}/%00"),
        admin.post(zones, json={"name": nul}),
        admin.post(zones, json={"name": "x", "endpoints": [nul]}),
        admin.post(zones, json={"name": "x", "pools": [nul]}),
        admin.post(zones, json={"name": "x", "description": nul}),
        admin.post(endpoints, json={"name": nul, "node": "n1", "interface": "eth0"}),
        admin.post(endpoints, json={"name": "x", "node": "n1", "interface": nul}),
        admin.post(endpoints, json={"name": "x", "node": "nobody", "interface": "eth0"}),
        admin.get("/v1/clusters/default/zones", params={"after": nul}),
    ]

    assert [each.status_code for each in answers] == [404, 404, 400, 400, 400, 400, 400, 400, 404, 400]
    assert admin.get(zones).json()["items"] == admin.get(endpoints).json()["items"] == []


def test_a_pools_thresholds_are_set_when_it_is_made_and_later(logged_in: Served, run: Run) -> None:
    assert run("pool", "add", "pods", "10.1.0.0/16", "--warning", "50", "--critical", "60")[0] == 0
    assert run("pool", "change", "pods", "--critical", "70")[0] == 0

    shown = json.loads(run("pool", "show", "pods", "-o", "json")[1])
    refused = run("pool", "change", "pods", "--warning", "70")

    assert (shown["warning"], shown["critical"]) == (50, 70)
    assert refused[0] != 0
    assert "less than the critical threshold, 70" in refused[2]
