"""A manager as Redfish's certificate pages see it: it serves from memory, and says what it was given."""

from dataclasses import dataclass, field
from uuid import UUID

from cryptography import x509

from fabricmgr.services import certificates
from fabricmgr.services.certificates import Authority
from fabricmgr.services.offered import Offered
from fabricmgr.services.server_certificate import Here
from tests.support.database import NOW

OWN_ID = UUID("00000000-0000-4000-8000-000000000001")


def authority(name: str = "a CA") -> Authority:
    """A CA of its own."""
    certificate, key = certificates.new_authority(name, NOW)
    return Authority(certificates.load_key(key), x509.load_pem_x509_certificate(certificate.encode()))


CERTIFICATE, KEY = authority().issue_server(["host.example", "192.0.2.1"], NOW)


@dataclass
class Seen:
    """What was given to serve with, the newest last."""

    given: list[Offered] = field(default_factory=list)

    def here(self, fixed: str = "") -> Here:
        return Here(OWN_ID, self.given.append, lambda: self.given[-1].key if self.given else KEY, fixed)


SEEN = Seen()
HERE = SEEN.here()
