"""Domain events as Redfish messages: which message of which registry, with which arguments, about which resource.

The wording is ours; ids, severities and counts of arguments are the registries'. A domain event without a row here is told to nobody, and a
test fails."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fabricmgr import dmtf
from fabricmgr.domain.events import Event
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.ids import ENDPOINTS, FABRIC, POOLS, ZONES, system_uri, workload_uri, zone_id

ACCOUNT_SERVICE = "/redfish/v1/AccountService"
ACCOUNTS = "/redfish/v1/AccountService/Accounts"
CLIENT_AUTHORITIES = "/redfish/v1/AccountService/MultiFactorAuth/ClientCertificate/Certificates"
MANAGERS = "/redfish/v1/Managers"
ROLES = "/redfish/v1/AccountService/Roles"
EVENT_SERVICE = "/redfish/v1/EventService"
SUBSCRIPTIONS = f"{EVENT_SERVICE}/Subscriptions"
ROOT = "/redfish/v1/"
_FABRIC_ID = FABRIC.rpartition("/")[2]

About = Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """One message of an event. id: of the event record, the same whenever it is told again. origin: what it is about."""

    id: str
    position: int
    at: datetime
    message_id: str
    args: tuple[str, ...]
    text: str
    severity: str
    resolution: str
    origin: str
    resource_type: str

    @property
    def registry(self) -> str:
        """The registry's prefix."""
        return self.message_id.partition(".")[0]

    @property
    def key(self) -> str:
        """Registry and message, no version."""
        return key_of(self.message_id)

    def record(self, member: int) -> Json:
        """As an entry of an Event's Events (DSP0268, Event)."""
        return {
            # Required by the schema, whatever it says of being outdated.
            "EventType": "Other",
            "EventId": self.id,
            "EventTimestamp": self.at.isoformat(),
            "MemberId": str(member),
            "MessageId": self.message_id,
            "Message": self.text,
            "MessageArgs": list(self.args),
            "MessageSeverity": self.severity,
            "Resolution": self.resolution,
            "OriginOfCondition": {"@odata.id": self.origin},
        }


def key_of(message_id: str) -> str:
    """A MessageId without its version: `Fabric.1.0.ZoneCreated` and `Fabric.ZoneCreated` are the same to a filter."""
    return f"{message_id.partition('.')[0]}.{message_id.rpartition('.')[2]}"


def payload(id_: str, context: str, messages: Sequence[Message]) -> Json:
    """An Event with these messages."""
    return {
        "@odata.type": dmtf.odata_type("Event"),
        "Id": id_,
        "Name": "Events of fabricmgr",
        "Context": context,
        "Events@odata.count": len(messages),
        "Events": [message.record(member) for member, message in enumerate(messages)],
    }


@dataclass(frozen=True)
class Row:
    """How an event is said once. args and text: with names of the event's fields in braces. kind: the type of what lies at origin."""

    registry: str
    name: str
    args: tuple[str, ...]
    text: str
    origin: Callable[[About], str]
    kind: str
    resolution: str = "None."


def _pool(about: About) -> str:
    return f"{POOLS}/{about['pool']}"


def _zone(about: About) -> str:
    return f"{ZONES}/{about['cluster']}"


def _of_workload(about: About) -> str:
    return workload_uri(about["cluster"], about["kind"], about["namespace"], about["name"])


def _node(about: About) -> str:
    return system_uri(about["cluster"], about["node"])


def _machine(about: About) -> str:
    """The machine that a Node is, or its cluster where we know none."""
    return system_uri(about["cluster"], about["system"]) if about["system"] else _zone(about)


def _account(about: About) -> str:
    return f"{ACCOUNTS}/{about['account']}"


def _of_account(about: About) -> str:
    return f"{_account(about)}/Certificates/{about['certificate']}"


def _client_ca(about: About) -> str:
    return f"{CLIENT_AUTHORITIES}/{about['certificate']}"


def _accounts(_about: About) -> str:
    return ACCOUNT_SERVICE


def _manager(about: About) -> str:
    return f"{MANAGERS}/{about['manager']}"


def _certificate(about: About) -> str:
    return f"{MANAGERS}/{about['manager']}/NetworkProtocol/HTTPS/Certificates/1"


def _role(about: About) -> str:
    return f"{ROLES}/{about['role']}"


def _endpoint(about: About) -> str:
    return f"{ENDPOINTS}/{about['endpoint']}"


def _group(about: About) -> str:
    return f"{ZONES}/{zone_id(about['cluster'], about['zone'])}"


def _subscription(about: About) -> str:
    return f"{SUBSCRIPTIONS}/{about['subscription']}"


def _task(name: str, text: str) -> Row:
    return Row("TaskEvent", name, ("{task}",), text, lambda about: f"/redfish/v1/TaskService/Tasks/{about['task']}", "Task")


def _own(name: str, args: tuple[str, ...], origin: Callable[[About], str], kind: str) -> Row:
    """A message of our own registry: its text and resolution stand there."""
    published = dmtf.own_registry()["Messages"][name]
    text: str = published["Message"]
    for number, arg in enumerate(args, 1):
        text = text.replace(f"%{number}", arg)
    return Row(dmtf.OWN_REGISTRY, name, args, text, origin, kind, published["Resolution"])


_SERVICE = ("{namespace}/{name}", "{cluster}")


def _workload(name: str, *more: str) -> Row:
    return _own(name, ("{kind}", "{namespace}/{name}", "{cluster}", *more), _of_workload, "FabricMgrWorkload")


def _fabric(name: str, field: str, text: str, origin: Callable[[About], str], kind: str) -> Row:
    return Row("Fabric", name, (f"{{{field}}}", _FABRIC_ID), text, origin, kind)


def _resource(name: str, text: str, origin: Callable[[About], str], kind: str) -> Row:
    return Row("ResourceEvent", name, (), text, origin, kind)


def _threshold(name: str, text: str) -> Row:
    return Row("ResourceEvent", name, ("Oem.FabricMgr.Usage.{family}", "{threshold}"), text, _pool, "AddressPool")


def _changed_pool(text: str) -> tuple[Row, ...]:
    return (_fabric("AddressPoolModified", "pool", text, _pool, "AddressPool"),)


def _changed_zone(text: str) -> tuple[Row, ...]:
    return (_fabric("ZoneModified", "cluster", text, _zone, "Zone"),)


def _heartbeat(name: str, text: str) -> Row:
    return Row("HeartbeatEvent", name, (), text, lambda _: ROOT, "ServiceRoot")


ROWS: Mapping[str, tuple[Row, ...]] = {
    "ClusterCreated": (_fabric("ZoneCreated", "cluster", "Cluster {cluster} was made by {by}.", _zone, "Zone"),),
    "ClusterDeleted": (_fabric("ZoneRemoved", "cluster", "Cluster {cluster} was removed by {by}.", _zone, "Zone"),),
    "NetworkCreated": _changed_zone("Network {network} of cluster {cluster} was made by {by}."),
    "NetworkChanged": _changed_zone("Network {network} of cluster {cluster} was changed by {by}."),
    "NetworkDeleted": _changed_zone("Network {network} of cluster {cluster} was removed by {by}."),
    "PoolCreated": (_fabric("AddressPoolCreated", "pool", "Pool {pool} was made by {by}.", _pool, "AddressPool"),),
    "PoolChanged": _changed_pool("Pool {pool} was changed by {by}."),
    "PoolDeleted": (_fabric("AddressPoolRemoved", "pool", "Pool {pool} was removed by {by}.", _pool, "AddressPool"),),
    "PrefixAdded": _changed_pool("Prefix {prefix} was added to pool {pool} by {by}."),
    "PrefixRemoved": _changed_pool("Prefix {prefix} was removed from pool {pool} by {by}."),
    "ReservationAdded": _changed_pool("Addresses {reservation} of pool {pool} were reserved by {by}."),
    "ReservationRemoved": _changed_pool("Addresses {reservation} of pool {pool} are no longer reserved, by {by}."),
    "PoolThresholdCrossed": (
        _threshold("ResourceWarningThresholdExceeded", "{percent} % of the {family} addresses of pool {pool} are used."),
    ),
    "PoolThresholdCleared": (
        _threshold("ResourceWarningThresholdCleared", "{percent} % of the {family} addresses of pool {pool} are used."),
    ),
    "PoolExhausted": (_own("PoolExhausted", ("{pool}", "{family}"), _pool, "AddressPool"),),
    "PoolRelieved": (_own("PoolRelieved", ("{pool}", "{family}"), _pool, "AddressPool"),),
    "NodeAdded": (_resource("ResourceCreated", "Node {node} of cluster {cluster} was added by {by}.", _node, "ComputerSystem"),),
    "NodeJoined": (_own("NodeJoined", ("{node}", "{cluster}"), _node, "ComputerSystem"),),
    "NodeRevoked": (_own("NodeRevoked", ("{node}", "{cluster}"), _node, "ComputerSystem"),),
    "NodeSuspected": (_own("NodeSuspect", ("{node}", "{cluster}", "{silent_seconds}"), _node, "ComputerSystem"),),
    "NodeRecovered": (_own("NodeReturned", ("{node}", "{cluster}"), _node, "ComputerSystem"),),
    "NodeGone": (_own("NodeGone", ("{node}", "{cluster}", "{released}"), _node, "ComputerSystem"),),
    "NodeRemoved": (_resource("ResourceRemoved", "Node {node} of cluster {cluster} was removed by {by}.", _node, "ComputerSystem"),),
    "AddressAllocated": (_own("AddressAllocated", ("{address}", "{pool}", "{owner}"), _pool, "AddressPool"),),
    "AddressReleased": (_own("AddressReleased", ("{address}", "{pool}", "{owner}"), _pool, "AddressPool"),),
    "AddressConflictDetected": (_own("AddressConflictDetected", ("{address}", "{holder}", "{other}"), lambda _: FABRIC, "Fabric"),),
    "BlockHeldBack": (_own("BlockHeldBack", ("{block}", "{pool}", "{reason}"), _pool, "AddressPool"),),
    "BlockWithdrawn": (_own("BlockWithdrawn", ("{block}", "{pool}", "{node}"), _pool, "AddressPool"),),
    "AccountCreated": (
        Row("AccountSecurity", "AccountCreated", ("{account}",), "Account {account} was made by {by}.", _account, "ManagerAccount"),
    ),
    "AccountChanged": (_resource("ResourceChanged", "Account {account} was changed by {by}.", _account, "ManagerAccount"),),
    "AccountDeleted": (
        Row("AccountSecurity", "AccountRemoved", ("{account}",), "Account {account} was removed by {by}.", _account, "ManagerAccount"),
    ),
    "AccountLockedOut": (
        Row(
            "AccountSecurity",
            "AccountLocked",
            ("{account}",),
            "Account {account} was locked for {source} after too many wrong passwords.",
            _account,
            "ManagerAccount",
        ),
    ),
    "AccountCertificateAdded": (
        _resource("ResourceCreated", "Account {account} was given a certificate to log in by, by {by}.", _of_account, "Certificate"),
    ),
    "AccountCertificateRemoved": (
        _resource("ResourceRemoved", "A certificate of account {account} was removed by {by}.", _of_account, "Certificate"),
    ),
    "ClientAuthorityAdded": (
        _resource("ResourceCreated", "A CA whose certificates name accounts was trusted by {by}.", _client_ca, "Certificate"),
    ),
    "ClientAuthorityRemoved": (
        _resource("ResourceRemoved", "A CA whose certificates name accounts was removed by {by}.", _client_ca, "Certificate"),
    ),
    "ClientLoginChanged": (_resource("ResourceChanged", "How accounts log in was changed by {by}.", _accounts, "AccountService"),),
    "ManagerChanged": (_resource("ResourceChanged", "Manager {manager} was changed by {by}.", _manager, "Manager"),),
    "ServerCertificateReplaced": (
        _resource("ResourceChanged", "The server certificate of manager {manager} was replaced by {by}.", _certificate, "Certificate"),
    ),
    "RoleCreated": (_resource("ResourceCreated", "Role {role} was made by {by}.", _role, "Role"),),
    "RoleChanged": (_resource("ResourceChanged", "Role {role} was changed by {by}.", _role, "Role"),),
    "RoleDeleted": (_resource("ResourceRemoved", "Role {role} was removed by {by}.", _role, "Role"),),
    "EndpointCreated": (_fabric("EndpointCreated", "endpoint", "Endpoint {endpoint} was made by {by}.", _endpoint, "Endpoint"),),
    "EndpointChanged": (_fabric("EndpointModified", "endpoint", "Endpoint {endpoint} was changed by {by}.", _endpoint, "Endpoint"),),
    "EndpointDeleted": (_fabric("EndpointRemoved", "endpoint", "Endpoint {endpoint} was removed by {by}.", _endpoint, "Endpoint"),),
    "ZoneCreated": (_fabric("ZoneCreated", "zone", "Zone {zone} of cluster {cluster} was made by {by}.", _group, "Zone"),),
    "ZoneChanged": (_fabric("ZoneModified", "zone", "Zone {zone} of cluster {cluster} was changed by {by}.", _group, "Zone"),),
    "ZoneDeleted": (_fabric("ZoneRemoved", "zone", "Zone {zone} of cluster {cluster} was removed by {by}.", _group, "Zone"),),
    "TaskCreated": (_task("TaskStarted", "Task {task}, {name}, was asked for by {by}."),),
    "TaskCompleted": (_task("TaskCompletedOK", "Task {task}, {name}, is done."),),
    "TaskFailed": (_task("TaskAborted", "Task {task}, {name}, could not be done."),),
    "TaskCancelled": (_task("TaskCancelled", "Task {task}, {name}, was called off by {by}."),),
    "SubscriptionCreated": (
        _resource("ResourceCreated", "Subscription {subscription} was made by {by}.", _subscription, "EventDestination"),
    ),
    "SubscriptionChanged": (
        _resource("ResourceChanged", "Subscription {subscription} was changed by {by}.", _subscription, "EventDestination"),
    ),
    "SubscriptionDeleted": (
        _resource("ResourceRemoved", "Subscription {subscription} was ended by {by}.", _subscription, "EventDestination"),
    ),
    "EventServiceChanged": (
        _resource("ResourceChanged", "How events are delivered was changed by {by}.", lambda _: EVENT_SERVICE, "EventService"),
    ),
    "ClusterFollowed": (_own("ClusterFollowed", ("{cluster}", "{server}", "{version}"), _zone, "Zone"),),
    "ClusterUnreachable": (_own("ClusterUnreachable", ("{cluster}", "{server}", "{reason}"), _zone, "Zone"),),
    "WorkloadProgressing": (_workload("WorkloadProgressing", "{revision}", "{wanted}"),),
    "WorkloadComplete": (_workload("WorkloadComplete", "{revision}", "{wanted}"),),
    "WorkloadStalled": (_workload("WorkloadStalled", "{revision}", "{reason}"),),
    "WorkloadPaused": (_workload("WorkloadPaused"),),
    "WorkloadAvailable": (_workload("WorkloadAvailable", "{available}", "{wanted}"),),
    "WorkloadDegraded": (_workload("WorkloadDegraded", "{available}", "{wanted}", "{reason}"),),
    "WorkloadUnschedulable": (_workload("WorkloadUnschedulable", "{pods}", "{resource}", "{reason}"),),
    "WorkloadDeleted": (_workload("WorkloadDeleted"),),
    "ServiceAddressAssigned": (_own("ServiceAddressAssigned", (*_SERVICE, "{address}", "{pool}"), _pool, "AddressPool"),),
    "ServicePending": (_own("ServicePending", (*_SERVICE, "{reason}"), _zone, "Zone"),),
    "ServiceAddressWithdrawn": (_own("ServiceAddressWithdrawn", (*_SERVICE, "{address}", "{pool}"), _pool, "AddressPool"),),
    "ServiceAddressMoved": (_own("ServiceAddressMoved", (*_SERVICE, "{address}", "{node}"), _node, "ComputerSystem"),),
    "KubeNodeJoined": (_own("KubeNodeJoined", ("{node}", "{cluster}"), _machine, "ComputerSystem"),),
    "KubeNodeSuspect": (_own("KubeNodeSuspect", ("{node}", "{cluster}", "{reason}"), _machine, "ComputerSystem"),),
    "KubeNodeReturned": (_own("KubeNodeReturned", ("{node}", "{cluster}"), _machine, "ComputerSystem"),),
    "KubeNodeGone": (_own("KubeNodeGone", ("{node}", "{cluster}"), _machine, "ComputerSystem"),),
    "PodAddressMismatch": (_own("PodAddressMismatch", ("{namespace}/{name}", "{cluster}", "{address}", "{reason}"), _zone, "Zone"),),
    "ManagerStarted": (_heartbeat("RedfishServiceStarted", "The manager on {name} works."),),
    "ManagerStopping": (_heartbeat("RedfishServiceShuttingDown", "The manager on {name} was told to end."),),
    # What it says is the client's; `_submitted` makes the message.
    "TestEventSubmitted": (),
}
_PASSWORD = Row(
    "AccountSecurity",
    "PasswordModified",
    ("{account}",),
    "The password of account {account} was changed by {by}.",
    _account,
    "ManagerAccount",
)


def severity_of(row: Row) -> str:
    """Of the message that it tells."""
    return dmtf.message(row.registry, row.name).severity


def messages_of(event: Event) -> tuple[Message, ...]:
    """What an event is told as; nothing for one that has no row."""
    if event.what == "TestEventSubmitted":
        return (_submitted(event),)
    rows = ROWS.get(event.what, ())
    if event.what == "AccountChanged" and "password" in str(event.about["changed"]):
        rows = (_PASSWORD,)
    return tuple(_said(event, row, number) for number, row in enumerate(rows))


def _said(event: Event, row: Row, number: int) -> Message:
    about = event.about
    return Message(
        id=f"{event.position}-{number}" if number else str(event.position),
        position=event.position,
        at=event.at,
        message_id=dmtf.message_id(row.registry, row.name),
        args=tuple(arg.format_map(about) for arg in row.args),
        text=row.text.format_map(about),
        severity=dmtf.message(row.registry, row.name).severity,
        resolution=row.resolution,
        origin=row.origin(about),
        resource_type=row.kind,
    )


def _submitted(event: Event) -> Message:
    about: About = event.about
    return Message(
        id=str(event.position),
        position=event.position,
        at=event.at,
        message_id=about["message"],
        args=tuple(about["args"]),
        text=about["text"] or f"A test of events by {about['by']}.",
        severity=about["severity"] or "OK",
        resolution="None.",
        origin=about["origin"] or EVENT_SERVICE,
        resource_type="" if about["origin"] else "EventService",
    )


def lost(position: int, at: datetime) -> Message:
    """Events were dropped before they could be told: those up to a position."""
    text = "Events that were not delivered were kept no longer, and are lost to this subscriber."
    return _base("EventBufferExceeded", f"{position}-lost", position, at, text, "Base", EVENT_SERVICE, "EventService")


def alive(position: int, at: datetime) -> Message:
    """The service works, though nothing may have happened."""
    text = "The service works."
    return _base("RedfishServiceFunctional", f"heartbeat-{int(at.timestamp())}", position, at, text, "HeartbeatEvent", ROOT, "ServiceRoot")


def _base(name: str, id_: str, position: int, at: datetime, text: str, registry: str, origin: str, kind: str) -> Message:
    severity = dmtf.message(registry, name).severity
    return Message(id_, position, at, dmtf.message_id(registry, name), (), text, severity, "None.", origin, kind)
