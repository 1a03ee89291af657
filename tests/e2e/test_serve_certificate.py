"""The server's certificate replaced while the manager serves (F035): at once, for good, and without a connection lost."""

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from cryptography import x509

from fabricmgr.agent import keys
from fabricmgr.services.certificates import pem
from fabricmgr.services.server_certificate import key_text, new_key
from tests.e2e.test_serve_tls import DESIRED, added, enrolled
from tests.support.issued import Wanted, alone, named, signed
from tests.support.serve_process import Managers, ServeProcess, managers

NOW = datetime.now(UTC)
SERVICE = "/redfish/v1/CertificateService"
REPLACE = f"{SERVICE}/Actions/CertificateService.ReplaceCertificate"
FRESH = Wanted("localhost", NOW - timedelta(hours=1), NOW + timedelta(days=200), names=("localhost",))


@pytest.fixture
def started() -> Iterator[Managers]:
    with managers() as made:
        yield made


def shown(manager: ServeProcess) -> x509.Certificate:
    """What a new connection gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = urlsplit(manager.url).port
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secure:
        found = secure.getpeercert(binary_form=True)
    assert found is not None
    return x509.load_der_x509_certificate(found)


def until_shown(manager: ServeProcess, issuer: str) -> None:
    """Until every worker shows it: ten connections in a row do."""
    for _ in range(100):
        if all(shown(manager).issuer == named(issuer) for _ in range(10)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{shown(manager).issuer} is shown, not {issuer}")


def replaced(client: httpx2.Client, text: str) -> httpx2.Response:
    uri = client.get(f"{SERVICE}/CertificateLocations").json()["Links"]["Certificates"][0]["@odata.id"]
    return client.post(REPLACE, json={"CertificateUri": {"@odata.id": uri}, "CertificateString": text, "CertificateType": "PEMchain"})


def test_a_replaced_certificate_serves_at_once_and_after_a_restart(started: Managers, tmp_path: Path) -> None:
    """F035: a certificate of another kind of key, by another CA, and nobody is cut off; nodes are still known by theirs."""
    manager = started.start(started.folder / "data", "--web-workers", "2").ready()
    token = added(manager, "n1")
    key = keys.make(token)
    (tmp_path / "node.pem").write_text(enrolled(manager, token, key).certificate + key.private_key)
    ca, server = new_key(), new_key(bits=2048)
    root = pem(signed(ca.public_key(), "another CA", ca, Wanted("another CA", FRESH.begins, FRESH.ends, ca=True)))

    with manager.client() as client:
        client.get("/redfish/v1/Managers").raise_for_status()
        answer = replaced(client, pem(signed(server.public_key(), "another CA", ca, FRESH)) + root + key_text(server))
        after = client.get("/redfish/v1/Managers")  # on the connection it had

        assert answer.status_code == 200, answer.text
        assert after.status_code == 200
        until_shown(manager, "another CA")
        assert [replaced(client, text).status_code for text in unusable()] == [400] * len(unusable())
        until_shown(manager, "another CA")

    context = ssl.create_default_context(cadata=root)
    context.check_hostname = False  # the URL names an address
    context.load_cert_chain(tmp_path / "node.pem")
    with httpx2.Client(verify=context, trust_env=False) as node:
        assert node.get(manager.url + DESIRED).json()["error"]["code"] == "HelloRequired"
    assert manager.stop()[0] == 0

    again = started.start(started.folder / "data").ready()
    until_shown(again, "another CA")


def unusable() -> list[str]:
    """Each is refused, and the one that serves goes on."""
    begins, ends = FRESH.begins, FRESH.ends
    return [
        pem(signed(new_key().public_key(), "x", new_key(), FRESH)) + key_text(new_key()),
        alone(new_key(), Wanted(begins=begins - timedelta(days=9), ends=begins)),
        alone(new_key(), Wanted(begins=ends, ends=ends + timedelta(days=9))),
        alone(new_key(), Wanted(begins=begins, ends=ends, ca=True)),
        "nonsense",
    ]


def test_a_certificate_that_the_operator_named_is_not_replaced_by_clients(started: Managers, tmp_path: Path) -> None:
    key = new_key()
    site = tmp_path / "site.pem"
    site.write_text(alone(key, FRESH))
    manager = started.start(started.folder / "data", "--tls-certificate", str(site), "--tls-key", str(site)).ready()

    with httpx2.Client(base_url=manager.url, verify=False, auth=("admin", manager.password), trust_env=False) as client:
        answer = replaced(client, alone(new_key(), FRESH))

    assert answer.status_code == 409
    assert "tls_certificate" in answer.text
