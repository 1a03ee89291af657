"""The certificate that a manager serves with, where somebody gave it one: kept sealed in the database, so that it outlives the machine."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.events import ServerCertificateReplaced
from fabricmgr.services import identity, offered
from fabricmgr.services.offered import Offered
from fabricmgr.store import sealing
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Tx

KEPT_KEYS = 4  # of requests that may still be answered
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
CURVES: dict[str, ec.EllipticCurve] = {
    "TPM_ECC_NIST_P256": ec.SECP256R1(),
    "TPM_ECC_NIST_P384": ec.SECP384R1(),
    "TPM_ECC_NIST_P521": ec.SECP521R1(),
}
RSA_BITS = (2048, 3072, 4096)


@dataclass(frozen=True)
class Here:
    """This manager, as far as its own certificate goes.

    serve: use it for handshakes from now on. key: of the certificate in use, PEM. fixed: why it cannot be replaced, "" where it can."""

    id: UUID
    serve: Callable[[Offered], None]
    key: Callable[[], str]
    fixed: str = ""


@dataclass(frozen=True)
class Asked:
    """What a certificate shall say. subject: texts by attribute, the common name among them. names: host names and addresses besides."""

    subject: tuple[tuple[x509.ObjectIdentifier, str], ...]
    names: tuple[str, ...]


def new_key(curve: str = "", bits: int | None = None) -> PrivateKey:
    """On a curve, or RSA where bits are named. An RSA key takes up to seconds: not for the event loop."""
    if bits is not None:
        return rsa.generate_private_key(65537, bits)
    return ec.generate_private_key(CURVES[curve or "TPM_ECC_NIST_P256"])


def request(asked: Asked, key: PrivateKey) -> str:
    """A signing request (RFC 2986), PEM. Raises Invalid."""
    try:
        name = x509.Name([x509.NameAttribute(kind, text) for kind, text in asked.subject])
    except ValueError as error:
        raise Invalid("CommonName", asked.subject[0][1], f"texts that X.509 allows: {error}") from None
    common = dict(asked.subject)[NameOID.COMMON_NAME]
    names = x509.SubjectAlternativeName([_general(each) for each in dict.fromkeys([common, *asked.names])])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def asked_by(certificate: x509.Certificate) -> Asked:
    """What a certificate says, to ask for the same again."""
    subject = tuple((each.oid, str(each.value)) for each in certificate.subject)
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Asked(subject, ())
    return Asked(subject, (*found.get_values_for_type(x509.DNSName), *(str(each) for each in found.get_values_for_type(x509.IPAddress))))


def _general(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError:
        raise Invalid("AlternativeNames", text, "a host name in ASCII or an address") from None


def key_text(key: PrivateKey) -> str:
    """PEM, PKCS 8."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def load_key(text: str) -> PrivateKey:
    """PEM. Raises TypeError for another kind."""
    key = load_pem_private_key(text.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError("the server's key is neither RSA nor on an elliptic curve")
    return key


async def keep_key(tx: Tx, sealer: Sealer, manager: UUID, key: str, now: datetime) -> None:
    """Of a request that was made; the oldest goes when there are many."""
    kept = [key, *(await keys(tx, sealer, manager))][:KEPT_KEYS]
    await sealing.replace(tx, sealer, f"server-keys:{manager}", json.dumps(kept).encode(), now)


async def keys(tx: Tx, sealer: Sealer, manager: UUID) -> list[str]:
    """Of requests, the newest first."""
    found = await sealing.find(tx, sealer, f"server-keys:{manager}")
    return [] if found is None else [str(each) for each in json.loads(found)]


async def replace(tx: Tx, sealer: Sealer, manager: UUID, given: Offered, by: str, now: datetime) -> None:
    """That manager serves with it from now on: at once where it hears of this itself, else at its next sign of life."""
    kept = json.dumps({"chain": given.chain, "key": given.key, "serial": str(given.serial)}).encode()
    await sealing.replace(tx, sealer, _name(manager), kept, now)
    tx.emit(ServerCertificateReplaced(manager, str(given.serial), by))


async def believed_by_agents(tx: Tx, sealer: Sealer, given: Offered, now: datetime) -> bool:
    """Whether it is by our CA: agents believe no other."""
    ours = await identity.authority(tx, sealer, timedelta(days=1), now)
    first = x509.load_pem_x509_certificate(given.chain.encode())
    return any(offered.issued(first, each) for each in (ours.certificate, *ours.former))


async def stored(tx: Tx, sealer: Sealer, manager: UUID) -> Offered | None:
    """What it was given; None where it serves with its own."""
    found = await sealing.find(tx, sealer, _name(manager))
    if found is None:
        return None
    told = json.loads(found)
    return Offered(told["chain"], told["key"], int(told["serial"]))


async def known_keys(tx: Tx, sealer: Sealer, manager: UUID, more: Sequence[str]) -> list[str]:
    """Keys that a certificate may come without: of requests, of the one it serves with, and `more`."""
    given = await stored(tx, sealer, manager)
    return [*await keys(tx, sealer, manager), *([given.key] if given else []), *more]


def _name(manager: UUID) -> str:
    return f"server-certificate:{manager}"
