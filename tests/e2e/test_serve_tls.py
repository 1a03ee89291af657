"""Certificates through the real command: a node's own, one of a stranger's CA, and the site's for the server."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import msgspec
import pytest
from cryptography import x509

from fabricmgr.agent import keys
from fabricmgr.services import certificates
from fabricmgr.services.certificates import Authority
from fabricmgr.wire import Enrol, Enrolled
from tests.support.enrol import request
from tests.support.serve_process import ServeProcess, managers

DESIRED = "/v1/nodes/self/desired?life=00000000-0000-0000-0000-000000000001"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def manager() -> Iterator[ServeProcess]:
    with managers() as made:
        yield made.start(made.folder / "data").ready()


def stranger() -> Authority:
    certificate, key = certificates.new_authority("a stranger's CA", NOW)
    return Authority(certificates.load_key(key), x509.load_pem_x509_certificate(certificate.encode()))


def added(manager: ServeProcess, node: str) -> str:
    """The token of a new node."""
    with manager.client() as client:
        answer = client.post("/v1/clusters/default/nodes", json={"name": node})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])


def enrolled(manager: ServeProcess, token: str, key: keys.NewKey) -> Enrolled:
    asked: Enrol = request(token, key=key, now=datetime.now(UTC))
    answer = httpx2.post(
        f"{manager.url}/v1/enrol",
        content=msgspec.json.encode(asked),
        headers={"content-type": "application/json"},
        verify=manager.tls(),
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Enrolled)


def ask_as(manager: ServeProcess, certificate: str, key: str, folder: Path) -> httpx2.Response:
    """One request with a client certificate."""
    both = folder / "node.pem"
    both.write_text(certificate + key)
    context = manager.tls()
    context.load_cert_chain(both)
    with httpx2.Client(verify=context, trust_env=False) as client:
        return client.get(manager.url + DESIRED)


def test_a_node_is_known_by_its_certificate(manager: ServeProcess, tmp_path: Path) -> None:
    token = added(manager, "n1")
    key = keys.make(token)

    answer = ask_as(manager, enrolled(manager, token, key).certificate, key.private_key, tmp_path)

    # Its life has not said hello, and that is all that is missing: who it is was believed.
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "HelloRequired")


def test_a_revoked_certificate_is_nobodys(manager: ServeProcess, tmp_path: Path) -> None:
    token = added(manager, "n2")
    key = keys.make(token)
    certificate = enrolled(manager, token, key).certificate
    with manager.client() as client:
        assert client.post("/v1/clusters/default/nodes/n2/revoke").status_code == 200

    assert ask_as(manager, certificate, key.private_key, tmp_path).status_code == 401


def test_a_certificate_of_another_ca_gets_no_connection(manager: ServeProcess, tmp_path: Path) -> None:
    theirs = stranger()
    key = keys.make("x")
    certificate = certificates.pem(theirs.issue_node("default", "n1", certificates.parse_public_key(key.public_key), NOW))

    with pytest.raises(httpx2.HTTPError):
        ask_as(manager, certificate, key.private_key, tmp_path)


def test_the_sites_certificate_is_served_and_nodes_still_come_by_ours(tmp_path: Path) -> None:
    site = stranger()
    certificate, key = site.issue_server(["localhost", "127.0.0.1"], NOW)
    for name, text in (("site.pem", certificate), ("site.key", key), ("site-ca.pem", site.authorities())):
        (tmp_path / name).write_text(text)
    with managers() as made:
        options = ("--tls-certificate", str(tmp_path / "site.pem"), "--tls-key", str(tmp_path / "site.key"))
        running = made.start(made.folder / "data", *options).ready()

        context = ssl.create_default_context(cafile=str(tmp_path / "site-ca.pem"))
        served = httpx2.get(f"{running.url}/readyz", verify=context, trust_env=False)

        with pytest.raises(httpx2.HTTPError):
            httpx2.get(f"{running.url}/readyz", verify=running.tls(), trust_env=False)
    assert served.status_code == 200


def test_a_sites_certificate_with_anothers_key_is_refused_at_once(tmp_path: Path) -> None:
    site = stranger()
    (tmp_path / "site.pem").write_text(site.issue_server(["a"], NOW)[0])
    (tmp_path / "site.key").write_text(site.issue_server(["b"], NOW)[1])

    with managers() as made:
        options = ("--tls-certificate", str(tmp_path / "site.pem"), "--tls-key", str(tmp_path / "site.key"))
        refused = made.start(made.folder / "data", *options)

        assert refused.process.wait(20) == 2
        assert len(refused.said()) == 1
        assert refused.said()[0].startswith(f"tls_certificate {tmp_path / 'site.pem'} with tls_key {tmp_path / 'site.key'}: ")
