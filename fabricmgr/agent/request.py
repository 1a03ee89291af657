"""A call of the plugin, parsed once into a type that cannot be wrong (CNI SPEC 1.1.0, sections 2 to 4)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from ipaddress import ip_interface

import msgspec

from fabricmgr.agent.frame import Frame
from fabricmgr.agent.result import CniResult
from fabricmgr.agent.stdin import Asked, Configuration, NetworkConfig
from fabricmgr.domain.addresses import Address, parse_address
from fabricmgr.domain.errors import CniConfiguration, CniEnvironment, CniFieldRefused, CniVersionRefused, Invalid
from fabricmgr.domain.names import NetworkName, container_id, interface_name
from fabricmgr.domain.owner import Pod


class Command(Enum):
    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


class Namespace(msgspec.Struct, frozen=True):
    """A network namespace that the caller opened. fd is the server's: it is open while the operation runs and closed before the answer.

    device and inode name the namespace for as long as anything holds it."""

    fd: int
    device: int
    inode: int


class CniRequest(msgspec.Struct, frozen=True):
    """One operation. container and ifname are "" where an operation has none (GC, STATUS, VERSION).

    netns: CNI_NETNS as given, which a result shows as `sandbox`; never opened by us. namespace: None where the operation has none, and at
    DEL also where no link may be touched: the path is gone, is no namespace, or is our own.
    asked: addresses asked for, at most one of each family. mac: asked for, lower case with colons. valid: GC's list of (container, ifname);
    None is no statement. ignored: what lower sources asked for, in words, for the log."""

    command: Command
    config: NetworkConfig
    container: str = ""
    ifname: str = ""
    netns: str = ""
    namespace: Namespace | None = None
    pod: Pod | None = None
    asked: tuple[Address, ...] = ()
    mac: str | None = None
    prev: CniResult | None = None
    valid: frozenset[tuple[str, str]] | None = None
    own_namespace_allowed: bool = False
    ignored: tuple[str, ...] = ()

    @property
    def network(self) -> NetworkName:
        return self.config.name

    @property
    def attachment(self) -> tuple[NetworkName, str, str]:
        """(network, container, ifname): what operations are serialised by, and what the journal is keyed by."""
        return self.config.name, self.container, self.ifname


# What each operation needs (SPEC, section 2; CNI_PATH as the reference library has it, for all but VERSION).
NEEDS: Mapping[Command, tuple[str, ...]] = {
    Command.ADD: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    Command.DEL: ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    Command.CHECK: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    Command.GC: ("CNI_PATH",),
    Command.STATUS: ("CNI_PATH",),
    Command.VERSION: (),
}
# The version that brought an operation.
SINCE: Mapping[Command, str] = {Command.CHECK: "0.4.0", Command.GC: "1.1.0", Command.STATUS: "1.1.0"}
# Keys of CNI_ARGS that we know; any other is an error unless IgnoreUnknown says otherwise.
KNOWN_ARGS = (
    "IgnoreUnknown",
    "IP",
    "MAC",
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_UID",
    "K8S_POD_INFRA_CONTAINER_ID",
)
_YES = ("1", "true")
# A runtime sends the same configuration with every ADD of a network. Bytes; a larger one is read anew each time.
_LARGEST_REMEMBERED = 16 * 1024


def command_of(frame: Frame) -> Command:
    """The operation asked for. Raises CniEnvironment."""
    try:
        return Command(frame.command)
    except ValueError:
        known = ", ".join(each.value for each in Command)
        said = f"CNI_COMMAND {_shown(frame.command)} is unknown: expected one of {known}" if frame.command else "CNI_COMMAND is missing"
        raise CniEnvironment(said) from None


def parse_request(frame: Frame, namespace: Namespace | None = None) -> CniRequest:
    """Parse everything of a call but VERSION, which is answered without looking at anything.

    Raises CniEnvironment with all that is wrong with the variables, CniDecode, CniVersionRefused, CniFieldRefused, CniConfiguration,
    MissingField and Invalid."""
    command = command_of(frame)
    args = _environment(frame, command)
    if command in (Command.DEL, Command.GC):
        return _taking_away(command, frame, namespace)
    remembered = command is Command.ADD and len(frame.stdin) <= _LARGEST_REMEMBERED
    said = (_said_before if remembered else _said)(command, frame.stdin, frame.plugin)
    if command is Command.STATUS:
        return CniRequest(command, said.network)
    asked, mac, ignored = _asked((*said.asked, _asked_by_args(args)))
    return CniRequest(
        command,
        said.network,
        container=frame.container,
        ifname=frame.ifname,
        netns=frame.netns,
        namespace=namespace,
        pod=_pod(args),
        asked=asked,
        mac=mac,
        prev=said.prev,
        own_namespace_allowed=frame.netns_override in _YES,
        ignored=ignored,
    )


@dataclass(frozen=True)
class _Said:
    """What a configuration says to ADD, CHECK or STATUS."""

    network: NetworkConfig
    asked: tuple[Asked, ...] = ()
    prev: CniResult | None = None


def _said(command: Command, stdin: bytes, plugin: str) -> _Said:
    configuration = Configuration(stdin, plugin)
    _refuse_too_old(command, configuration.version)
    configuration.refuse_unserved_mode(configuration.mode(prev_is_anothers=command is Command.ADD))
    network = configuration.network()
    if command is Command.STATUS:
        return _Said(network)
    return _Said(network, configuration.asked(), _prev(command, configuration))


_said_before = lru_cache(maxsize=64)(_said)


def _taking_away(command: Command, frame: Frame, namespace: Namespace | None) -> CniRequest:
    """DEL and GC: whatever else the configuration holds, what it once brought must go."""
    configuration = Configuration(frame.stdin, frame.plugin)
    _refuse_too_old(command, configuration.version)
    network = configuration.bare_network()
    if command is Command.GC:
        return CniRequest(command, network, valid=configuration.valid_attachments())
    return CniRequest(
        command,
        network,
        container=frame.container,
        ifname=frame.ifname,
        netns=frame.netns,
        namespace=namespace,
        own_namespace_allowed=frame.netns_override in _YES,
    )


def _refuse_too_old(command: Command, version: str) -> None:
    since = SINCE.get(command, version)
    if version < since:
        raise CniVersionRefused(version, f"{command.value} exists from {since} on")


def _prev(command: Command, configuration: Configuration) -> CniResult | None:
    prev = configuration.prev()
    if prev is None and command is Command.CHECK:
        raise CniConfiguration("CHECK needs prevResult, the result of the ADD before it")
    return prev


# --- variables -------------------------------------------------------------------------------------------------------


@dataclass
class _Findings:
    """What is wrong with the variables. Everything is found before anything is said."""

    missing: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        missing = [f"{', '.join(self.missing)} missing"] if self.missing else []
        return "; ".join(missing + self.malformed)


def _environment(frame: Frame, command: Command) -> dict[str, str]:
    """Judge all variables together. Gives back CNI_ARGS by key. Raises CniEnvironment."""
    values = {
        "CNI_CONTAINERID": frame.container,
        "CNI_NETNS": frame.netns,
        "CNI_IFNAME": frame.ifname,
        "CNI_PATH": frame.path,
    }
    findings = _Findings(missing=[name for name in NEEDS[command] if not values[name]])
    if "CNI_CONTAINERID" in NEEDS[command]:
        _judge(findings, "CNI_CONTAINERID", frame.container, container_id)
        _judge(findings, "CNI_IFNAME", frame.ifname, interface_name)
    args = _args(frame.args, findings) if command in (Command.ADD, Command.CHECK) else {}
    if findings.missing or findings.malformed:
        raise CniEnvironment(f"{command.value}: {findings.sentence()}")
    return args


def _judge(findings: _Findings, name: str, text: str, rule: Callable[[str], str]) -> None:
    if not text:
        return
    if not _is_text(text):
        findings.malformed.append(f"{name} {_shown(text)} is no UTF-8")
        return
    try:
        rule(text)
    except Invalid as error:
        findings.malformed.append(f"{name} {_shown(text)} is not valid: expected {error.expected}")


def _args(text: str, findings: _Findings) -> dict[str, str]:
    """CNI_ARGS: K=V;K=V. A key we do not know is an error unless IgnoreUnknown says otherwise (the conventions' rule)."""
    if not _is_text(text):
        findings.malformed.append(f"CNI_ARGS {_shown(text)} is no UTF-8")
        return {}
    pairs = [part.partition("=") for part in text.split(";") if part]
    findings.malformed += [f"CNI_ARGS: {key!r} has no value" for key, sign, _ in pairs if not sign]
    args = {key: value for key, sign, value in pairs if sign}
    unknown = [key for key in args if key not in KNOWN_ARGS]
    if unknown and args.get("IgnoreUnknown", "").lower() not in _YES:
        findings.malformed.append(f"CNI_ARGS: {', '.join(map(repr, unknown))} not known, and IgnoreUnknown is not set")
    return args


def _is_text(text: str) -> bool:
    """Whether what came was UTF-8: a frame keeps other bytes as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    """A caller's text in a message: quoted, and not longer than a line."""
    return ascii(text) if len(text) <= 200 else f"{text[:200]!a}…"


def _pod(args: Mapping[str, str]) -> Pod | None:
    """A pod is one only with namespace and UID: Podman sends a name alone, which is a container's."""
    pod = Pod(args.get("K8S_POD_NAMESPACE", ""), args.get("K8S_POD_NAME", ""), args.get("K8S_POD_UID", ""))
    return pod if pod.namespace and pod.uid else None


# --- what is asked for -------------------------------------------------------------------------------------------------


def _asked_by_args(args: Mapping[str, str]) -> Asked:
    ips = tuple(text.strip() for text in args.get("IP", "").split(",") if text.strip())
    return Asked("CNI_ARGS", ips, args.get("MAC", ""))


def _asked(sources: tuple[Asked, ...]) -> tuple[tuple[Address, ...], str | None, tuple[str, ...]]:
    """Addresses, MAC, and what was ignored. Of each, the highest source that speaks counts: the conventions' order."""
    by_address = [(each.source, each.ips) for each in sources if each.ips]
    by_mac = [(each.source, each.mac) for each in sources if each.mac]
    ignored = [f"addresses {', '.join(ips)} of {source}" for source, ips in by_address[1:]]
    ignored += [f"MAC {mac} of {source}" for source, mac in by_mac[1:]]
    addresses = _addresses(*by_address[0]) if by_address else ()
    return addresses, _mac(*by_mac[0]) if by_mac else None, tuple(ignored)


def _addresses(source: str, texts: Iterable[str]) -> tuple[Address, ...]:
    """A prefix length may stand behind an address and is not asked for: in interface mode it is the whole width."""
    found: dict[int, Address] = {}
    for text in texts:
        address = _address(source, text)
        if found.setdefault(address.version, address) != address:
            raise CniFieldRefused(f"{source} ips", f"{found[address.version]}, {address}", "an interface has one address of each family")
    return tuple(found.values())


def _address(source: str, text: str) -> Address:
    name = f"{source} IP" if source == "CNI_ARGS" else f"{source}.ips"
    try:
        ip_interface(text)
        return parse_address(text.partition("/")[0], name)
    except ValueError:
        raise Invalid(name, text, "an IPv4 or IPv6 address, with or without prefix length") from None


def _mac(source: str, text: str) -> str:
    """Lower case, with colons. Refused are group addresses and zero, which no interface may have (IEEE 802, section 8.2)."""
    name = f"{source} MAC" if source == "CNI_ARGS" else f"{source}.mac"
    parts = text.lower().replace("-", ":").split(":")
    if len(parts) != 6 or not all(len(part) == 2 and set(part) <= set("0123456789abcdef") for part in parts):
        raise Invalid(name, text, "a MAC address such as 0a:58:0a:00:00:05")
    if int(parts[0], 16) & 1 or not any(int(part, 16) for part in parts):
        raise Invalid(name, text, "the MAC address of one interface: no group address, not zero")
    return ":".join(parts)
