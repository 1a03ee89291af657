"""Certificates offered for the server (F035): what cannot serve is refused with a reason, what can be repaired is."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID

from fabricmgr.domain.errors import Invalid
from fabricmgr.services import offered
from fabricmgr.services.certificates import pem
from fabricmgr.services.server_certificate import PrivateKey, key_text, new_key
from tests.support.database import NOW
from tests.support.here import CERTIFICATE, KEY, authority
from tests.support.issued import YEAR, Wanted, alone, signed


def small_rsa() -> PrivateKey:
    return rsa.generate_private_key(65537, 1024)


def locked(key: PrivateKey) -> str:
    lock = serialization.BestAvailableEncryption(b"open sesame")
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock).decode()
    return pem(signed(key.public_key(), "host.example", key)) + text


def refusal(text: str, password: str = "", known: tuple[str, ...] = ()) -> str:
    with pytest.raises(Invalid) as told:
        offered.read(text, password, known, NOW)
    assert "PRIVATE" not in str(vars(told.value))
    return told.value.expected


def test_a_certificate_that_does_not_match_its_key_is_refused() -> None:
    """F035."""
    assert "belongs to the key" in refusal(CERTIFICATE + key_text(new_key()))


def test_a_certificate_without_key_is_taken_only_for_a_key_that_was_made_here() -> None:
    assert "without a key" in refusal(CERTIFICATE)
    assert offered.read(CERTIFICATE, "", (key_text(new_key()), KEY), NOW).key == KEY


def test_a_small_rsa_key_is_refused() -> None:
    """F035."""
    assert "1024 bits" in refusal(alone(small_rsa()))


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Wanted(ends=NOW - timedelta(days=1), begins=NOW - YEAR), "ended at"),
        (Wanted(begins=NOW + timedelta(days=1)), "begins only at"),
        (Wanted(ca=True), "of a CA"),
        (Wanted(use=ExtendedKeyUsageOID.CLIENT_AUTH), "not meant for servers"),
    ],
)
def test_a_certificate_that_clients_would_not_take_is_refused(wanted: Wanted, reason: str) -> None:
    """F035."""
    assert reason in refusal(alone(new_key(), wanted))


def test_a_key_with_a_passphrase_is_taken_with_it_alone() -> None:
    """F035."""
    key = new_key()

    assert "passphrase" in refusal(locked(key))
    assert "cannot be read" in refusal(locked(key), "wrong")
    assert offered.read(locked(key), "open sesame", (), NOW).key == key_text(key)


def test_a_pkcs7_container_and_what_is_no_pem_are_refused() -> None:
    """F035."""
    container = pkcs7.serialize_certificates(x509.load_pem_x509_certificates(CERTIFICATE.encode()), serialization.Encoding.PEM).decode()

    assert "PKCS #7" in refusal(container + KEY)
    assert "no certificate" in refusal("nonsense")
    assert "no certificate" in refusal(KEY)


def test_a_chain_in_the_wrong_order_with_carriage_returns_is_repaired() -> None:
    """F035."""
    root, middle, leaf = new_key(), new_key(), new_key()
    top = signed(root.public_key(), "root", root, Wanted("root", ca=True))
    between = signed(middle.public_key(), "root", root, Wanted("middle", ca=True))
    server = signed(leaf.public_key(), "middle", middle)
    text = (pem(top) + key_text(leaf) + pem(server) + CERTIFICATE + pem(between)).replace("\n", "\r\n")

    made = offered.read(text, "", (), NOW)

    assert made.chain == pem(server) + pem(between) + pem(top)
    assert "\r" not in made.chain + made.key


def test_a_good_certificate_is_taken_without_a_word() -> None:
    certificate, key = authority().issue_server(["host.example"], NOW)

    assert offered.read(certificate + key, "", (), NOW).warnings == ()


def test_what_strict_clients_lack_and_a_near_end_are_told() -> None:
    made = offered.read(alone(new_key(), Wanted(ends=NOW + timedelta(days=3))), "", (), NOW)

    assert any("subject alternative name" in each for each in made.warnings)
    assert any("ends in 3 days" in each for each in made.warnings)


def test_an_rsa_key_serves_too() -> None:
    key = new_key(bits=2048)

    assert offered.read(alone(key), "", (), NOW).key == key_text(key)
    assert isinstance(new_key("TPM_ECC_NIST_P384"), ec.EllipticCurvePrivateKey)
