"""What is written down and never changed: who did what, and what happened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class Severity(Enum):
    """How much it matters to whoever watches."""

    OK = "OK"
    WARNING = "Warning"
    CRITICAL = "Critical"


def severity_of(status: int) -> Severity:
    """Of a request by its HTTP status: done, refused, or a failure of ours."""
    return Severity.OK if status < 400 else Severity.WARNING if status < 500 else Severity.CRITICAL


@dataclass(frozen=True)
class Audited:
    """A request that changed something or was denied; `repeated` of them, alike. reason: why it was refused, "" where it was not.

    certificate: SHA-256 (hex) of the client certificate by which the account came, "" where it came by other means."""

    id: int
    at: datetime
    actor: str
    source: str
    method: str
    path: str
    status: int
    repeated: int
    reason: str = ""
    certificate: str = ""

    @property
    def severity(self) -> Severity:
        return severity_of(self.status)


@dataclass(frozen=True)
class AuditFilter:
    """What rows must be equal to; None for any."""

    id: int | None = None
    at: datetime | None = None
    actor: str | None = None
    source: str | None = None
    severity: Severity | None = None


@dataclass(frozen=True)
class EventFilter:
    """The same for events. severity: what no name of `severities` has is OK; a submitted test says its own."""

    position: int | None = None
    at: datetime | None = None
    severity: Severity | None = None
    severities: Mapping[str, Severity] = field(default_factory=dict)
