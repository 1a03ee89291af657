"""Tasks with real processes: what was accepted is done, once, whoever is killed."""

import time

import httpx2

from tests.support.serve_process import managers

POOLS = "/redfish/v1/Fabrics/ethernet/AddressPools"
COUNT = 40


def ended(client: httpx2.Client, monitor: str, limit: float = 60.0) -> int:
    """The status a task's monitor answers with once it is no longer 202."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        status = client.get(monitor).status_code
        if status != 202:
            return status
        time.sleep(0.1)
    raise AssertionError(f"{monitor} did not end within {limit} s")


def test_accepted_tasks_are_done_once_though_the_manager_is_killed() -> None:
    with managers() as made:
        first = made.start(made.folder / "data").ready()
        with first.client() as client:
            client.post("/v1/pools", json={"name": "p", "prefixes": [{"prefix": "10.0.0.0/24", "central": True}]}).raise_for_status()
            monitors = []
            for number in range(COUNT):
                body = {"Prefix": f"10.1.{number}.0/24", "Central": True}
                action = f"{POOLS}/p/Actions/Oem/FabricMgrAddressPool.Expand"
                answer = client.post(action, json=body, headers={"Prefer": "respond-async"})
                assert answer.status_code == 202, answer.text
                monitors.append(answer.headers["location"])
        first.kill()

        second = made.start(made.folder / "data").ready()
        with second.client() as client:
            statuses = [ended(client, each) for each in monitors]
            prefixes = [each["prefix"] for each in client.get("/v1/pools/p").json()["prefixes"]]
            events = [each["what"] for each in client.get("/v1/events", params={"limit": 1000}).json()["items"]]

    assert statuses == [204] * COUNT
    assert sorted(prefixes) == sorted(["10.0.0.0/24", *(f"10.1.{number}.0/24" for number in range(COUNT))])
    assert [events.count(what) for what in ("TaskCreated", "TaskCompleted", "PrefixAdded")] == [COUNT] * 3
