"""A certificate that somebody offers for this server: read, put in order, and tried out before anything serves with it.

What cannot work is refused while the old one still serves; a bad one must never cost the way back (F035)."""

import contextlib
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from fabricmgr.domain.errors import Invalid
from fabricmgr.services.certificates import pem

FIELD = "CertificateString"
SMALLEST_RSA = 2048  # bits; NIST SP 800-131A
SOON = timedelta(days=30)
LARGEST = 64 * 1024  # characters
_KEY_MARK = "PRIVATE KEY-----"
# Strict clients ask for these of a server's certificate (RFC 5280, 4.2.1 and RFC 9525, 6.3).
_STRICT: tuple[tuple[type[x509.ExtensionType], str], ...] = (
    (x509.SubjectAlternativeName, "subject alternative name"),
    (x509.AuthorityKeyIdentifier, "authority key identifier"),
    (x509.BasicConstraints, "basic constraints"),
)


@dataclass(frozen=True, repr=False)
class Offered:
    """What may be served. chain: PEM, the server's certificate first. key: PEM. warnings: what a strict client will say, in sentences."""

    chain: str
    key: str
    serial: int
    warnings: tuple[str, ...] = ()


def read(text: str, password: str, known_keys: Sequence[str], now: datetime) -> Offered:
    """Certificates, and the key unless it is one of the known ones (PEM), in any order and with any line ends. Raises Invalid."""
    text = _unix(text)
    key = _key(text, password, known_keys)
    found = _certificates(text)
    wanted = _public(key)
    leaf = next((each for each in found if _same(each, wanted)), None)
    if leaf is None:
        raise _refused(
            "none of its certificates belongs to the key" if _KEY_MARK in text else "the key of this certificate is not known here"
        )
    _check_leaf(leaf, key, now)
    chain = "".join(pem(each) for each in _ordered(leaf, found))
    made = Offered(
        chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), leaf.serial_number, _warnings(leaf, now)
    )
    try_out(made)
    return made


def _unix(text: str) -> str:
    if len(text) > LARGEST:
        raise _refused(f"it has more than {LARGEST} characters")
    if "BEGIN PKCS7" in text:
        raise _refused("it is a PKCS #7 container: send the certificates in it as PEM")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _key(text: str, password: str, known_keys: Sequence[str]) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    if _KEY_MARK not in text:
        certificates = _certificates(text)
        for each in known_keys:
            known = _loaded(each, "")
            if any(_same(certificate, _public(known)) for certificate in certificates):
                return known
        raise _refused("it comes without a key, and no key made here belongs to it")
    return _loaded(text[text.rfind("-----BEGIN", 0, text.index(_KEY_MARK)) :], password)


def _loaded(text: str, password: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(text.encode(), password.encode() if password else None)
    except TypeError:
        raise _refused("its key is locked by a passphrase: send it without, or name the passphrase as Password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _refused("its key cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise _refused("its key is neither RSA nor on an elliptic curve")
    return key


def _certificates(text: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except (ValueError, UnicodeEncodeError):
        raise _refused("no certificate in it can be read: PEM is expected") from None


def _public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _same(certificate: x509.Certificate, wanted: bytes) -> bool:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == wanted


def _check_leaf(leaf: x509.Certificate, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, now: datetime) -> None:
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < SMALLEST_RSA:
        raise _refused(f"its RSA key has {key.key_size} bits, fewer than {SMALLEST_RSA}")
    if leaf.not_valid_after_utc <= now:
        raise _refused(f"it ended at {leaf.not_valid_after_utc.isoformat(timespec='seconds')}")
    if leaf.not_valid_before_utc > now:
        raise _refused(f"it begins only at {leaf.not_valid_before_utc.isoformat(timespec='seconds')}")
    basic = _extension(leaf, x509.BasicConstraints)
    if isinstance(basic, x509.BasicConstraints) and basic.ca:
        raise _refused("it is the certificate of a CA, not of a server")
    usage = _extension(leaf, x509.ExtendedKeyUsage)
    if isinstance(usage, x509.ExtendedKeyUsage) and not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
        *usage
    }:
        raise _refused("it is not meant for servers (extended key usage)")


def _extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.ExtensionType | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except ValueError:
        raise _refused("its extensions cannot be read") from None


def _ordered(leaf: x509.Certificate, found: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The server's first, each followed by its issuer (RFC 8446, 4.4.2); what belongs to no place of the chain is left out."""
    chain = [leaf]
    while (issuer := next((each for each in found if each not in chain and issued(chain[-1], each)), None)) is not None:
        chain.append(issuer)
    return chain


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether it was signed by that one."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _warnings(leaf: x509.Certificate, now: datetime) -> tuple[str, ...]:
    missing = [f"the certificate has no {name}, which strict clients ask for" for kind, name in _STRICT if _extension(leaf, kind) is None]
    left = leaf.not_valid_after_utc - now
    return (*missing, *([f"the certificate ends in {left.days} days"] if left < SOON else []))


def try_out(offered: Offered) -> None:
    """A handshake with it in memory, in contexts that are thrown away. Raises Invalid."""
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.minimum_version = ssl.TLSVersion.TLSv1_2
        load(server, offered.chain, offered.key)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        _shake(server, client)
    except (ssl.SSLError, OSError) as error:
        raise _refused(f"TLS cannot serve with it: {error}") from None


def load(context: ssl.SSLContext, chain: str, key: str) -> None:
    """Into a context. The library takes them from files only; the file is ours alone and gone afterwards."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(chain + key)
        file.flush()
        context.load_cert_chain(file.name)


def _shake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    for _ in range(4):  # flights; TLS 1.3 needs three
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    if ends[0].version() is None:
        raise ssl.SSLError("the handshake did not end")


def _refused(reason: str) -> Invalid:
    return Invalid(FIELD, "(not shown)", f"a certificate that can serve; {reason}")
