"""Login by client certificate, set up by command line."""

import json
from pathlib import Path

from tests.integration.test_cli import Run, logged_in, run, served
from tests.support.client_issuer import Issuer
from tests.support.manager import PASSWORD, Served

__all__ = ["logged_in", "run", "served"]  # fixtures


def test_an_account_is_given_a_certificate_and_comes_in_by_it_until_it_is_removed(logged_in: Served, run: Run, tmp_path: Path) -> None:
    own = Issuer("itself").issue("ada")
    (tmp_path / "own.crt").write_text(own.pem)
    logged_in.tls.load_verify_locations(cadata=own.pem)
    client = logged_in.client(certificate=own.file(tmp_path / "own.pem"))

    before = client.get("/v1/pools").status_code
    assert run("account", "client-login", "--enable")[:2] == (0, "login by client certificate is on, accounts are named by CommonName\n")
    code, out, _ = run("account", "certificate", "add", "operator", str(tmp_path / "own.crt"))
    assert (code, out) == (0, f"account operator logs in by certificate {own.fingerprint}\n")
    (listed,) = json.loads(run("account", "certificate", "list", "operator", "-o", "json")[1])
    during = (client.get("/v1/pools").status_code, client.get("/v1/accounts/operator/certificates").status_code)
    assert run("account", "certificate", "remove", "operator", own.fingerprint)[0] == 0

    assert (before, during, client.post("/v1/pools", json={}).status_code) == (401, (200, 403), 401)
    assert (listed["account"], listed["subject"], listed["fingerprint"]) == ("operator", "CN=ada", own.fingerprint)
    assert json.loads(run("account", "certificate", "list", "operator", "-o", "json")[1]) == []
    assert run("account", "certificate", "remove", "operator", own.fingerprint)[0] == 1


def test_a_ca_is_trusted_to_name_accounts(logged_in: Served, run: Run, tmp_path: Path) -> None:
    company = Issuer("The Company")
    (tmp_path / "ca.crt").write_text(company.pem)

    assert run("account", "authority", "add", str(tmp_path / "ca.crt"))[0] == 0
    (listed,) = json.loads(run("account", "authority", "list", "-o", "json")[1])
    assert run("account", "client-login", "--mapping", "UserPrincipalName")[0] == 0
    shown = json.loads(run("account", "client-login", "-o", "json")[1])
    assert run("account", "authority", "remove", listed["fingerprint"])[0] == 0

    assert (listed["account"], listed["issuer"], listed["certificate"]) == (None, "CN=The Company", company.pem)
    assert (shown["enabled"], shown["mapping"]) == (False, "UserPrincipalName")
    assert json.loads(run("account", "authority", "list", "-o", "json")[1]) == []


def test_the_lockout_is_said_for_all_managers(logged_in: Served, run: Run) -> None:
    assert json.loads(run("account", "lockout", "-o", "json")[1])["lockout_attempts"] is None

    assert run("account", "lockout", "--attempts", "1", "--seconds", "60")[0] == 0
    refused = run("account", "lockout", "--attempts", "1001")
    client = logged_in.client()
    answers = [client.get("/v1/pools", auth=("reader", word)) for word in ("wrong", PASSWORD)]

    assert (refused[0], "0 to 1000" in refused[2]) == (1, True)
    assert [each.status_code for each in answers] == [401, 401]
    assert answers[1].json()["error"]["code"] == "LockedOut"


def test_a_key_never_leaves_the_machine_and_what_is_wrong_is_said(logged_in: Served, run: Run, tmp_path: Path) -> None:
    both = Issuer("itself").issue("ada").file(tmp_path / "both.pem")
    (tmp_path / "nonsense").write_text("nonsense")
    (tmp_path / "ours").write_text(logged_in.authorities)

    assert run("account", "certificate", "add", "operator", str(both))[0] == 2
    assert run("account", "certificate", "add", "operator", str(tmp_path / "missing"))[0] == 2
    assert run("account", "certificate", "add", "operator", str(tmp_path / "nonsense"))[0] == 1
    assert run("account", "authority", "add", str(tmp_path / "ours"))[0] == 1
    assert "CommonName" in run("account", "client-login", "--mapping", "Surname")[2]
