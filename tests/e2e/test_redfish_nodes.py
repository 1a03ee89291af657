"""Nothing of Redfish but what is open to all: for a node's certificate, an ended session's token, a disabled account. Over real TLS."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from fabricmgr.agent import keys
from tests.e2e.test_serve_tls import added, enrolled
from tests.integration.test_redfish import links_in
from tests.support.serve_process import ServeProcess, managers

ROOT = "/redfish/v1/"
OPEN = {ROOT, "/redfish", "/redfish/v1/odata", "/redfish/v1/$metadata"}
ACCOUNTS = "/redfish/v1/AccountService/Accounts"
SESSIONS = "/redfish/v1/SessionService/Sessions"
MOST = 60  # pages of one walk


@pytest.fixture(scope="module")
def manager() -> Iterator[ServeProcess]:
    with managers() as made:
        yield made.start(made.folder / "data").ready()


@pytest.fixture(scope="module")
def uris(manager: ServeProcess) -> list[str]:
    """What can be reached from the root, of each collection the first member."""
    seen: list[str] = []
    waiting = [ROOT]
    with manager.client() as client:
        while waiting and len(seen) < MOST:
            uri = waiting.pop(0)
            if uri not in seen:
                seen.append(uri)
                page = client.get(uri).json()
                waiting += links_in({**page, "Members": page.get("Members", [])[:1]})
    assert len(seen) > 20
    return [*seen, *sorted(OPEN - {ROOT})]


def ask(
    manager: ServeProcess,
    uris: list[str],
    *,
    verify: ssl.SSLContext | None = None,
    token: str = "",
    auth: tuple[str, str] | None = None,
) -> dict[str, int]:
    headers = {"X-Auth-Token": token} if token else {}
    with httpx2.Client(base_url=manager.url, trust_env=False, verify=verify or manager.tls(), headers=headers, auth=auth) as client:
        return {uri: client.get(uri).status_code for uri in uris}


def test_a_node_reaches_nothing_of_redfish_but_what_is_open(manager: ServeProcess, uris: list[str], tmp_path: Path) -> None:
    token = added(manager, "n1")
    key = keys.make(token)
    (tmp_path / "node.pem").write_text(enrolled(manager, token, key).certificate + key.private_key)
    context = manager.tls()
    context.load_cert_chain(tmp_path / "node.pem")

    found = ask(manager, uris, verify=context)

    assert found == {uri: 200 if uri in OPEN else 403 for uri in uris}
    with httpx2.Client(base_url=manager.url, verify=context, trust_env=False) as node:
        for method, uri in (("POST", ACCOUNTS), ("PATCH", f"{ACCOUNTS}/admin"), ("DELETE", f"{ACCOUNTS}/admin")):
            assert node.request(method, uri, json={"Password": "taken over"}).status_code == 403


def test_the_token_of_an_ended_session_reaches_nothing_that_is_not_open(manager: ServeProcess, uris: list[str]) -> None:
    with manager.client() as client:
        login = client.post(SESSIONS, json={"UserName": "admin", "Password": manager.password})
        assert client.delete(login.headers["location"]).status_code == 204

    found = ask(manager, uris, token=login.headers["x-auth-token"])

    assert found == {uri: 200 if uri in OPEN else 401 for uri in uris}


def test_a_disabled_account_reaches_nothing_that_is_not_open(manager: ServeProcess, uris: list[str]) -> None:
    with manager.client() as client:
        body = {"UserName": "ada", "Password": "a longer secret", "RoleId": "Administrator"}
        assert client.post(ACCOUNTS, json=body).status_code == 201
        login = client.post(SESSIONS, json={"UserName": "ada", "Password": "a longer secret"})
        assert client.patch(f"{ACCOUNTS}/ada", json={"Enabled": False}).status_code == 200

    by_password = ask(manager, uris, auth=("ada", "a longer secret"))
    by_token = ask(manager, uris, token=login.headers["x-auth-token"])

    assert by_password == by_token == {uri: 200 if uri in OPEN else 401 for uri in uris}
