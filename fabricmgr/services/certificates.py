"""X.509: the manager's own CA and what it signs. Strict by RFC 5280, since clients from Python 3.13 on verify so by default (F058)."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fabricmgr.domain.errors import Invalid

CLOCK_SLACK = timedelta(seconds=300)  # how far back a certificate begins, for clocks that are a little behind
CA_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=397)
_LONGEST_NAME = 64  # RFC 5280, appendix A.1, ub-common-name
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

Serial = Callable[[], int]


@dataclass(frozen=True, repr=False)
class Authority:
    """Our CA. former: CAs still trusted during a rollover. lifetime: of node certificates. serial: random, positive, at most 20 bytes."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    former: tuple[x509.Certificate, ...] = ()
    lifetime: timedelta = timedelta(days=30)
    serial: Serial = x509.random_serial_number

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in DER, hex: what a token carries."""
        return hashlib.sha256(self.certificate.public_bytes(Encoding.DER)).hexdigest()

    def authorities(self) -> str:
        """PEM of every CA to trust, ours first."""
        return "".join(pem(each) for each in (self.certificate, *self.former))

    def issue_server(self, names: Sequence[str], now: datetime) -> tuple[str, str]:
        """A certificate (PEM) for all names and addresses the manager is reached by, and its new key (PEM). Raises Invalid."""
        key = ec.generate_private_key(ec.SECP256R1())
        sans = x509.SubjectAlternativeName([_general_name(name) for name in names])
        subject = _name(names[0] if names else "fabricmgr")
        builder = self._leaf(subject, key.public_key(), ExtendedKeyUsageOID.SERVER_AUTH, now, SERVER_LIFETIME)
        certificate = builder.add_extension(sans, critical=False).sign(self.key, hashes.SHA256())
        return pem(certificate), key_pem(key)

    def issue_node(self, cluster: str, node: str, key: ec.EllipticCurvePublicKey, now: datetime) -> x509.Certificate:
        """A node's certificate over its public key. Name, usage and lifetime are ours, whatever was asked."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster[:_LONGEST_NAME]),
                x509.NameAttribute(NameOID.COMMON_NAME, node[:_LONGEST_NAME]),
            ]
        )
        return self._leaf(subject, key, ExtendedKeyUsageOID.CLIENT_AUTH, now, self.lifetime).sign(self.key, hashes.SHA256())

    def _leaf(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, use: x509.ObjectIdentifier, now: datetime, lifetime: timedelta
    ) -> x509.CertificateBuilder:
        ours = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = _builder(subject, self.certificate.subject, key, self.serial(), now, lifetime)
        return (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ours), critical=False)
        )


def new_authority(name: str, now: datetime, serial: Serial = x509.random_serial_number) -> tuple[str, str]:
    """A CA's certificate and key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(subject, subject, key.public_key(), serial(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
        .sign(key, hashes.SHA256())
    )
    return pem(certificate), key_pem(key)


def parse_public_key(text: str) -> ec.EllipticCurvePublicKey:
    """An EC public key, PEM. Raises Invalid."""
    expected = "a PEM public key on the curve P-256, P-384 or P-521"
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm, UnicodeEncodeError):
        raise Invalid("public_key", text[:40], expected) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise Invalid("public_key", type(key).__name__, expected)
    return key


def check_proof(key: ec.EllipticCurvePublicKey, proof: str, message: str) -> None:
    """That whoever asks has the key: ECDSA with SHA-256 over the SHA-256 digest of the message, base64. Raises Invalid."""
    try:
        signature = base64.b64decode(proof, validate=True)
        key.verify(signature, hashlib.sha256(message.encode()).digest(), ec.ECDSA(hashes.SHA256()))
    except (binascii.Error, ValueError, InvalidSignature):
        raise Invalid("proof", "(not shown)", "a signature by the key, base64") from None


def same_key(certificate: str, key: ec.EllipticCurvePublicKey) -> bool:
    """Whether a certificate (PEM) is over this key."""
    theirs = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    return _spki(theirs) == _spki(key)


def _spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) if isinstance(key, ec.EllipticCurvePublicKey) else b""


def pem(certificate: x509.Certificate) -> str:
    """As text."""
    return certificate.public_bytes(Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """As text, PKCS 8, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def load_key(text: str) -> ec.EllipticCurvePrivateKey:
    """A key of ours. TypeError for another kind."""
    key = serialization.load_pem_private_key(text.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the CA's key is no EC key")
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, serial: int, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_LONGEST_NAME])])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError:
        raise Invalid("tls_names", text, "a host name in ASCII or an address") from None
