"""Who this node is to the manager: what enrolment wrote into the data directory, and how to write it anew.

`node.pem` holds key and certificate in one file, so that a renewal changes both by one rename.
"""

import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec

from fabricmgr.agent.keys import NewKey
from fabricmgr.domain.errors import NotEnrolled
from fabricmgr.wire import Enrolled

MACHINE_ID = Path("/etc/machine-id")
SYSTEM_UUID = Path("/sys/class/dmi/id/product_uuid")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """identity.json. manager: the URL enrolment used. renew_at: when the manager wants the certificate renewed."""

    manager: str
    cluster: str
    node: str
    renew_at: datetime


@dataclass(frozen=True)
class Identity:
    """An enrolled node's identity on disk."""

    directory: Path
    about: About

    @classmethod
    def load(cls, directory: Path) -> "Identity":
        """Raises NotEnrolled."""
        try:
            about = msgspec.json.decode((directory / "identity.json").read_bytes(), type=About)
        except FileNotFoundError:
            raise NotEnrolled(str(directory), "there is no identity.json") from None
        except (OSError, msgspec.MsgspecError) as error:
            raise NotEnrolled(str(directory), f"identity.json cannot be read: {error}") from None
        return cls(directory, about)

    @classmethod
    def store(cls, directory: Path, manager: str, enrolled: Enrolled, key: NewKey) -> "Identity":
        """Write what enrolment or renewal gave. The file that names it all comes last."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(directory / "node.pem", key.private_key + enrolled.certificate)
        _write(directory / "authorities.pem", enrolled.authorities)
        about = About(manager=manager, cluster=enrolled.cluster, node=enrolled.node, renew_at=enrolled.renew_at)
        _write(directory / "identity.json", msgspec.json.encode(about).decode())
        return cls(directory, about)

    def context(self) -> ssl.SSLContext:
        """TLS with our certificate, trusting the enrolled CAs and nothing else. Raises NotEnrolled."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(self.directory / "authorities.pem")
            context.load_cert_chain(self.directory / "node.pem")
        except OSError as error:
            raise NotEnrolled(str(self.directory), f"key, certificate or CAs cannot be read: {error}") from None
        return context

    def serial(self) -> int:
        """The serial number of our certificate."""
        pem = (self.directory / "node.pem").read_text()
        return serial_number(ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE-----") :].partition("-----END")[0] + _END))

    def ends_at(self) -> datetime:
        """When our certificate ends. For short-lived commands: it loads the cryptography package. Raises OSError, ValueError."""
        from cryptography import x509

        return x509.load_pem_x509_certificate((self.directory / "node.pem").read_bytes()).not_valid_after_utc


_END = "-----END CERTIFICATE-----\n"


def serial_number(certificate: bytes) -> int:
    """A DER certificate's serial (RFC 5280, section 4.1): the first INTEGER after the optional version."""
    _, body, _ = _element(certificate)
    _, fields, _ = _element(body)
    tag, value, rest = _element(fields)
    if tag == 0xA0:
        tag, value, rest = _element(rest)
    return int.from_bytes(value, "big", signed=True)


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content and what follows of the first DER element (X.690, section 8.1)."""
    length, start = data[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(data[2:start], "big")
    return data[0], data[start : start + length], data[start + length :]


def machine_id() -> str:
    """machine-id(5); the firmware's UUID on a system without one. "" where there is neither: the manager says then what is missing."""
    with suppress(OSError):
        if text := MACHINE_ID.read_text().strip():
            return text
    return system_uuid()


def system_uuid() -> str:
    """The firmware's UUID, "" where it shows none or no valid one."""
    try:
        return str(UUID(SYSTEM_UUID.read_text().strip()))
    except (OSError, ValueError):
        return ""


def _write(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    aside.rename(path)
