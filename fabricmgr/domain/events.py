"""What happened, in the past tense. An event is stored with its change and told to whoever subscribed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from uuid import UUID

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def to_json(value: object) -> Json:
    """A field's value as JSON: addresses, prefixes and ids as text, times in RFC 3339. Raises TypeError for what has no such form."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID | IPv4Address | IPv6Address | IPv4Network | IPv6Network):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [to_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


@dataclass(frozen=True)
class DomainEvent:
    """Base of all events. Its name is the class's; its body the fields."""

    @property
    def what(self) -> str:
        """The event's name, such as PoolCreated."""
        return type(self).__name__

    def about(self) -> dict[str, Json]:
        """The body as JSON."""
        return {field.name: to_json(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True)
class Event:
    """A stored event. Positions are dense and in the order in which changes to one thing were committed."""

    position: int
    at: datetime
    what: str
    about: Mapping[str, Json]


# --- clusters and networks -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClusterCreated(DomainEvent):
    cluster: str
    by: str


@dataclass(frozen=True)
class ClusterDeleted(DomainEvent):
    cluster: str
    by: str


@dataclass(frozen=True)
class NetworkCreated(DomainEvent):
    cluster: str
    network: str
    by: str


@dataclass(frozen=True)
class NetworkChanged(DomainEvent):
    cluster: str
    network: str
    changed: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class NetworkDeleted(DomainEvent):
    cluster: str
    network: str
    by: str


# --- pools -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoolCreated(DomainEvent):
    pool: str
    purpose: str
    prefixes: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class PoolChanged(DomainEvent):
    pool: str
    changed: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class PoolDeleted(DomainEvent):
    pool: str
    by: str


@dataclass(frozen=True)
class PrefixAdded(DomainEvent):
    pool: str
    prefix: str
    by: str


@dataclass(frozen=True)
class PrefixRemoved(DomainEvent):
    pool: str
    prefix: str
    by: str


@dataclass(frozen=True)
class ReservationAdded(DomainEvent):
    pool: str
    reservation: str
    reason: str
    by: str


@dataclass(frozen=True)
class ReservationRemoved(DomainEvent):
    pool: str
    reservation: str
    by: str


@dataclass(frozen=True)
class PoolThresholdCrossed(DomainEvent):
    """percent: of what can be assigned, held or resting now. threshold: the mark it went over."""

    pool: str
    family: str
    threshold: int
    percent: int


@dataclass(frozen=True)
class PoolThresholdCleared(DomainEvent):
    pool: str
    family: str
    threshold: int
    percent: int


@dataclass(frozen=True)
class PoolExhausted(DomainEvent):
    pool: str
    family: str


@dataclass(frozen=True)
class PoolRelieved(DomainEvent):
    """A pool that was exhausted has free addresses again."""

    pool: str
    family: str


# --- nodes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeAdded(DomainEvent):
    cluster: str
    node: str
    by: str


@dataclass(frozen=True)
class NodeJoined(DomainEvent):
    """A node's agent enrolled with a token: for the first time, or again."""

    cluster: str
    node: str
    machine_id: str


@dataclass(frozen=True)
class NodeRevoked(DomainEvent):
    """The node's certificates count no more. It frees nothing."""

    cluster: str
    node: str
    by: str


@dataclass(frozen=True)
class NodeSuspected(DomainEvent):
    """The node's agent has been silent. Its addresses stay its own."""

    cluster: str
    node: str
    silent_seconds: int


@dataclass(frozen=True)
class NodeRecovered(DomainEvent):
    cluster: str
    node: str


@dataclass(frozen=True)
class NodeGone(DomainEvent):
    """Declared gone: its addresses may be used again after a cooldown."""

    cluster: str
    node: str
    released: int
    blocks: int
    by: str


@dataclass(frozen=True)
class NodeRemoved(DomainEvent):
    cluster: str
    node: str
    by: str


# --- the fabric ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EndpointCreated(DomainEvent):
    endpoint: str
    cluster: str
    node: str
    interface: str
    by: str


@dataclass(frozen=True)
class EndpointChanged(DomainEvent):
    endpoint: str
    changed: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class EndpointDeleted(DomainEvent):
    endpoint: str
    by: str


@dataclass(frozen=True)
class ZoneCreated(DomainEvent):
    cluster: str
    zone: str
    by: str


@dataclass(frozen=True)
class ZoneChanged(DomainEvent):
    cluster: str
    zone: str
    changed: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class ZoneDeleted(DomainEvent):
    cluster: str
    zone: str
    by: str


# --- addresses -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AddressAllocated(DomainEvent):
    pool: str
    address: str
    owner: str
    generation: int
    node: str | None = None


@dataclass(frozen=True)
class AddressReleased(DomainEvent):
    pool: str
    address: str
    owner: str
    generation: int
    node: str | None = None


@dataclass(frozen=True)
class AddressConflictDetected(DomainEvent):
    """Two claim one address. It is held back: nobody gets it until an operator decides."""

    address: str
    holder: str
    other: str


@dataclass(frozen=True)
class BlockHeldBack(DomainEvent):
    pool: str
    block: str
    node: str | None
    reason: str


@dataclass(frozen=True)
class BlockWithdrawn(DomainEvent):
    """A claim that its node never confirmed."""

    pool: str
    block: str
    node: str


# --- tasks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskCreated(DomainEvent):
    task: str
    name: str
    by: str


@dataclass(frozen=True)
class TaskCompleted(DomainEvent):
    task: str
    name: str
    by: str


@dataclass(frozen=True)
class TaskFailed(DomainEvent):
    """A step was refused; what was done before it stays."""

    task: str
    name: str
    by: str


@dataclass(frozen=True)
class TaskCancelled(DomainEvent):
    """Called off before its next step."""

    task: str
    name: str
    by: str


# --- accounts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AccountCreated(DomainEvent):
    account: str
    role: str
    by: str


@dataclass(frozen=True)
class AccountChanged(DomainEvent):
    account: str
    changed: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class AccountDeleted(DomainEvent):
    account: str
    by: str


@dataclass(frozen=True)
class AccountLockedOut(DomainEvent):
    account: str
    source: str
    until: datetime


@dataclass(frozen=True)
class AccountCertificateAdded(DomainEvent):
    """certificate: its SHA-256, hex; here and below."""

    account: str
    certificate: str
    by: str


@dataclass(frozen=True)
class AccountCertificateRemoved(DomainEvent):
    account: str
    certificate: str
    by: str


@dataclass(frozen=True)
class ClientAuthorityAdded(DomainEvent):
    certificate: str
    by: str


@dataclass(frozen=True)
class ClientAuthorityRemoved(DomainEvent):
    certificate: str
    by: str


@dataclass(frozen=True)
class ClientLoginChanged(DomainEvent):
    changed: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class ManagerChanged(DomainEvent):
    manager: UUID
    changed: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class ServerCertificateReplaced(DomainEvent):
    """serial: of the new one, as decimal text."""

    manager: UUID
    serial: str
    by: str


@dataclass(frozen=True)
class RoleCreated(DomainEvent):
    role: str
    privileges: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class RoleChanged(DomainEvent):
    role: str
    privileges: tuple[str, ...]
    by: str


@dataclass(frozen=True)
class RoleDeleted(DomainEvent):
    role: str
    by: str


# --- telling of events -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SubscriptionCreated(DomainEvent):
    subscription: UUID
    by: str


@dataclass(frozen=True)
class SubscriptionChanged(DomainEvent):
    """Also when it was suspended, by whom or for want of an answer, or resumed."""

    subscription: UUID
    by: str


@dataclass(frozen=True)
class SubscriptionDeleted(DomainEvent):
    subscription: UUID
    by: str


@dataclass(frozen=True)
class EventServiceChanged(DomainEvent):
    by: str


@dataclass(frozen=True)
class TestEventSubmitted(DomainEvent):
    """An event that somebody made up to see whether it arrives. message: its MessageId. Empty texts: nothing was said of it."""

    message: str
    args: tuple[str, ...]
    text: str
    severity: str
    origin: str
    by: str


# --- what API servers show ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClusterFollowed(DomainEvent):
    """Its API server is heard, and all that we read of it is known. version: the server's own."""

    cluster: str
    server: str
    version: str


@dataclass(frozen=True)
class ClusterUnreachable(DomainEvent):
    """Its API server is heard no more, or refuses us. What is there stays as it is."""

    cluster: str
    server: str
    reason: str


@dataclass(frozen=True)
class WorkloadProgressing(DomainEvent):
    """A rollout began, or goes on after it had stalled. kind: Deployment, StatefulSet or DaemonSet. wanted: replicas."""

    cluster: str
    kind: str
    namespace: str
    name: str
    revision: str
    wanted: int


@dataclass(frozen=True)
class WorkloadComplete(DomainEvent):
    """All replicas are of the newest template, and none of an older one is left."""

    cluster: str
    kind: str
    namespace: str
    name: str
    revision: str
    wanted: int


@dataclass(frozen=True)
class WorkloadStalled(DomainEvent):
    """A rollout made no progress within its deadline."""

    cluster: str
    kind: str
    namespace: str
    name: str
    revision: str
    reason: str


@dataclass(frozen=True)
class WorkloadPaused(DomainEvent):
    """Its author halted it: changes of its template wait."""

    cluster: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class WorkloadAvailable(DomainEvent):
    """As many replicas are available as are wanted: for the first time, or again."""

    cluster: str
    kind: str
    namespace: str
    name: str
    available: int
    wanted: int


@dataclass(frozen=True)
class WorkloadDegraded(DomainEvent):
    """Fewer replicas were available than are wanted, for longer than they may be."""

    cluster: str
    kind: str
    namespace: str
    name: str
    available: int
    wanted: int
    reason: str


@dataclass(frozen=True)
class WorkloadUnschedulable(DomainEvent):
    """Pods of it find no node. pods: how many. resource: what there is too little of, or what keeps nodes from taking them."""

    cluster: str
    kind: str
    namespace: str
    name: str
    pods: int
    resource: str
    reason: str


@dataclass(frozen=True)
class WorkloadDeleted(DomainEvent):
    """It is no more; pods of it may be on their way out still."""

    cluster: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class ServiceAddressAssigned(DomainEvent):
    """One for each family."""

    cluster: str
    namespace: str
    name: str
    address: str
    pool: str


@dataclass(frozen=True)
class ServicePending(DomainEvent):
    """It wants an address and can have none."""

    cluster: str
    namespace: str
    name: str
    reason: str


@dataclass(frozen=True)
class ServiceAddressWithdrawn(DomainEvent):
    """Nobody announces it any more, and the Service's status no longer names it."""

    cluster: str
    namespace: str
    name: str
    address: str
    pool: str


@dataclass(frozen=True)
class ServiceAddressMoved(DomainEvent):
    """Another node announces it. before: the node that did, or nothing where none did."""

    cluster: str
    namespace: str
    name: str
    address: str
    node: str
    before: str | None = None


@dataclass(frozen=True)
class KubeNodeJoined(DomainEvent):
    """A Node appeared in the API. system: the node of ours that is the same machine, or nothing."""

    cluster: str
    node: str
    system: str | None = None


@dataclass(frozen=True)
class KubeNodeSuspect(DomainEvent):
    """A Node is not ready, or was deleted. Nothing that it held is given to others."""

    cluster: str
    node: str
    reason: str
    system: str | None = None


@dataclass(frozen=True)
class KubeNodeReturned(DomainEvent):
    """A suspect Node is there and ready."""

    cluster: str
    node: str
    system: str | None = None


@dataclass(frozen=True)
class KubeNodeGone(DomainEvent):
    """A Node was deleted and is given up: its agent has been silent for the grace period, or it never had one."""

    cluster: str
    node: str
    system: str | None = None


@dataclass(frozen=True)
class PodAddressMismatch(DomainEvent):
    """The API server and we say different things of a pod's address. what: conflict, unknown or missing. reason: in words."""

    cluster: str
    namespace: str
    name: str
    node: str
    address: str
    what_differs: str
    reason: str


# --- the manager itself ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ManagerStarted(DomainEvent):
    """A manager works: it has begun, or its controllers have begun again."""

    name: str


@dataclass(frozen=True)
class ManagerStopping(DomainEvent):
    """It was told to end."""

    name: str
