"""Accounts, their roles, and what a role may do (Redfish, DSP0266, 13.4 and 13.5)."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from fabricmgr.domain.errors import Invalid, NotInList
from fabricmgr.domain.names import ClusterName, NodeName

SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 64
FIRST_ADMINISTRATOR = "admin"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@\-]{0,63}\Z")


PRIVILEGES = ("Login", "ConfigureManager", "ConfigureUsers", "ConfigureComponents", "ConfigureSelf")


@dataclass(frozen=True)
class Role:
    """What accounts of this role may do. value: its name. The predefined ones cannot be changed or removed."""

    value: str
    privileges: frozenset[str]
    version: int = field(default=1, compare=False)

    ADMINISTRATOR: ClassVar["Role"]
    OPERATOR: ClassVar["Role"]
    READ_ONLY: ClassVar["Role"]

    @property
    def predefined(self) -> bool:
        """Whether it is one of Redfish's own."""
        return self.value in PREDEFINED


Role.ADMINISTRATOR = Role("Administrator", frozenset(PRIVILEGES))
Role.OPERATOR = Role("Operator", frozenset({"Login", "ConfigureComponents", "ConfigureSelf"}))
Role.READ_ONLY = Role("ReadOnly", frozenset({"Login", "ConfigureSelf"}))
PREDEFINED = {each.value: each for each in (Role.ADMINISTRATOR, Role.OPERATOR, Role.READ_ONLY)}


def role_name(text: str, field: str = "name") -> str:
    """Parse the name of a role to be. Raises Invalid."""
    if not _NAME.match(text) or "@" in text:
        raise Invalid(field, text, "1 to 64 letters, digits, '_', '.' and '-', starting with a letter or digit")
    return text


def privileges(names: Collection[str], field: str = "privileges") -> frozenset[str]:
    """Parse the privileges of a role to be. Raises NotInList."""
    for name in names:
        if name not in PRIVILEGES:
            raise NotInList(field, name, ", ".join(PRIVILEGES))
    return frozenset(names)


def account_name(text: str, field: str = "account") -> str:
    """Parse an account's name. Raises Invalid."""
    if not _NAME.match(text):
        raise Invalid(field, text, "1 to 64 letters, digits, '_', '.', '@' and '-', starting with a letter or digit")
    return text


def check_password(text: str, field: str = "password") -> None:
    """Length alone is asked for. Raises Invalid, which never shows the password."""
    if not SHORTEST_PASSWORD <= len(text) <= LONGEST_PASSWORD or any("\ud800" <= c <= "\udfff" for c in text):
        raise Invalid(field, "(not shown)", f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")


@dataclass(frozen=True)
class Hashed:
    """A password that kept the rule, as its argon2 hash."""

    text: str


@dataclass(frozen=True)
class Account:
    """must_change: nothing else is allowed until the password was changed."""

    id: int
    name: str
    role: Role
    enabled: bool
    must_change: bool
    created_at: datetime
    version: int

    @property
    def privileges(self) -> frozenset[str]:
        return self.role.privileges


@dataclass(frozen=True)
class AccountDraft:
    """An account to be; its name parsed by `account_name`."""

    name: str
    password: Hashed
    role: Role
    enabled: bool = True
    must_change: bool = False


@dataclass(frozen=True)
class AccountChange:
    """What to change; None leaves it. A new password without `must_change` is one the account may keep.

    unlock: forget its wrong passwords, wherever they came from."""

    password: Hashed | None = None
    role: Role | None = None
    enabled: bool | None = None
    must_change: bool | None = None
    unlock: bool = False


@dataclass(frozen=True)
class Lockout:
    """How many wrong passwords of one account from one source are let through, and how long it waits then."""

    attempts: int = 5
    wait: timedelta = timedelta(seconds=30)

    def holds(self, failed: int, last: datetime, now: datetime) -> bool:
        """Whether the account waits, after so many in a row. Never, where no attempts or no wait are named."""
        return 0 < self.attempts <= failed and last + self.wait > now


class CertificateMapping(StrEnum):
    """What of a certificate by a trusted CA names its account; in Redfish's words. WHOLE: nothing does, the certificate itself is known."""

    WHOLE = "Whole"
    COMMON_NAME = "CommonName"
    USER_PRINCIPAL_NAME = "UserPrincipalName"


@dataclass(frozen=True)
class ClientLogin:
    """How accounts log in: whether by client certificate, and how one is found; and when wrong passwords lock one out.

    lockout_attempts, lockout_seconds: None is what the settings say."""

    enabled: bool
    mapping: CertificateMapping
    version: int
    lockout_attempts: int | None = None
    lockout_seconds: int | None = None

    def lockout(self, otherwise: Lockout) -> Lockout:
        """The rule that counts. otherwise: by the settings."""
        attempts = otherwise.attempts if self.lockout_attempts is None else self.lockout_attempts
        wait = otherwise.wait if self.lockout_seconds is None else timedelta(seconds=self.lockout_seconds)
        return Lockout(attempts, wait)


@dataclass(frozen=True)
class ClientLoginChange:
    """What to change; None leaves it. lockout_attempts: 0 to 1000; lockout_seconds: 0 to 86400; 0 locks nobody out."""

    enabled: bool | None = None
    mapping: CertificateMapping | None = None
    lockout_attempts: int | None = None
    lockout_seconds: int | None = None


@dataclass(frozen=True)
class Trusted:
    """A certificate that is kept: of a CA, or of the account that is named. fingerprint: SHA-256 of the DER, hex, which is its id."""

    fingerprint: str
    pem: str
    created_at: datetime
    account: str = ""


@dataclass(frozen=True)
class Presented:
    """A client certificate whose key TLS has seen proven. fingerprint: SHA-256 of the DER, hex."""

    fingerprint: str
    pem: str


@dataclass(frozen=True)
class AccountPrincipal:
    """An account that was recognised. session: None where it came with its password, or by a certificate with this SHA-256 (hex)."""

    account_id: int
    name: str
    role: Role
    must_change: bool
    session: UUID | None = None
    certificate: str = ""

    @property
    def privileges(self) -> frozenset[str]:
        return self.role.privileges


@dataclass(frozen=True)
class NodePrincipal:
    """A node's agent, recognised by its certificate."""

    node_id: int
    name: NodeName
    cluster: ClusterName
    serial: str
    machine_id: str


@dataclass(frozen=True)
class Session:
    """A login that lasts until it is closed or unused for the session timeout."""

    id: UUID
    account: str
    role: Role
    source: str
    created_at: datetime
    seen_at: datetime
