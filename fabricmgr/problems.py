"""Every error a caller may see, and how HTTP, Redfish and CNI say it. One row an error; nothing else translates."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from fabricmgr.domain import errors as e


class Kind(Enum):
    """What a caller can do about it."""

    CALLER = "caller"  # mend the request
    STATE = "state"  # mend what stands in the way, then ask again
    TRANSIENT = "transient"  # ask again later, unchanged
    BUG = "bug"


@dataclass(frozen=True)
class Problem:
    """http: status code. redfish: message id without registry version (Base.<version>.<redfish>).
    cni: SPEC 1.1.0 code, 100 and up are ours. text: one sentence for people; names of the error's fields in braces.
    args: the Redfish message's arguments, as many as its registry says; templates likewise, {uri} is the resource asked for."""

    http: int
    redfish: str
    cni: int
    kind: Kind
    text: str
    args: tuple[str, ...] = ()

    def say(self, error: e.FabricError) -> str:
        """The sentence, with the error's fields in their places."""
        return self.text.format_map(vars(error))


_C, _S, _T = Kind.CALLER, Kind.STATE, Kind.TRANSIENT

PROBLEMS: Mapping[type[e.FabricError], Problem] = {
    e.Invalid: Problem(400, "PropertyValueError", 7, _C, "{field}: {value!r} is not valid: expected {expected}", ("{field}",)),
    e.UnknownField: Problem(400, "PropertyUnknown", 7, _C, "{field} is not a field here{nearest}; known: {known}", ("{field}",)),
    e.MissingField: Problem(400, "PropertyMissing", 7, _C, "{field} is missing: expected {expected}", ("{field}",)),
    e.MalformedBody: Problem(400, "MalformedJSON", 6, _C, "{where} cannot be read: {reason}"),
    e.UnsupportedMediaType: Problem(
        415, "HeaderInvalid", 6, _C, "Content-Type {given!r} is not taken here: expected {expected}", ("Content-Type",)
    ),
    e.BodyTooLarge: Problem(413, "PayloadTooLarge", 6, _C, "the body is larger than {limit} bytes"),
    e.HeadTooLarge: Problem(431, "HeaderInvalid", 6, _C, "request line and headers are larger than {limit} bytes", ("headers",)),
    e.WrongType: Problem(
        400, "PropertyValueTypeError", 7, _C, "{field}: {value!r} has the wrong type: expected {expected}", ("{value}", "{field}")
    ),
    e.NotInList: Problem(400, "PropertyValueNotInList", 7, _C, "{field}: {value!r} is not one of {allowed}", ("{value}", "{field}")),
    e.NotWritable: Problem(400, "PropertyNotWritable", 7, _C, "{field} cannot be set", ("{field}",)),
    e.NothingToDo: Problem(400, "NoOperation", 7, _C, "the request changes nothing; it may name {writable}"),
    e.NotAcceptable: Problem(406, "HeaderInvalid", 6, _C, "Accept: {given} cannot be met; this is {offered}", ("Accept",)),
    e.QueryUnsupported: Problem(501, "QueryNotSupported", 7, _C, "query parameter {parameter} is not served; served are {supported}"),
    e.QueryInvalid: Problem(
        400,
        "QueryParameterValueFormatError",
        7,
        _C,
        "query parameter {parameter}={value!r}: expected {expected}",
        ("{value}", "{parameter}"),
    ),
    e.ProtocolVersionRefused: Problem(412, "HeaderInvalid", 1, _C, "{header}: {value!r} is not served: expected {expected}", ("{header}",)),
    e.MethodUnknown: Problem(501, "OperationNotAllowed", 4, _C, "there is no method {method}"),
    e.NotFound: Problem(404, "ResourceMissingAtURI", 7, _C, "there is no {kind} {name!r}", ("{uri}",)),
    e.AlreadyExists: Problem(409, "ResourceAlreadyExists", 102, _S, "{kind} {name!r} exists already", ("{kind}", "Name", "{name}")),
    e.InUse: Problem(409, "ResourceInUse", 11, _S, "{kind} {name!r} is in use: {by}"),
    e.VersionConflict: Problem(
        412, "PreconditionFailed", 11, _S, "{kind} {name!r} has changed: version {quoted} was quoted, {current} is current"
    ),
    e.PreconditionRequired: Problem(
        428, "PreconditionRequired", 11, _C, "{name} is changed only with If-Match and the ETag it was read with"
    ),
    e.MethodNotAllowed: Problem(405, "OperationNotAllowed", 4, _C, "{method} is not allowed here; allowed: {allowed}"),
    e.PrefixOverlap: Problem(
        409,
        "PropertyValueResourceConflict",
        7,
        _S,
        "prefix {prefix} overlaps {other} of pool {pool!r}",
        ("Prefix", "{prefix}", "/redfish/v1/Fabrics/ethernet/AddressPools/{pool}"),
    ),
    e.ReservationHeld: Problem(409, "ResourceInUse", 7, _S, "reservation {reservation} covers addresses that are held: {held}"),
    e.PoolExhausted: Problem(503, "ResourceExhaustion", 11, _T, "pool {pool!r} has no free {family} address; {hint}", ("{uri}",)),
    e.AddressHeld: Problem(
        409, "PropertyValueResourceConflict", 100, _S, "address {address} is held by {holder}", ("Address", "{address}", "{uri}")
    ),
    e.AddressInNodeBlock: Problem(
        409,
        "PropertyValueResourceConflict",
        100,
        _S,
        "address {address} lies in block {block}, which node {node!r} holds",
        ("Address", "{address}", "{uri}"),
    ),
    e.AddressInTransition: Problem(503, "ResourceInUse", 11, _T, "address {address} lies in block {block}, which is {state}; try again"),
    e.AddressOfFormer: Problem(503, "ResourceInUse", 11, _T, "address {address} of {place} is still with its former pod; try again"),
    e.AddressCooling: Problem(503, "ResourceInUse", 11, _T, "address {address} is cooling until {due:%Y-%m-%dT%H:%M:%S%z}"),
    e.AddressReserved: Problem(
        409,
        "PropertyValueResourceConflict",
        101,
        _S,
        "address {address} is reserved in pool {pool!r}: {reason}",
        ("Address", "{address}", "{uri}"),
    ),
    e.AddressOutside: Problem(400, "PropertyValueOutOfRange", 101, _C, "address {address} lies outside {where}", ("{address}", "Address")),
    e.StaleGeneration: Problem(
        409, "PropertyValueConflict", 7, _S, "generation {quoted} is old: {current} is current", ("Generation", "Generation")
    ),
    e.StaleClaim: Problem(
        409, "PropertyValueConflict", 7, _S, "claim {quoted} on block {block} is old: {current} is current", ("Claim", "Claim")
    ),
    e.OwnerKeyClash: Problem(409, "ResourceAlreadyExists", 102, _S, "owner key {key} belongs to another owner", ("owner", "key", "{key}")),
    e.Unauthenticated: Problem(401, "NoValidSession", 11, _C, "not authenticated: {reason}"),
    e.Forbidden: Problem(403, "InsufficientPrivilege", 11, _C, "{who} lacks the privilege: {need}"),
    e.PasswordChangeRequired: Problem(
        403,
        "PasswordChangeRequired",
        11,
        _C,
        "account {account!r} must change its password first",
        ("/redfish/v1/AccountService/Accounts/{account}",),
    ),
    e.LockedOut: Problem(
        401, "NoValidSession", 11, _T, "too many wrong passwords for {account!r} from here; locked until {until:%H:%M:%S}"
    ),
    e.TokenRefused: Problem(403, "InsufficientPrivilege", 11, _C, "enrolment token for node {node!r} refused: {reason}"),
    e.ClockSkew: Problem(
        400,
        "PropertyValueError",
        7,
        _S,
        "the clock of node {node!r} says {node_time:%Y-%m-%dT%H:%M:%S%z}, the manager's {manager_time:%Y-%m-%dT%H:%M:%S%z}: "
        "more than {limit_seconds} s apart; set the clocks first",
        ("now",),
    ),
    e.LifeRefused: Problem(
        409,
        "ResourceInUse",
        11,
        _S,
        "node {node!r} has an agent already: {living} spoke {seen_seconds_ago} s ago; stop one of the two",
    ),
    e.MachineRefused: Problem(
        403,
        "InsufficientPrivilege",
        11,
        _S,
        "the certificate of node {node!r} was made for machine {enrolled}, this is machine {machine_id}: "
        "enrol this machine as a node of its own",
    ),
    e.HelloRequired: Problem(409, "ResourceInUse", 11, _T, "node {node!r} must say hello first: {reason}"),
    e.ReportGap: Problem(
        409, "PropertyValueConflict", 11, _T, "report {number} of node {node!r} came too early: {expected} is missing", ("number", "number")
    ),
    e.NodeIsGone: Problem(409, "ResourceInUse", 11, _S, "node {node!r} was declared gone; enrol it again with a new token"),
    e.ManagerUnavailable: Problem(503, "ServiceTemporarilyUnavailable", 11, _T, "the manager at {url} cannot be reached: {reason}", ("1",)),
    e.Busy: Problem(
        503, "ServiceTemporarilyUnavailable", 11, _T, "{what} is busy; try again in {retry_after_seconds} s", ("{retry_after_seconds}",)
    ),
    e.DatabaseUnavailable: Problem(503, "ServiceTemporarilyUnavailable", 11, _T, "the database cannot be used now: {reason}", ("1",)),
    e.DatabaseUnsuitable: Problem(503, "ServiceTemporarilyUnavailable", 11, _S, "this database cannot be used: {reason}; {remedy}", ("1",)),
    e.DestinationRefused: Problem(
        400, "PropertyValueError", 7, _C, "destination {destination} {reason} (setting outbound_allow)", ("Destination",)
    ),
    e.SettingRefused: Problem(
        400, "PropertyValueError", 7, _C, "setting {setting}: {value!r} is not valid: expected {expected}", ("{setting}",)
    ),
    e.UnknownSetting: Problem(
        400, "PropertyUnknown", 7, _C, "{source} names the setting {setting!r}, which does not exist{nearest}", ("{setting}",)
    ),
    e.CniVersionRefused: Problem(400, "PropertyValueError", 1, _C, "cniVersion {version!r} is not served: {reason}", ("cniVersion",)),
    e.CniFieldRefused: Problem(400, "PropertyValueError", 2, _C, "{field}: {value} is not served: {reason}", ("{field}",)),
    e.CniEnvironment: Problem(400, "PropertyValueError", 4, _C, "{problems}", ("CNI",)),
    e.CniFrameRefused: Problem(400, "MalformedJSON", 5, _C, "the plugin's call cannot be read: {reason}"),
    e.CniDecode: Problem(400, "MalformedJSON", 6, _C, "the network configuration on stdin cannot be read: {reason}"),
    e.CniConfiguration: Problem(400, "PropertyValueError", 7, _C, "the network configuration cannot work: {reason}", ("configuration",)),
    e.NamespaceMissing: Problem(404, "ResourceMissingAtURI", 3, _C, "network namespace {path} does not exist", ("{uri}",)),
    e.NamespaceRefused: Problem(400, "PropertyValueError", 8, _C, "network namespace {path} cannot be used: {reason}", ("CNI_NETNS",)),
    e.AttachmentExists: Problem(
        409,
        "ResourceAlreadyExists",
        102,
        _S,
        "container {container!r} has {ifname!r} on network {network!r} already; DEL it first",
        ("attachment", "ifname", "{ifname}"),
    ),
    e.InterfaceExists: Problem(
        409,
        "ResourceAlreadyExists",
        103,
        _S,
        "interface {ifname!r} exists already in namespace {namespace}",
        ("interface", "ifname", "{ifname}"),
    ),
    e.KernelRefused: Problem(500, "InternalError", 110, _S, "the kernel refused at step {step}: {reason} (errno {errno})"),
    e.CheckFailed: Problem(409, "ResourceInUse", 111, _S, "{what} differs: expected {expected}, observed {observed}"),
    e.AgentNotReady: Problem(503, "ServiceTemporarilyUnavailable", 50, _T, "this node cannot attach pods now: {reason}", ("1",)),
    e.RunningPodsSuffer: Problem(503, "ServiceTemporarilyUnavailable", 51, _T, "pods on this node may not reach others: {reason}", ("1",)),
    e.AgentAway: Problem(
        503, "ServiceTemporarilyUnavailable", 11, _T, "the fabricmgr agent on this node does not answer: {reason}", ("1",)
    ),
    e.JournalUnusable: Problem(
        503, "ServiceTemporarilyUnavailable", 11, _T, "the agent's journal {path} cannot be written: {reason}", ("1",)
    ),
    e.NotEnrolled: Problem(
        503,
        "ServiceTemporarilyUnavailable",
        11,
        _S,
        "this node is not enrolled ({directory}: {reason}); run `fabricmgr agent join` with a token of `fabricmgr node add`",
        ("1",),
    ),
    e.ManagerRefused: Problem(409, "ResourceInUse", 11, _S, "the manager refused: {message}"),
    e.KubeconfigRefused: Problem(400, "PropertyValueError", 7, _C, "kubeconfig: {field}: {reason}", ("Kubeconfig",)),
    e.ApiUnreachable: Problem(503, "ServiceTemporarilyUnavailable", 11, _T, "the API server {server} cannot be reached: {reason}", ("5",)),
    e.ApiUntrusted: Problem(
        400, "PropertyValueError", 11, _S, "the certificate of the API server {server} is not trusted: {reason}", ("Kubeconfig",)
    ),
    e.ApiUnauthorized: Problem(
        400,
        "PropertyValueError",
        11,
        _S,
        "the API server {server} does not accept the token or certificate: wrong or expired",
        ("Kubeconfig",),
    ),
    e.ApiRefused: Problem(409, "ResourceInUse", 11, _S, "the API server does not allow us to {verb} {resource}: {reason}"),
    e.ApiRejected: Problem(409, "ResourceInUse", 11, _S, "the API server rejected our {verb} of {resource}: {reason}"),
    e.ApiAbsent: Problem(404, "ResourceMissingAtURI", 11, _S, "the API server has no {resource} {name!r}", ("{uri}",)),
    e.ApiConflict: Problem(409, "ResourceInUse", 11, _T, "{resource} {name!r} was changed by somebody else meanwhile: {reason}"),
    e.ApiTooMany: Problem(
        503,
        "ServiceTemporarilyUnavailable",
        11,
        _T,
        "the API server {server} is busy; it wants us to wait {retry_after} s",
        ("{retry_after}",),
    ),
    e.ApiTooOld: Problem(
        400, "PropertyValueError", 7, _S, "the API server has version {version}; the oldest that is served is {oldest}", ("Kubeconfig",)
    ),
    e.PodElsewhere: Problem(
        403, "InsufficientPrivilege", 11, _S, "pod {pod} runs on node {shown!r}: node {node!r} gets no addresses for it"
    ),
    e.PoolRefused: Problem(409, "ResourceInUse", 11, _S, "{subject} gets no address: {reason}"),
    e.RangeMeetsPool: Problem(
        409,
        "PropertyValueResourceConflict",
        7,
        _S,
        "the {kind} range {range} of cluster {cluster!r} meets prefix {prefix} of pool {pool!r}",
        ("Range", "{range}", "/redfish/v1/Fabrics/ethernet/AddressPools/{pool}"),
    ),
}

BUG = Problem(500, "InternalError", 999, Kind.BUG, "an internal error occurred; the log of the manager has it under this request's id")


def problem_of(error: e.FabricError) -> Problem:
    """The row of an error, or its nearest ancestor's."""
    for cls in type(error).__mro__:
        if cls in PROBLEMS:
            return PROBLEMS[cls]
    return BUG


def sentence(error: e.FabricError) -> str:
    """The one sentence that every edge shows for an error."""
    return problem_of(error).say(error)
