"""Other people's Redfish clients, as they are: log in, walk, read a pool and a port, change, subscribe, log out."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.conformance import runner, tree
from tests.conformance.venv import programs
from tests.support.serve_process import ServeProcess

pytestmark = pytest.mark.redfish_clients

POOL = "/redfish/v1/Fabrics/ethernet/AddressPools/direct"
SUBSCRIPTIONS = "/redfish/v1/EventService/Subscriptions"
NOWHERE = "https://127.0.0.1:9/events"


@pytest.fixture(scope="module")
def served() -> Iterator[ServeProcess]:
    with tree.manager() as manager:
        yield manager


@pytest.fixture
def watching(served: ServeProcess) -> Iterator[httpx2.Client]:
    """Sees what a client has done."""
    with served.client() as client:
        yield client


def changing(seconds: float) -> dict[str, Any]:
    return {"Oem": {"FabricMgr": {"CooldownSeconds": seconds}}}


def cooldown(client: httpx2.Client) -> float:
    return float(client.get(POOL).json()["Oem"]["FabricMgr"]["CooldownSeconds"])


def tool(served: ServeProcess, *words: str, stdin: str = "") -> str:
    """What a program of the tools' environment prints; it must succeed."""
    target = tree.target(served)
    command = [str(programs() / "python"), *words]
    done = subprocess.run(
        command, input=stdin, text=True, capture_output=True, env=runner.environment(target.authorities), timeout=120, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


def library(served: ServeProcess, name: str, seconds: float) -> dict[str, Any]:
    """What a Python client saw."""
    target = tree.target(served)
    job = {
        "url": target.url,
        "user": target.user,
        "password": target.password,
        "authorities": str(target.authorities),
        "pool": POOL,
        "port": tree.PORT,
        "change": changing(seconds),
        "subscriptions": SUBSCRIPTIONS,
        "subscription": {"Destination": NOWHERE, "Protocol": "Redfish", "Context": name},
    }
    seen: dict[str, Any] = json.loads(tool(served, "-m", "tests.conformance.clients", name, stdin=json.dumps(job)))
    return seen


def redfishtool(served: ServeProcess, *words: str) -> Any:
    """DMTF's redfishtool, with a session that it opens and closes."""
    target = tree.target(served)
    options = ("-r", target.url.removeprefix("https://"), "-u", target.user, "-p", target.password, "-A", "Session", "-S", "Always")
    said = tool(served, str(programs() / "redfishtool"), *options, *words)
    return json.loads(said) if said.strip() else None


def utility(served: ServeProcess, program: str, *words: str) -> str:
    """One of DMTF's redfish-utilities."""
    target = tree.target(served)
    return tool(served, str(programs() / program), "-r", target.url, "-u", target.user, "-p", target.password, *words)


def sessions(client: httpx2.Client) -> int:
    return int(client.get("/redfish/v1/SessionService/Sessions").json()["Members@odata.count"])


def subscriptions(client: httpx2.Client) -> int:
    return int(client.get(SUBSCRIPTIONS).json()["Members@odata.count"])


def test_the_redfish_library_walks_the_whole_tree_and_leaves_no_session(served: ServeProcess, watching: httpx2.Client) -> None:
    before = sessions(watching)

    seen = library(served, "redfish", 41)

    assert seen["unanswered"] == {}
    assert seen["pages"] > 100
    assert seen["session"].startswith("/redfish/v1/SessionService/Sessions/")
    assert sessions(watching) == before


def test_the_redfish_library_reads_changes_and_subscribes(served: ServeProcess, watching: httpx2.Client) -> None:
    seen = library(served, "redfish", 42)

    assert seen["pool"]["Id"] == "direct"
    assert (seen["port"]["Id"], seen["port"]["LinkStatus"]) == ("Ethernet1-1", "LinkUp")
    assert (seen["changed"], cooldown(watching)) == (200, 42)
    assert seen["stale"] == 412
    assert (seen["subscribed"], seen["removed"]) == (201, 204)


def test_sushy_reads_what_it_has_classes_for(served: ServeProcess, watching: httpx2.Client) -> None:
    before, known = sessions(watching), subscriptions(watching)

    seen = library(served, "sushy", 43)

    assert seen["product"].startswith("fabricmgr ")
    assert seen["features"] is True
    assert seen["fabric"] == "ethernet"
    assert seen["systems"] == list(tree.NODES)
    assert set(tree.NODES) <= set(seen["chassis"])
    assert len(seen["managers"]) == 1
    assert seen["endpoints"] >= 2
    assert seen["port"]["LinkStatus"] == "LinkUp"
    assert (seen["changed"], cooldown(watching)) == (200, 43)
    assert seen["context"] == "sushy"
    assert subscriptions(watching) == known
    assert sessions(watching) == before


def test_redfishtool_reads_and_changes_a_pool(served: ServeProcess, watching: httpx2.Client) -> None:
    before = sessions(watching)

    assert redfishtool(served, "root")["UUID"]
    assert redfishtool(served, "Systems")["Members@odata.count"] == len(tree.NODES)
    assert redfishtool(served, "raw", "GET", tree.PORT)["LinkState"] == "Enabled"
    redfishtool(served, "-d", json.dumps(changing(44)), "raw", "PATCH", POOL)

    assert cooldown(watching) == 44
    assert sessions(watching) == before


def test_redfishtool_subscribes_and_takes_it_back(served: ServeProcess, watching: httpx2.Client) -> None:
    wanted = {"Destination": NOWHERE, "Protocol": "Redfish", "Context": "redfishtool"}

    made = redfishtool(served, "-d", json.dumps(wanted), "raw", "POST", SUBSCRIPTIONS)

    assert watching.get(made["@odata.id"]).json()["Context"] == "redfishtool"
    redfishtool(served, "raw", "DELETE", made["@odata.id"])
    assert watching.get(made["@odata.id"]).status_code == 404


def test_the_utilities_manage_accounts_that_can_then_log_in(served: ServeProcess, watching: httpx2.Client) -> None:
    utility(served, "rf_accounts.py", "--add", "joan", "a good password 1", "ReadOnly")
    utility(served, "rf_accounts.py", "--setpassword", "joan", "a better password 2")

    assert "joan" in utility(served, "rf_accounts.py")
    with served.client("a better password 2", "joan") as joan:
        assert joan.get(POOL).status_code == 200

    utility(served, "rf_accounts.py", "--delete", "joan")
    assert watching.get("/redfish/v1/AccountService/Accounts/joan").status_code == 404


def test_the_utilities_subscribe_and_take_it_back(served: ServeProcess, watching: httpx2.Client) -> None:
    said = utility(served, "rf_event_service.py", "subscribe", "--destination", NOWHERE, "--context", "utilities", "--registries", "Fabric")

    uri = said.split("'")[1]
    assert watching.get(uri).json()["RegistryPrefixes"] == ["Fabric"]
    utility(served, "rf_event_service.py", "unsubscribe", "--id", uri.rpartition("/")[2])
    assert watching.get(uri).status_code == 404


def test_the_utilities_change_a_pool_and_show_inventory_manager_logs_and_certificates(
    served: ServeProcess, watching: httpx2.Client
) -> None:
    utility(served, "rf_raw_request.py", "--method", "PATCH", "--request", POOL, "--body", json.dumps(changing(45)))

    assert cooldown(watching) == 45
    assert "'n1' Inventory" in utility(served, "rf_sys_inventory.py")
    assert "Manager" in utility(served, "rf_manager_config.py", "info")
    assert "PATCH" in utility(served, "rf_logs.py", "--log", "Audit")
    assert "Subject" in utility(served, "rf_certificates.py", "info")
