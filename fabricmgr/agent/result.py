"""CNI results and errors: one typed form inside, every version's JSON at the edge (CNI SPEC 1.1.0, section 5; older: spec-v0.4.0)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_interface, ip_network

import msgspec

from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.domain.errors import CniConfiguration, FabricError
from fabricmgr.problems import BUG, Problem, problem_of

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = VERSIONS[-1]
# What an error object says when the caller's own version is unknown or not served.
FALLBACK_VERSION = "1.0.0"

_VERSION_KEY = re.compile(rb'"cniVersion"[ \t\r\n]*:[ \t\r\n]*"([0-9.]{1,16})"')


class Interface(msgspec.Struct, frozen=True):
    """sandbox: the namespace's path, "" on the host. mtu, socket_path and pci_id travel from 1.1.0 only."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int | None = None
    socket_path: str = ""
    pci_id: str = ""


class Ip(msgspec.Struct, frozen=True):
    """length: of the prefix that the address is shown with. interface: place in the result's list of interfaces, from 0."""

    address: Address
    length: int
    gateway: Address | None = None
    interface: int | None = None


class Route(msgspec.Struct, frozen=True):
    """gateway None: the container's own link. mtu to scope travel from 1.1.0 only."""

    dst: Prefix
    gateway: Address | None = None
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


@dataclass(frozen=True)
class Dns:
    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class CniResult(msgspec.Struct, frozen=True):
    """What a pod got. Interfaces in this order: bridge, host end, container end; chained plugins rely on it."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[Ip, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Dns = Dns()


# --- writing ---------------------------------------------------------------------------------------------------------


def encode_result(result: CniResult, version: str, dns: Dns | None = None) -> bytes:
    """The result as JSON of a served version. dns: of the configuration; where it says anything, it beats the result's."""
    shown = result.dns if dns is None or dns == Dns() else dns
    document = {
        "cniVersion": version,
        "interfaces": [_interface(each, version) for each in result.interfaces],
        "ips": [_ip(each, version) for each in result.ips],
        "routes": [_route(each, version) for each in result.routes],
        "dns": _kept(vars(shown)),
    }
    return _json(document)


def encode_error(problem: Problem, text: str, version: str, details: str = "") -> bytes:
    """An error object (CNI SPEC 1.1.0, section 5). text must help alone: runtimes drop the code."""
    document: dict[str, object] = {"cniVersion": version, "code": problem.cni, "msg": _text(text)}
    if details:
        document["details"] = _text(details)
    return _json(document)


def encode_refusal(error: FabricError, version: str, details: str = "") -> bytes:
    """The error object of a domain error, by its row in `problems`."""
    problem = problem_of(error)
    return encode_error(problem, problem.say(error), version, details)


def encode_bug(version: str, details: str = "") -> bytes:
    """The error object for what we did not foresee. The agent's log has the rest."""
    return encode_error(BUG, "the fabricmgr agent failed unexpectedly; its log on this node says more", version, details)


def encode_versions() -> bytes:
    """The answer to VERSION. cniVersion is our newest, since the caller's stdin is not read (as the reference plugins do)."""
    return _json({"cniVersion": NEWEST, "supportedVersions": list(VERSIONS)})


def quoted_version(stdin: bytes) -> str:
    """The version an error object quotes, found without decoding: the caller's where it is served, else 1.0.0."""
    found = _VERSION_KEY.search(stdin)
    version = found[1].decode() if found else ""
    return version if version in VERSIONS else FALLBACK_VERSION


def _json(document: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(document) + b"\n"


def _text(text: str) -> str:
    """A path or variable may hold bytes that are no UTF-8, and JSON may not: they are shown escaped."""
    return text.encode(errors="backslashreplace").decode()


def _kept(fields: Mapping[str, object]) -> dict[str, object]:
    """Without what is not said: absent and empty are the same in a result."""
    return {name: value for name, value in fields.items() if value not in (None, "", ())}


def _interface(interface: Interface, version: str) -> dict[str, object]:
    said: dict[str, object] = {"name": interface.name, "mac": interface.mac, "sandbox": _text(interface.sandbox)}
    if version == "1.1.0":
        said |= {"mtu": interface.mtu, "socketPath": interface.socket_path, "pciID": interface.pci_id}
    return _kept(said)


def _ip(ip: Ip, version: str) -> dict[str, object]:
    said: dict[str, object] = {"version": str(ip.address.version)} if version < "1" else {}
    gateway = None if ip.gateway is None else _shown(ip.gateway)
    return _kept(said | {"address": f"{ip.address}/{ip.length}", "gateway": gateway, "interface": ip.interface})


def _route(route: Route, version: str) -> dict[str, object]:
    said: dict[str, object] = {"dst": _shown(route.dst), "gw": None if route.gateway is None else _shown(route.gateway)}
    if version == "1.1.0":
        said |= {name: getattr(route, name) for name in ("mtu", "advmss", "priority", "table", "scope")}
    return _kept(said)


@lru_cache(maxsize=256)
def _shown(routed: Prefix | Address) -> str:
    """As text. Gateways and routes are the same in every result of a network."""
    return str(routed)


# --- reading ---------------------------------------------------------------------------------------------------------


class _Raw(msgspec.Struct, frozen=True, rename="camel"):
    pass


class _RawInterface(_Raw, frozen=True):
    name: str
    mac: str | None = None
    sandbox: str | None = None
    mtu: int | None = None
    socket_path: str | None = None
    pci_id: str | None = msgspec.field(name="pciID", default=None)


class _RawIp(_Raw, frozen=True):
    address: str
    gateway: str | None = None
    interface: int | None = None
    version: str | None = None


class _RawRoute(_Raw, frozen=True):
    dst: str
    gw: str | None = None
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


class RawDns(_Raw, frozen=True):
    """The dns object of a configuration or result, as decoded."""

    nameservers: list[str] | None = None
    domain: str | None = None
    search: list[str] | None = None
    options: list[str] | None = None

    def typed(self) -> Dns:
        return Dns(_tuple(self.nameservers), self.domain or "", _tuple(self.search), _tuple(self.options))


class _RawResult(_Raw, frozen=True):
    interfaces: list[_RawInterface] | None = None
    ips: list[_RawIp] | None = None
    routes: list[_RawRoute] | None = None
    dns: RawDns | None = None


def decode_result(document: bytes, version: str) -> CniResult:
    """Read a result (a prevResult) of a served version. Raises CniConfiguration.

    What a version does not have is not read, so that nothing comes back that its writer could not have meant."""
    try:
        raw = msgspec.json.decode(document, type=_RawResult)
        ips = tuple(_typed_ip(ip, version) for ip in raw.ips or ())
        routes = tuple(_typed_route(route, version) for route in raw.routes or ())
    except (ValueError, RecursionError) as error:
        raise CniConfiguration(f"prevResult is not a result of CNI {version}: {error}") from None
    interfaces = tuple(_typed_interface(interface, version) for interface in raw.interfaces or ())
    if any(ip.interface is not None and not 0 <= ip.interface < len(interfaces) for ip in ips):
        raise CniConfiguration("prevResult names an interface of an address that is not in its list of interfaces")
    return CniResult(interfaces, ips, routes, raw.dns.typed() if raw.dns else Dns())


def _typed_interface(raw: _RawInterface, version: str) -> Interface:
    plain = Interface(raw.name, raw.mac or "", raw.sandbox or "")
    if version != "1.1.0":
        return plain
    return Interface(plain.name, plain.mac, plain.sandbox, raw.mtu, raw.socket_path or "", raw.pci_id or "")


def _typed_ip(raw: _RawIp, version: str) -> Ip:
    whole = ip_interface(raw.address)
    if "/" not in raw.address:
        raise ValueError(f"address {raw.address} has no prefix length")
    if version < "1" and raw.version is not None and raw.version != str(whole.version):
        raise ValueError(f"address {raw.address} is said to be of IP version {raw.version}")
    return Ip(whole.ip, whole.network.prefixlen, ip_address(raw.gateway) if raw.gateway else None, raw.interface)


def _typed_route(raw: _RawRoute, version: str) -> Route:
    plain = Route(ip_network(raw.dst, strict=False), ip_address(raw.gw) if raw.gw else None)
    if version != "1.1.0":
        return plain
    return Route(plain.dst, plain.gateway, raw.mtu, raw.advmss, raw.priority, raw.table, raw.scope)


def _tuple(items: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(items or ())
