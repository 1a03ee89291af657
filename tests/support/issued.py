"""Certificates as tests want them, good ones and others."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fabricmgr.services.certificates import pem
from fabricmgr.services.server_certificate import PrivateKey, key_text
from tests.support.database import NOW

YEAR = timedelta(days=365)
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True)
class Wanted:
    """names: alternative ones; none: the extension is left out."""

    name: str = "host.example"
    begins: datetime = NOW
    ends: datetime = NOW + YEAR
    ca: bool = False
    use: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH
    names: tuple[str, ...] = ()


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def signed(key: PublicKey, issuer: str, signer: PrivateKey, wanted: Wanted = Wanted()) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(named(wanted.name)).issuer_name(named(issuer)).public_key(key).serial_number(7)
    builder = builder.not_valid_before(wanted.begins).not_valid_after(wanted.ends)
    builder = builder.add_extension(x509.BasicConstraints(wanted.ca, None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([wanted.use]), critical=False)
    if wanted.names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in wanted.names]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def alone(key: PrivateKey, wanted: Wanted = Wanted()) -> str:
    """A certificate signed by its own key, with the key."""
    return pem(signed(key.public_key(), wanted.name, key, wanted)) + key_text(key)
