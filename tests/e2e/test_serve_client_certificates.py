"""Accounts that log in by client certificate, through the real command: two web workers, curl, and what changes while they serve."""

import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509

from fabricmgr.agent import keys
from fabricmgr.services.server_certificate import key_text
from tests.e2e.test_serve_tls import added, ask_as, enrolled
from tests.support.client_issuer import DAY, Client, Issuer
from tests.support.serve_process import ServeProcess, managers

ACCOUNT_SERVICE = "/redfish/v1/AccountService"
TRUSTED = f"{ACCOUNT_SERVICE}/MultiFactorAuth/ClientCertificate/Certificates"
WORKERS = 2
TRIES = 8  # connections in a row: all but one time in a hundred they have met both workers


@pytest.fixture(scope="module")
def manager() -> Iterator[ServeProcess]:
    with managers() as made:
        yield made.start(made.folder / "data", "--web-workers", str(WORKERS)).ready()


@pytest.fixture(scope="module")
def admin(manager: ServeProcess) -> Iterator[httpx2.Client]:
    with manager.client() as client:
        enabled = {"MultiFactorAuth": {"ClientCertificate": {"Enabled": True, "CertificateMappingAttribute": "CommonName"}}}
        assert client.patch(ACCOUNT_SERVICE, json=enabled).status_code == 200
        made = client.post(f"{ACCOUNT_SERVICE}/Accounts", json={"UserName": "carla", "Password": "correct horse", "RoleId": "Operator"})
        assert made.status_code == 201, made.text
        yield client


def pem_of(given: Client) -> dict[str, str]:
    return {"CertificateString": given.pem, "CertificateType": "PEM"}


def curl(manager: ServeProcess, file: Path, path: str) -> str:
    """The status by a new connection; "000" where the handshake was broken off."""
    asked = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--noproxy", "*", "--cert", str(file)]
    command = [*asked, "--cacert", str(manager.data_dir / "ca.pem"), manager.url + path]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout


def until(manager: ServeProcess, file: Path, wanted: str, path: str = f"{ACCOUNT_SERVICE}/Roles") -> None:
    """Until every worker answers so."""
    found: list[str] = []
    for _ in range(60):
        found = [curl(manager, file, path) for _ in range(TRIES)]
        if found == [wanted] * TRIES:
            return
        time.sleep(0.1)
    raise AssertionError(f"{found}, not {wanted}")


def test_a_trusted_ca_lets_accounts_in_by_name_at_every_worker_and_ends_at_once(
    manager: ServeProcess, admin: httpx2.Client, tmp_path: Path
) -> None:
    """Nobody is cut off meanwhile: the connection that was there before is there afterwards, and what it may do has changed."""
    company = Issuer("The Company")
    given = company.issue("carla")
    fingerprint, carla = given.fingerprint, given.file(tmp_path / "carla.pem")
    nobody = company.issue("nobody").file(tmp_path / "nobody.pem")
    before = curl(manager, carla, "/readyz")

    trusted = admin.post(TRUSTED, json={"CertificateString": company.pem, "CertificateType": "PEM"})

    assert trusted.status_code == 201, trusted.text
    until(manager, carla, "200")
    until(manager, nobody, "401")
    assert before == "000"  # a CA that nobody knows
    context = manager.tls()
    context.load_cert_chain(carla)
    with httpx2.Client(base_url=manager.url, verify=context, trust_env=False) as client:
        assert client.post("/v1/pools", json={"name": "p", "prefixes": [{"prefix": "10.99.0.0/16"}]}).status_code == 201
        assert client.get(f"{ACCOUNT_SERVICE}/Accounts").status_code == 200
        assert client.post(f"{ACCOUNT_SERVICE}/Accounts", json={}).status_code == 403
        port = port_of(client)

        assert admin.delete(trusted.headers["location"]).status_code == 204

        assert client.delete("/v1/pools/p").status_code == 401
        until(manager, carla, "000")
        assert port_of(client) == port
    assert f"carla by certificate {fingerprint} from 127.0.0.1: POST /v1/pools was answered with 201" in audited(admin, "carla")
    assert admin.delete("/v1/pools/p").status_code == 204


def audited(admin: httpx2.Client, name: str) -> str:
    """What the audit log says of an account."""
    logs = admin.get("/redfish/v1/Managers").json()["Members"][0]["@odata.id"] + "/LogServices/Audit/Entries"
    page = admin.get(f"{logs}?$filter=Username eq '{name}'&$expand=.").json()
    return "\n".join(each["Message"] for each in page["Members"])


def port_of(client: httpx2.Client) -> int:
    """The port that the client's one connection leaves from."""
    with client.stream("GET", "/readyz") as answer:
        answer.read()
        return int(answer.extensions["network_stream"].get_extra_info("client_addr")[1])


def test_a_certificate_kept_for_an_account_lets_it_in_until_it_is_removed_or_the_account_disabled(
    manager: ServeProcess, admin: httpx2.Client, tmp_path: Path
) -> None:
    own = Issuer("carla's own").issue("whatever it says")
    file, uri = own.file(tmp_path / "own.pem"), f"{ACCOUNT_SERVICE}/Accounts/carla"

    added_one = admin.post(f"{uri}/Certificates", json=pem_of(own))
    assert added_one.status_code == 201, added_one.text
    until(manager, file, "200")
    assert admin.patch(uri, json={"Enabled": False}).status_code == 200
    until(manager, file, "401")
    assert admin.patch(uri, json={"Enabled": True}).status_code == 200
    until(manager, file, "200")
    off = {"MultiFactorAuth": {"ClientCertificate": {"Enabled": False}}}
    assert admin.patch(ACCOUNT_SERVICE, json=off).status_code == 200
    until(manager, file, "401")
    off["MultiFactorAuth"]["ClientCertificate"]["Enabled"] = True
    assert admin.patch(ACCOUNT_SERVICE, json=off).status_code == 200
    until(manager, file, "200")
    assert admin.delete(added_one.headers["location"]).status_code == 204

    until(manager, file, "000")


def test_a_certificate_that_has_ended_is_told_so_in_an_answer(manager: ServeProcess, admin: httpx2.Client, tmp_path: Path) -> None:
    company = Issuer("A Company of Before")
    ended = company.issue("carla", begins=-DAY, ends=-timedelta(hours=1)).file(tmp_path / "ended.pem")
    early = company.issue("carla", begins=DAY).file(tmp_path / "early.pem")
    assert admin.post(TRUSTED, json={"CertificateString": company.pem, "CertificateType": "PEM"}).status_code == 201

    until(manager, ended, "401")
    until(manager, early, "401")

    context = manager.tls()
    context.load_cert_chain(ended)
    with httpx2.Client(base_url=manager.url, verify=context, trust_env=False) as client:
        assert "the certificate ended at" in client.get("/v1/pools").text


def test_a_foreign_ca_that_copies_a_nodes_serial_and_name_gets_nowhere(manager: ServeProcess, admin: httpx2.Client, tmp_path: Path) -> None:
    """A serial is the choice of whoever signs: nodes are known by their whole certificate."""
    token = added(manager, "n7")
    key = keys.make(token)
    node = enrolled(manager, token, key)
    forger = Issuer("A Forger")
    serial = x509.load_pem_x509_certificate(node.certificate.encode()).serial_number
    copy = forger.issue("n7", serial=serial)
    assert admin.post(TRUSTED, json={"CertificateString": forger.pem, "CertificateType": "PEM"}).status_code == 201
    until(manager, copy.file(tmp_path / "copy.pem"), "401")

    forged = ask_as(manager, copy.pem, key_text(copy.key), tmp_path)
    genuine = ask_as(manager, node.certificate, key.private_key, tmp_path)

    assert forged.status_code == 401
    assert genuine.json()["error"]["code"] == "HelloRequired"
