"""The agent's side of an enrolment."""

from datetime import datetime

from cryptography import x509

from fabricmgr.agent import keys
from fabricmgr.wire import Enrol, Enrolled
from tests.support.database import NOW


def request(text: str, *, key: keys.NewKey | None = None, now: datetime = NOW, machine: str = "m1") -> Enrol:
    made = key or keys.make(text)
    return Enrol(token=text, machine_id=machine, public_key=made.public_key, proof=made.proof, now=now)


def serial_of(enrolled: Enrolled) -> str:
    return str(x509.load_pem_x509_certificate(enrolled.certificate.encode()).serial_number)
