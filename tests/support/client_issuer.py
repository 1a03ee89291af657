"""A CA of somebody else's, and the client certificates that it issues: what accounts log in by."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from fabricmgr.services import certificates
from fabricmgr.services.client_certificates import UPN
from fabricmgr.services.server_certificate import PrivateKey, key_text, new_key
from tests.support.issued import named

DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Client:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> str:
        return certificates.pem(self.certificate)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def file(self, path: Path) -> Path:
        """Both in one file."""
        path.write_text(self.pem + key_text(self.key))
        return path


@dataclass
class Issuer:
    """A CA. about: the time around which its certificates count. above: the CA that vouches for it, itself where there is none."""

    name: str
    about: datetime = field(default_factory=now)
    key: PrivateKey = field(default_factory=new_key)
    above: "Issuer | None" = None
    ends: timedelta = 100 * DAY

    def __post_init__(self) -> None:
        above = self.above or self
        self.certificate = self._builder(self.name, above.name, self.key, self.about - DAY, self.about + self.ends, ca=True).sign(
            above.key, hashes.SHA256()
        )

    @property
    def pem(self) -> str:
        return certificates.pem(self.certificate)

    def issue(
        self,
        name: str,
        *,
        upn: str = "",
        serial: int | None = None,
        begins: timedelta = -DAY,
        ends: timedelta = 30 * DAY,
        use: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> Client:
        """For a client. upn: its user principal name. begins, ends: from the time that all is about."""
        key = new_key()
        builder = self._builder(name, self.name, key, self.about + begins, self.about + ends, ca=False, serial=serial)
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        if upn:
            told = upn.encode()
            other = x509.OtherName(UPN, bytes([0x0C, len(told)]) + told)
            builder = builder.add_extension(x509.SubjectAlternativeName([other]), critical=False)
        return Client(builder.sign(self.key, hashes.SHA256()), key)

    @staticmethod
    def _builder(
        name: str, issuer: str, key: PrivateKey, begins: datetime, ends: datetime, *, ca: bool, serial: int | None = None
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number() if serial is None else serial)
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
