"""The command line against a real manager: what people read, what programs read, and one line when it goes wrong."""

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fabricmgr.__main__ import main
from fabricmgr.cli import login
from tests.support.manager import PASSWORD, Served, serving

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def served(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("FABRICMGR_LOGIN", str(tmp_path / "login" / "login.json"))
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    with serving(database_url, tmp_path) as found:
        (tmp_path / "ca.pem").write_text(found.authorities)
        yield found


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(list(arguments))
        said = capfd.readouterr()
        return code, said.out, said.err

    return command


@pytest.fixture
def logged_in(served: Served, run: Run, tmp_path: Path) -> Served:
    assert log_in(served, run, tmp_path, "--ca", str(tmp_path / "ca.pem"))[0] == 0
    return served


def log_in(served: Served, run: Run, folder: Path, *more: str, account: str = "admin") -> tuple[int, str, str]:
    return run("login", served.url, "--account", account, "--password-file", str(folder / "password"), *more)


def test_a_login_is_kept_for_its_user_alone_and_logout_forgets_it(served: Served, run: Run, tmp_path: Path) -> None:
    code, out, _ = log_in(served, run, tmp_path, "--ca", str(tmp_path / "ca.pem"))

    assert (code, out) == (0, f"logged in to {served.url} as admin (Administrator)\n")
    assert stat.S_IMODE(login.path().stat().st_mode) == 0o600
    assert PASSWORD not in login.path().read_text()
    assert run("logout")[0] == 0
    assert run("pool", "list")[0] == 4


def test_a_fingerprint_decides_whether_a_manager_is_trusted(served: Served, run: Run, tmp_path: Path) -> None:
    right = login.fingerprints(served.authorities)[0]

    assert log_in(served, run, tmp_path, "--fingerprint", right.upper())[0] == 0
    code, _, err = log_in(served, run, tmp_path, "--fingerprint", "00" * 32)
    assert code == 2
    assert right in err
    assert "another manager" in err


def test_a_wrong_password_is_one_line_without_the_password(served: Served, run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("guessed-and-wrong\n")

    code, out, err = log_in(served, run, tmp_path, "--ca", str(tmp_path / "ca.pem"))

    assert (code, out) == (4, "")
    assert err.startswith("fabricmgr: not authenticated: ")
    assert err.count("\n") == 1
    assert "guessed" not in err


def test_a_pool_is_made_grown_reserved_shown_and_removed(logged_in: Served, run: Run) -> None:
    assert run("pool", "add", "pods", "10.1.0.0/16", "fd00:1::/64", "--reserve", "10.1.0.0/28=printers", "--cooldown", "30")[0] == 0
    assert run("pool", "grow", "pods", "10.2.0.0/24")[0] == 0
    assert run("pool", "reserve", "pods", "10.2.0.128/25", "--reason", "later")[0] == 0
    assert run("pool", "change", "pods", "--cooldown", "45")[0] == 0
    shown = json.loads(run("pool", "show", "pods", "-o", "json")[1])
    usage = json.loads(run("pool", "usage", "-o", "json")[1])
    assert run("pool", "unreserve", "pods", "10.2.0.128/25")[0] == 0
    assert run("pool", "shrink", "pods", "10.2.0.0/24")[0] == 0
    assert run("pool", "delete", "pods")[0] == 0

    assert [each["prefix"] for each in shown["prefixes"]] == ["10.1.0.0/16", "fd00:1::/64", "10.2.0.0/24"]
    assert shown["cooldown_seconds"] == 45
    six = next(each for each in usage if each["family"] in (6, "IPv6"))
    assert int(six["total"]) == 2**64
    assert json.loads(run("pool", "list", "-o", "json")[1]) == []


def test_an_owner_asks_twice_and_has_one_address_and_its_history(logged_in: Served, run: Run) -> None:
    """F020."""
    run("pool", "add", "hosts", "192.0.2.0/24", "--purpose", "Node")

    preview = run("allocation", "allocate", "hosts", "web1", "--dry-run")
    first = run("allocation", "allocate", "hosts", "web1")
    again = run("allocation", "allocate", "hosts", "web1")
    asked = run("allocation", "allocate", "hosts", "web2", "--address", "192.0.2.77")
    taken = run("allocation", "allocate", "hosts", "web3", "--address", "192.0.2.77")
    listed = json.loads(run("allocation", "list", "--pool", "hosts", "-o", "json")[1])
    assert run("allocation", "release", "hosts", "web2")[0] == 0
    had = json.loads(run("who-had", "192.0.2.77", "-o", "json")[1])
    nobody = run("who-had", "192.0.2.200")

    assert preview == first == again == (0, "192.0.2.1\n", "")
    assert asked[1] == "192.0.2.77\n"
    assert (taken[0], taken[2]) == (1, "fabricmgr: address 192.0.2.77 is held by web2\n")
    assert len(listed) == 2
    assert (had[0]["owner"], had[0]["until_at"] is not None) == ("web2 (pool hosts)", True)
    assert (nobody[0], nobody[2]) == (1, "fabricmgr: nobody had 192.0.2.200\n")


def test_clusters_networks_nodes_and_events_have_their_verbs(logged_in: Served, run: Run) -> None:
    run("cluster", "add", "east")
    run("pool", "add", "pods", "10.1.0.0/16")
    made = run("network", "add", "podnet", "--pool", "pods", "--cluster", "east", "--mtu", "1450", "--masquerade")
    run("network", "change", "podnet", "--cluster", "east", "--mtu", "9000")
    network = json.loads(run("network", "show", "podnet", "--cluster", "east", "-o", "json")[1])
    token = json.loads(run("node", "add", "n1", "--cluster", "east", "-o", "json")[1])["token"]
    in_use = run("pool", "delete", "pods")
    nodes = json.loads(run("node", "list", "--cluster", "east", "-o", "json")[1])
    assert run("node", "delete", "n1", "--cluster", "east")[0] == 0
    assert run("network", "delete", "podnet", "--cluster", "east")[0] == 0
    assert run("cluster", "delete", "east")[0] == 0

    assert made == (0, "network podnet added to cluster east\n", "")
    assert (network["mtu"], network["masquerade"], network["pools"]) == (9000, True, ["pods"])
    assert token.startswith("fm1.")
    assert in_use[0] == 1
    assert "podnet" in in_use[2]
    assert [each["name"] for each in nodes] == ["n1"]


def test_events_are_listed_by_position(logged_in: Served, run: Run) -> None:
    run("pool", "add", "pods", "10.1.0.0/16")
    events: list[dict[str, Any]] = []
    for _ in range(100):  # positions are given behind the change
        events = json.loads(run("event", "list", "-o", "json")[1])
        if any(each["what"] == "PoolCreated" for each in events):
            break

    positions = [each["position"] for each in events]
    assert positions == list(range(1, len(positions) + 1))
    assert next(each for each in events if each["what"] == "PoolCreated")["about"]["pool"] == "pods"


def test_accounts_are_made_changed_and_removed(logged_in: Served, run: Run, tmp_path: Path) -> None:
    assert run("account", "add", "anna", "--role", "Operator", "--password-file", str(tmp_path / "password"))[0] == 0
    assert run("account", "change", "anna", "--role", "ReadOnly", "--disable")[0] == 0
    anna = json.loads(run("account", "show", "anna", "-o", "json")[1])
    last = run("account", "delete", "admin")
    assert run("account", "delete", "anna")[0] == 0

    assert (anna["role"], anna["enabled"]) == ("ReadOnly", False)
    assert last[0] == 1
    assert "nobody else could administer" in last[2]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("pool", "add", "p", "10.0.0.1/24"), 1, "10.0.0.0/24 was probably meant"),
        (("pool", "add", "p", "10.0.0.0/24", "--block-length", "20"), 1, "block_length"),
        (("pool", "add", "p", "10.0.0.0/24", "--reserve", "10.9.0.0/28"), 1, "10.9.0.0"),
        (("pool", "add", "Nice Pool", "10.0.0.0/24"), 1, "lower-case"),
        (("pool", "add", "p", "10.0.0.0/24", "--purpose", "Pods"), 1, "Pod, Service"),
        (("pool", "show", "none"), 1, "there is no pool 'none'"),
        (("pool", "shrink", "none", "10.0.0.0"), 2, "expected a CIDR"),
        (("network", "add", "n", "--pool", "none"), 1, "there is no pool 'none'"),
        (("node", "gone", "none", "--yes"), 1, "there is no node 'default/none'"),
        (("who-had", "10.0.0.5%eth0"), 1, "address"),
        (("pool", "lits"), 2, "Did you mean 'list'"),
        (("alocation", "list"), 2, "Did you mean 'allocation'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(logged_in: Served, run: Run, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    got, out, err = run(*arguments)

    assert (got, out) == (code, "")
    assert sentence in err
    assert err.startswith("fabricmgr: ")
    assert err.count("\n") == 1


def test_a_manager_that_is_away_has_an_exit_code_of_its_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x\n")

    code, _, err = run("login", "https://127.0.0.1:1", "--password-file", str(tmp_path / "password"))

    assert code == 3
    assert "cannot be reached" in err


def test_a_role_of_ones_own_is_made_given_changed_and_removed(logged_in: Served, run: Run, tmp_path: Path) -> None:
    added = run("role", "add", "Auditor", "Login")
    account = run("account", "add", "ada", "--role", "Auditor", "--password-file", str(tmp_path / "password"))
    in_use = run("role", "delete", "Auditor")
    changed = run("role", "change", "Auditor", "Login", "ConfigureComponents")
    listed = run("role", "list")
    fixed = run("role", "change", "Operator", "Login")
    assert run("account", "delete", "ada")[0] == 0
    removed = run("role", "delete", "Auditor")

    assert added == (0, "role Auditor added with Login\n", "")
    assert account[0] == changed[0] == removed[0] == 0
    assert in_use[0] != 0
    assert "1 account has it" in in_use[2]
    assert "Auditor" in listed[1]
    assert "Administrator" in listed[1]
    assert fixed[0] != 0
    assert "never changes" in fixed[2]


def test_an_account_that_was_locked_out_is_unlocked(logged_in: Served, run: Run, tmp_path: Path) -> None:
    assert run("account", "add", "ada", "--password-file", str(tmp_path / "password"))[0] == 0
    client = logged_in.client()
    for number in range(6):
        refused = client.post("/v1/sessions", json={"account": "ada", "password": f"wrong {number}"})
        assert refused.status_code == 401
    right = {"account": "ada", "password": PASSWORD}
    assert client.post("/v1/sessions", json=right).status_code == 401

    assert run("account", "unlock", "ada") == (0, "account ada unlocked\n", "")

    assert client.post("/v1/sessions", json=right).status_code == 201
