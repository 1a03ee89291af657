"""Nodes of a cluster, and how an agent proves which one it is."""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.errors import TokenRefused
from fabricmgr.domain.events import Json
from fabricmgr.domain.names import ClusterName, NodeName

SECRET_BYTES = 20
_TOKEN = re.compile(r"fm1\.([a-z2-7]{32})\.([0-9a-f]{64})\Z")


class NodeState(Enum):
    """added: no agent has enrolled yet. suspect: silent for a while; it keeps what it holds. gone: declared dead."""

    ADDED = "added"
    ENROLLED = "enrolled"
    SUSPECT = "suspect"
    GONE = "gone"


@dataclass(frozen=True)
class Node:
    """report_age_ms: of the oldest change its agent had not reported when it last spoke. free: by network/family, as its agent says.

    faults: what it finds wrong with the node's network, in sentences."""

    id: int
    cluster: ClusterName
    name: NodeName
    state: NodeState
    system_uuid: str
    machine_id: str
    agent_version: str
    labels: Mapping[str, str]
    addresses: tuple[Address, ...]
    interfaces: tuple[Mapping[str, Json], ...]
    free: Mapping[str, int]
    report_age_ms: int
    desired_acted: str
    seen_at: datetime | None
    created_at: datetime
    gone_at: datetime | None
    version: int
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Token:
    """What `node add` prints: a secret, and the fingerprint of the CA that the manager will show at first contact."""

    secret: str
    fingerprint: str

    @classmethod
    def new(cls, fingerprint: str, chance: Callable[[int], bytes]) -> "Token":
        """fingerprint: SHA-256 of the CA's certificate in DER, hex."""
        return cls(base64.b32encode(chance(SECRET_BYTES)).decode().lower(), fingerprint)

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Raises TokenRefused."""
        found = _TOKEN.match(text)
        if found is None:
            raise TokenRefused("", "it is not a token: fm1., 32 letters and digits, a dot, 64 hex digits")
        return cls(found[1], found[2])

    def digest(self) -> bytes:
        """As it is stored: the secret has 160 random bits, so a fast hash will do."""
        return hashlib.sha256(self.secret.encode()).digest()

    def __str__(self) -> str:
        return f"fm1.{self.secret}.{self.fingerprint}"


@dataclass(frozen=True)
class TokenPolicy:
    """How tokens are made. fingerprint: of the CA in use."""

    fingerprint: str
    lifetime: timedelta
    chance: Callable[[int], bytes]
