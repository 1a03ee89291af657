"""Who is told of which events, and what becomes of a subscription whose receiver does not answer (DSP0268, EventDestination)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

LONGEST_BACKOFF = timedelta(minutes=5)
MOST_ATTEMPTS = 1000
LONGEST_INTERVAL = 86400  # seconds
LONGEST_HEARTBEAT = 65535  # minutes


class Kind(Enum):
    PUSH = "RedfishEvent"
    STREAM = "SSE"


class Policy(Enum):
    """What a receiver's silence leads to, once the service's attempts are used up."""

    TERMINATE = "TerminateAfterRetries"
    SUSPEND = "SuspendRetries"
    FOREVER = "RetryForever"
    BACKOFF = "RetryForeverWithBackoff"


class Told(Protocol):
    """What filters look at in a message. key: registry and message, no version. origin: the URI of what it is about."""

    @property
    def registry(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def severity(self) -> str: ...

    @property
    def origin(self) -> str: ...

    @property
    def resource_type(self) -> str: ...


@dataclass(frozen=True)
class Filters:
    """What a subscriber wants. Empty: everything. Keys have no version; types are names; subordinates: what lies below origins too."""

    registries: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    not_registries: tuple[str, ...] = ()
    not_keys: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    subordinates: bool = False
    severities: tuple[str, ...] = ()

    def wants(self, told: Told) -> bool:
        """Whether a message passes: what each given filter allows, less what is excluded."""
        return (
            _among(told.registry, self.registries)
            and _among(told.key, self.keys)
            and told.registry not in self.not_registries
            and told.key not in self.not_keys
            and _among(told.resource_type, self.types)
            and _among(told.severity, self.severities)
            and (not self.origins or any(self._covers(origin, told.origin) for origin in self.origins))
        )

    def _covers(self, origin: str, uri: str) -> bool:
        return origin.rstrip("/") == uri.rstrip("/") or (self.subordinates and uri.startswith(f"{origin.rstrip('/')}/"))

    def to_json(self) -> dict[str, Any]:
        """As it is stored; what says nothing is left out."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items() if value}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Filters":
        texts: dict[str, tuple[str, ...]] = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
        return cls(subordinates=bool(stored.get("subordinates")), **texts)


def _among(value: str, allowed: Sequence[str]) -> bool:
    return not allowed or value in allowed


@dataclass(frozen=True)
class EventSettings:
    """Of all subscriptions. attempts: retries of one delivery. interval: between them."""

    enabled: bool
    attempts: int
    interval: timedelta
    version: int


@dataclass(frozen=True)
class SubscriptionDraft:
    """heartbeat_minutes: None for no heartbeat. headers: sent with every POST, secrets among them."""

    destination: str
    context: str = ""
    policy: Policy = Policy.BACKOFF
    filters: Filters = field(default_factory=Filters)
    verify_certificate: bool = True
    include_origin: bool = False
    heartbeat_minutes: int | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class SubscriptionChange:
    """None: left as it is."""

    context: str | None = None
    policy: Policy | None = None
    verify_certificate: bool | None = None
    headers: tuple[tuple[str, str], ...] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Subscription:
    """position: the newest one delivered. attempts: tries since then that failed. headers: sealed.

    reason: why the last try failed, or why it was suspended. seen_at: when its stream was last known to be open."""

    id: UUID
    kind: Kind
    account: str
    destination: str
    context: str
    policy: Policy
    filters: Filters
    verify_certificate: bool
    include_origin: bool
    heartbeat_minutes: int | None
    headers: bytes | None = field(repr=False)
    suspended: bool
    position: int
    attempts: int
    next_try_at: datetime | None
    reason: str
    created_at: datetime
    seen_at: datetime | None
    version: int

    def delivered(self, position: int) -> "Subscription":
        return replace(self, position=position, attempts=0, next_try_at=None, reason="")

    def failed(self, settings: EventSettings, reason: str, now: datetime) -> "Subscription | None":
        """After a try that failed; None: its policy ends it. Nothing is skipped: the same events are tried again."""
        attempts = self.attempts + 1
        after = replace(self, attempts=attempts, reason=reason, next_try_at=now + self._pause(settings, attempts))
        if attempts <= settings.attempts or self.policy in (Policy.FOREVER, Policy.BACKOFF):
            return after
        return None if self.policy is Policy.TERMINATE else replace(after, suspended=True, next_try_at=None)

    def _pause(self, settings: EventSettings, attempts: int) -> timedelta:
        if self.policy is not Policy.BACKOFF:
            return settings.interval
        longest = max(LONGEST_BACKOFF, settings.interval)
        return min(longest, settings.interval * (1 << min(attempts - 1, 20)))
