"""Every error the domain can raise. An error has fields and no text: its row in `problems` says the rest."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class FabricError(Exception):
    """What a caller may see. Subclasses are dataclasses; `problems.problem_of` finds their row."""

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value!s}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"


# --- input ---------------------------------------------------------------------------------------------------------


@dataclass
class Invalid(FabricError):
    """A value that cannot be right, whatever the state is."""

    field: str
    value: object
    expected: str


@dataclass
class UnknownField(FabricError):
    field: str
    nearest: str
    known: str


@dataclass
class MissingField(FabricError):
    field: str
    expected: str


@dataclass
class MalformedBody(FabricError):
    where: str
    reason: str


@dataclass
class UnsupportedMediaType(FabricError):
    given: str
    expected: str


@dataclass
class BodyTooLarge(FabricError):
    limit: int


@dataclass
class WrongType(FabricError):
    """A value of another JSON type than the field has."""

    field: str
    value: object
    expected: str


@dataclass
class NotInList(FabricError):
    field: str
    value: object
    allowed: str


@dataclass
class NotWritable(FabricError):
    """A field that exists and that nobody sets."""

    field: str


@dataclass
class NothingToDo(FabricError):
    """A change that names nothing."""

    writable: str


@dataclass
class NotAcceptable(FabricError):
    given: str
    offered: str


@dataclass
class QueryUnsupported(FabricError):
    parameter: str
    supported: str


@dataclass
class QueryInvalid(FabricError):
    parameter: str
    value: str
    expected: str


@dataclass
class ProtocolVersionRefused(FabricError):
    header: str
    value: str
    expected: str


@dataclass
class HeadTooLarge(FabricError):
    """Request line and headers."""

    limit: int


@dataclass
class MethodUnknown(FabricError):
    method: str


# --- things that are there, or not -----------------------------------------------------------------------------------


@dataclass
class NotFound(FabricError):
    kind: str
    name: str


@dataclass
class AlreadyExists(FabricError):
    kind: str
    name: str


@dataclass
class InUse(FabricError):
    """Something cannot be removed or changed while others need it."""

    kind: str
    name: str
    by: str


@dataclass
class VersionConflict(FabricError):
    """The caller quoted a version that is not current."""

    kind: str
    name: str
    quoted: str
    current: str


@dataclass
class PreconditionRequired(FabricError):
    """A write that must quote the version it found."""

    name: str


@dataclass
class MethodNotAllowed(FabricError):
    method: str
    allowed: str


# --- pools and addresses -----------------------------------------------------------------------------------------------


@dataclass
class PrefixOverlap(FabricError):
    prefix: str
    other: str
    pool: str


@dataclass
class ReservationHeld(FabricError):
    """A reservation over addresses that somebody holds."""

    reservation: str
    held: str


@dataclass
class PoolExhausted(FabricError):
    pool: str
    family: str
    hint: str


@dataclass
class AddressHeld(FabricError):
    address: str
    holder: str


@dataclass
class AddressInNodeBlock(FabricError):
    address: str
    node: str
    block: str


@dataclass
class AddressInTransition(FabricError):
    address: str
    block: str
    state: str


@dataclass
class AddressOfFormer(FabricError):
    """The address of a StatefulSet's ordinal is still with the pod that had it before."""

    address: str
    place: str


@dataclass
class AddressCooling(FabricError):
    address: str
    due: datetime


@dataclass
class AddressReserved(FabricError):
    address: str
    pool: str
    reason: str


@dataclass
class AddressOutside(FabricError):
    address: str
    where: str


@dataclass
class StaleGeneration(FabricError):
    quoted: int
    current: int


@dataclass
class StaleClaim(FabricError):
    block: str
    quoted: int
    current: int


@dataclass
class OwnerKeyClash(FabricError):
    """Two different owners with one key: the hash met its twin, or the caller's fields changed under one key."""

    key: str


# --- who is asking -------------------------------------------------------------------------------------------------------


@dataclass
class Unauthenticated(FabricError):
    reason: str


@dataclass
class Forbidden(FabricError):
    who: str
    need: str


@dataclass
class PasswordChangeRequired(FabricError):
    account: str


@dataclass
class LockedOut(FabricError):
    account: str
    until: datetime


# --- nodes ---------------------------------------------------------------------------------------------------------------


@dataclass
class TokenRefused(FabricError):
    """An enrolment token that does not count: unknown, used, expired, or made for another node."""

    node: str
    reason: str


@dataclass
class ClockSkew(FabricError):
    node: str
    node_time: datetime
    manager_time: datetime
    limit_seconds: int


@dataclass
class LifeRefused(FabricError):
    """A hello of another life while the old one's heartbeat lives: two agents claim to be one node."""

    node: str
    living: str
    seen_seconds_ago: int


@dataclass
class MachineRefused(FabricError):
    """A hello from a machine that the certificate was not made for: a cloned image."""

    node: str
    machine_id: str
    enrolled: str


@dataclass
class HelloRequired(FabricError):
    node: str
    reason: str


@dataclass
class ReportGap(FabricError):
    node: str
    number: int
    expected: int


@dataclass
class NodeIsGone(FabricError):
    node: str


# --- the manager and its database -----------------------------------------------------------------------------------------


@dataclass
class ManagerUnavailable(FabricError):
    url: str
    reason: str


@dataclass
class Busy(FabricError):
    what: str
    retry_after_seconds: int


@dataclass
class DatabaseUnavailable(FabricError):
    reason: str


@dataclass
class DatabaseUnsuitable(FabricError):
    reason: str
    remedy: str


@dataclass
class DestinationRefused(FabricError):
    """A place that a client wants us to send to, and that the outbound policy does not allow."""

    destination: str
    reason: str


@dataclass
class SettingRefused(FabricError):
    setting: str
    value: str
    expected: str


@dataclass
class UnknownSetting(FabricError):
    setting: str
    source: str
    nearest: str


# --- CNI (SPEC 1.1.0) --------------------------------------------------------------------------------------------------------


@dataclass
class CniVersionRefused(FabricError):
    version: str
    reason: str


@dataclass
class CniFieldRefused(FabricError):
    field: str
    value: str
    reason: str


@dataclass
class CniEnvironment(FabricError):
    """All that is wrong with the CNI_* variables, in one sentence."""

    problems: str


@dataclass
class CniFrameRefused(FabricError):
    """What came over the plugin's socket is no call: cut, too large, or of another frame version."""

    reason: str


@dataclass
class CniDecode(FabricError):
    reason: str


@dataclass
class CniConfiguration(FabricError):
    reason: str


@dataclass
class NamespaceMissing(FabricError):
    path: str


@dataclass
class NamespaceRefused(FabricError):
    path: str
    reason: str


@dataclass
class AttachmentExists(FabricError):
    network: str
    container: str
    ifname: str


@dataclass
class InterfaceExists(FabricError):
    ifname: str
    namespace: str


@dataclass
class KernelRefused(FabricError):
    step: str
    errno: int
    reason: str


@dataclass
class CheckFailed(FabricError):
    what: str
    expected: str
    observed: str


@dataclass
class AgentNotReady(FabricError):
    reason: str


@dataclass
class RunningPodsSuffer(FabricError):
    reason: str


@dataclass
class AgentAway(FabricError):
    reason: str


@dataclass
class JournalUnusable(FabricError):
    """The agent's journal takes no record: its directory is full, read-only or gone."""

    path: str
    reason: str


@dataclass
class NotEnrolled(FabricError):
    """An agent whose data directory holds no whole identity."""

    directory: str
    reason: str


@dataclass
class ManagerRefused(FabricError):
    """What a manager refused with, where this version has no such error of its own."""

    code: str
    message: str


# --- API servers of clusters ------------------------------------------------------------------------------------------------


@dataclass
class KubeconfigRefused(FabricError):
    """A kubeconfig that names no inline credentials, or would make us run or read something."""

    field: str
    reason: str


@dataclass
class ApiUnreachable(FabricError):
    """No answer, or one that says that the server cannot serve now."""

    server: str
    reason: str


@dataclass
class ApiUntrusted(FabricError):
    """The server's certificate does not verify."""

    server: str
    reason: str


@dataclass
class ApiUnauthorized(FabricError):
    """The server does not know us: token or certificate are wrong, expired or revoked."""

    server: str


@dataclass
class ApiRefused(FabricError):
    """We lack the right to this verb on this resource, as RBAC spells both."""

    verb: str
    resource: str
    reason: str


@dataclass
class ApiRejected(FabricError):
    """The server took the request for invalid, or its admission did."""

    verb: str
    resource: str
    reason: str


@dataclass
class ApiAbsent(FabricError):
    """The object is gone, or the server has no such kind."""

    resource: str
    name: str


@dataclass
class ApiConflict(FabricError):
    """Somebody else changed the object, or made one of its name, since we looked."""

    resource: str
    name: str
    reason: str


@dataclass
class ApiTooMany(FabricError):
    """retry_after: seconds that the server wants us to wait."""

    server: str
    retry_after: int


@dataclass
class ApiTooOld(FabricError):
    version: str
    oldest: str


# --- pods and pools of a cluster ----------------------------------------------------------------------------------------------


@dataclass
class PodElsewhere(FabricError):
    """A node asks for addresses of a pod that the API server shows on another node."""

    pod: str
    node: str
    shown: str


@dataclass
class PoolRefused(FabricError):
    """The pool that an annotation names cannot be taken."""

    subject: str
    reason: str


@dataclass
class RangeMeetsPool(FabricError):
    """A range of a cluster and a prefix of a pool have addresses in common that only one of them may have."""

    cluster: str
    kind: str
    range: str
    prefix: str
    pool: str
