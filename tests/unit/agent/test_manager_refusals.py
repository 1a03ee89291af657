"""A manager's refusal is told to CNI callers as it was raised; tokens name the CA; certificates are read without a library."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fabricmgr.agent import identity, manager
from fabricmgr.agent.conflist import content
from fabricmgr.agent.report import path_to
from fabricmgr.agent.telemetry import respond
from fabricmgr.domain.errors import (
    AddressCooling,
    AddressInNodeBlock,
    FabricError,
    ManagerRefused,
    ManagerUnavailable,
    PoolExhausted,
    TokenRefused,
)
from fabricmgr.problems import problem_of, sentence
from fabricmgr.services import certificates
from fabricmgr.web.responses import problem

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "raised",
    [
        PoolExhausted("pods", "IPv4", "add a prefix"),
        AddressInNodeBlock("10.0.0.5", "n1", "10.0.0.0/26"),
        AddressCooling("10.0.0.5", NOW),
    ],
)
def test_an_error_arrives_as_it_was_raised(raised: FabricError) -> None:
    answer = problem(raised)

    found = manager.refusal(answer.status, answer.body, "https://m")

    assert type(found) is type(raised)
    assert vars(found) == vars(raised)


def test_an_error_of_a_newer_manager_keeps_its_sentence() -> None:
    found = manager.refusal(409, b'{"error": {"code": "FromTheFuture", "message": "no such luck", "fields": {"x": 1}}}', "https://m")

    assert found == ManagerRefused("FromTheFuture", "no such luck")
    assert sentence(found) == "the manager refused: no such luck"
    assert problem_of(found).cni == 11


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": "text"}', b"[]"])
def test_an_answer_that_is_none_counts_as_away(body: bytes) -> None:
    assert manager.refusal(502, body, "https://m") == ManagerUnavailable("https://m", "it answers 502")


def test_the_ca_that_the_token_names_is_trusted_and_no_other() -> None:
    shown = [certificates.new_authority(f"CA {number}", NOW)[0] for number in range(2)]
    second = x509.load_pem_x509_certificate(shown[1].encode())
    fingerprint = second.fingerprint(hashes.SHA256()).hex()

    found = manager.named_authority("".join(shown), f"fm1.{'a' * 32}.{fingerprint}")

    assert x509.load_pem_x509_certificate(found.encode()) == second
    with pytest.raises(TokenRefused, match=fingerprint):
        manager.named_authority(shown[0], f"fm1.{'a' * 32}.{fingerprint}")
    with pytest.raises(TokenRefused):
        manager.named_authority(shown[0], "fm1.short")


@pytest.mark.parametrize("serial", [1, 127, 128, 2**64 + 5, 2**158 + 3])
def test_a_certificates_serial_is_read_from_its_bytes(serial: int) -> None:
    made, _ = certificates.new_authority("CA", NOW, lambda: serial)
    der = x509.load_pem_x509_certificate(made.encode()).public_bytes(Encoding.DER)

    assert identity.serial_number(der) == serial


def test_a_proxy_of_the_environment_is_named_and_not_used() -> None:
    """F062: `agent status` says which way it goes."""
    said = path_to("https://192.0.2.10:8443", {"HTTPS_PROXY": "http://198.51.100.80:3128"})

    assert said == "directly to https://192.0.2.10:8443; HTTPS_PROXY=http://198.51.100.80:3128 of the environment is not used"


def test_the_list_tells_old_and_new_readers_a_version_they_know() -> None:
    assert b'"cniVersion": "1.0.0"' in content("podnet")
    assert b'"1.1.0"' in content("podnet")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /metrics?x=1 HTTP/1.1\r\n\r\n", b"200"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
    ],
)
def test_metrics_are_at_one_place(head: bytes, status: bytes) -> None:
    assert respond(head).split()[1] == status
