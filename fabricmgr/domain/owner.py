"""Who holds an address."""

import hashlib
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from fabricmgr.domain.names import ClusterName, NetworkName, NodeName, PoolName


class OwnerKind(Enum):
    ATTACHMENT = "attachment"
    SERVICE = "service"
    STATEFULSET = "statefulset"
    DIRECT = "direct"


@dataclass(frozen=True)
class Attachment:
    """A container's interface on a network of a node. Two nodes may use one container id, so the node is part of it."""

    cluster: ClusterName
    node: NodeName
    network: NetworkName
    container: str
    ifname: str

    @property
    def key(self) -> UUID:
        """The same attachment always has the same key, on every replica."""
        return owner_key(OwnerKind.ATTACHMENT, self.cluster, self.node, self.network, self.container, self.ifname)

    def __str__(self) -> str:
        return f"container {self.container} interface {self.ifname} network {self.network} node {self.node}"


@dataclass(frozen=True)
class Direct:
    """A client of the API and the name it chose: asked again, whoever asks, it gets the same address."""

    cluster: ClusterName
    pool: PoolName
    name: str

    @property
    def key(self) -> UUID:
        return owner_key(OwnerKind.DIRECT, self.cluster, self.pool, self.name)

    def __str__(self) -> str:
        return f"{self.name} (pool {self.pool})"


@dataclass(frozen=True)
class SetPlace:
    """A pod of a StatefulSet, whichever is there now: its address stays when its pod goes, and waits for the next one."""

    cluster: ClusterName
    namespace: str
    name: str
    ordinal: int
    network: NetworkName

    @property
    def key(self) -> UUID:
        return owner_key(OwnerKind.STATEFULSET, self.cluster, self.namespace, self.name, str(self.ordinal), self.network)

    def __str__(self) -> str:
        return f"StatefulSet {self.namespace}/{self.name} ordinal {self.ordinal} network {self.network}"


Owner = Attachment | Direct


@dataclass(frozen=True)
class Pod:
    """What the runtime says of the pod behind an attachment. A description, never a key and never a reason to refuse."""

    namespace: str = ""
    name: str = ""
    uid: str = ""


def owner_key(kind: OwnerKind, *fields: str) -> UUID:
    """First 16 bytes of SHA-256 over the length-prefixed fields, so that no two lists of fields run together."""
    digest = hashlib.sha256()
    for text in (kind.value, *fields):
        raw = text.encode()
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return UUID(bytes=digest.digest()[:16])
