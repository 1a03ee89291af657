"""The network configuration on stdin: JSON to typed values, and the refusal of what is known and not served (CNI SPEC 1.1.0, section 1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import msgspec

from fabricmgr.agent.result import VERSIONS, CniResult, Dns, RawDns, decode_result
from fabricmgr.domain.errors import CniConfiguration, CniDecode, CniFieldRefused, CniVersionRefused, Invalid, MissingField
from fabricmgr.domain.names import NetworkName, interface_name, network_name

T = TypeVar("T")


class Mode(Enum):
    """How a configuration uses us, told by `type`, `ipam.type` and `prevResult`. Interface mode alone is served."""

    INTERFACE = "interface"
    DELEGATED = "delegated"  # another plugin makes the link and asks us for addresses
    CHAINED = "chained"  # another plugin has made the link before us


@dataclass(frozen=True)
class NetworkConfig:
    """What a configuration asks for. None: it says nothing, and the network's own settings count.

    default_gateway: True insists on the default routes, False has routes to the cluster's pools in their place, None takes the default
    route where no other interface of the container has it. bridge "": the network's. mtu in bytes."""

    name: NetworkName
    version: str
    type: str
    bridge: str = ""
    mtu: int | None = None
    default_gateway: bool | None = None
    masquerade: bool | None = None
    hairpin: bool = False
    port_isolation: bool = False
    mac_spoof_check: bool = False
    dns: Dns = field(default_factory=Dns)


@dataclass(frozen=True)
class Asked:
    """Texts in which a configuration asks for addresses and a MAC, unparsed: which source counts is decided over all of them."""

    source: str
    ips: tuple[str, ...] = ()
    mac: str = ""


class _Raw(msgspec.Struct, frozen=True, rename="camel"):
    pass


class _RawAttachment(_Raw, frozen=True):
    container_id: str = msgspec.field(name="containerID")
    ifname: str


class _RawHead(_Raw, frozen=True):
    """What every operation reads. DEL and GC read no more, so that nothing else in a configuration can keep a pod from going away."""

    cni_version: str | None = None
    name: str | None = None
    type: str | None = None
    prev_result: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))


class _RawLists(_Raw, frozen=True):
    """GC's list under its name and an earlier one that libcni still sends; UNSET is no statement, null is an empty list."""

    valid: list[_RawAttachment] | msgspec.UnsetType | None = msgspec.field(name="cni.dev/valid-attachments", default=msgspec.UNSET)
    earlier: list[_RawAttachment] | msgspec.UnsetType | None = msgspec.field(name="cni.dev/attachments", default=msgspec.UNSET)


class _RawAsked(_Raw, frozen=True):
    ips: list[str] | None = None
    mac: str | None = None


class _RawArgs(_Raw, frozen=True):
    cni: _RawAsked | None = None


class _RawBody(_Raw, frozen=True):
    bridge: str | None = None
    mtu: int | None = None
    is_gateway: bool | None = None
    is_default_gateway: bool | None = None
    ip_masq: bool | None = None
    hairpin_mode: bool | None = None
    port_isolation: bool | None = None
    macspoofchk: bool | None = None
    dns: RawDns | None = None
    args: _RawArgs | None = None
    ipam: dict[str, object] | None = None
    runtime_config: dict[str, object] | None = None


NOTHING: tuple[object, ...] = (None, "", 0, False, [], {})

# Keys of the bridge plugin that are not served, and the values beside NOTHING that ask for nothing.
UNSERVED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "vlan": ((), "VLANs on the bridge are not built"),
    "vlanTrunk": ((), "VLANs on the bridge are not built"),
    "preserveDefaultVlan": ((True,), "VLANs on the bridge are not built"),
    "promiscMode": ((), "the bridge is not put into promiscuous mode"),
    "forceAddress": ((), "the bridge's own addresses are fixed"),
    "disableContainerInterface": ((), "a container's interface is always brought up"),
    "enabledad": ((), "addresses are unique without duplicate address detection"),
    "ipMasqBackend": (("nftables",), "masquerade is done by nftables"),
}


class Configuration:
    """One configuration from stdin, for one operation. Raises CniDecode, CniVersionRefused, MissingField and Invalid."""

    def __init__(self, stdin: bytes, plugin: str):
        self._stdin = stdin
        self._plugin = plugin
        self._head = self._decode(_RawHead)
        self.version = _served(self._head.cni_version)
        if not self._head.name:
            raise MissingField("name", "the network's name, put in by the runtime")
        self.name = network_name(self._head.name, "name")
        if not self._head.type:
            raise MissingField("type", f"the plugin's file name, {plugin}")

    def _decode(self, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(self._stdin, type=shape)
        except (ValueError, RecursionError) as error:
            raise CniDecode(f"{error}" if self._stdin.strip() else "it is empty") from None

    @property
    def has_prev(self) -> bool:
        return bytes(self._head.prev_result) != b"null"

    def prev(self) -> CniResult | None:
        """The result of the ADD before. Raises CniConfiguration."""
        return decode_result(bytes(self._head.prev_result), self.version) if self.has_prev else None

    def mode(self, prev_is_anothers: bool) -> Mode:
        """prev_is_anothers: at ADD a prevResult comes from a plugin before us; later it is the end of the whole list's own ADD."""
        if self._head.type != self._plugin:
            return Mode.DELEGATED
        return Mode.CHAINED if prev_is_anothers and self.has_prev else Mode.INTERFACE

    def refuse_unserved_mode(self, mode: Mode) -> None:
        """Raises CniFieldRefused or CniConfiguration, by which of the three modes was asked for."""
        ipam = (self._body.ipam or {}).get("type")
        if mode is Mode.DELEGATED and ipam == self._plugin:
            reason = f"addresses for the interfaces of another plugin ({self._head.type}) are not served yet; use type {self._plugin}"
            raise CniFieldRefused("ipam.type", repr(ipam), reason)
        if mode is Mode.DELEGATED:
            raise CniConfiguration(f"type {self._head.type!r} and ipam.type {ipam or ''!r} both name another plugin than {self._plugin}")
        if mode is Mode.CHAINED:
            raise CniConfiguration(f"{self._plugin} stands behind another plugin, which is not served yet; put it first in the list")

    def network(self) -> NetworkConfig:
        """All that is asked for. Raises CniFieldRefused for what is known and not served, Invalid for values that cannot be right."""
        body = self._body
        self._refuse_unserved_keys(body)
        return NetworkConfig(
            name=self.name,
            version=self.version,
            type=self._plugin,
            bridge=interface_name(body.bridge, "bridge") if body.bridge else "",
            mtu=_mtu(body.mtu),
            default_gateway=body.is_default_gateway,
            masquerade=body.ip_masq,
            hairpin=bool(body.hairpin_mode),
            port_isolation=bool(body.port_isolation),
            mac_spoof_check=bool(body.macspoofchk),
            dns=body.dns.typed() if body.dns else Dns(),
        )

    def bare_network(self) -> NetworkConfig:
        """Name and version alone, for operations that take away."""
        return NetworkConfig(name=self.name, version=self.version, type=self._plugin)

    def asked(self) -> tuple[Asked, ...]:
        """What runtimeConfig and args.cni ask for, the one that beats the other first."""
        cni = self._body.args.cni if self._body.args else None
        runtime = _without_case(self._body.runtime_config)
        try:
            first = msgspec.convert(runtime, _RawAsked)
        except ValueError as error:
            raise CniDecode(f"runtimeConfig: {error}") from None
        sources = [("runtimeConfig", first), ("args.cni", cni or _RawAsked())]
        return tuple(Asked(name, tuple(raw.ips or ()), raw.mac or "") for name, raw in sources)

    def valid_attachments(self) -> frozenset[tuple[str, str]] | None:
        """(container id, interface) of every attachment that is to stay, for GC. None: the caller made no statement, nothing is freed."""
        lists = self._decode(_RawLists)
        stated = [each for each in (lists.valid, lists.earlier) if not isinstance(each, msgspec.UnsetType)]
        if not stated:
            return None
        return frozenset((item.container_id, item.ifname) for each in stated for item in each or ())

    @property
    def _body(self) -> _RawBody:
        return self._decode(_RawBody)

    def _refuse_unserved_keys(self, body: _RawBody) -> None:
        keys = self._decode(dict[str, object])
        for key, (harmless, reason) in UNSERVED.items():
            _refuse(key, keys.get(key), harmless, reason)
        if body.is_gateway is False:
            raise CniFieldRefused("isGateway", "false", "a pod reaches everything, its own node included, through the bridge's gateway")
        for key, value in (body.ipam or {}).items():
            ours = (self._plugin,) if key == "type" else ()
            _refuse(f"ipam.{key}", value, ours, "the manager says which pools serve a network; remove ipam")
        for key, value in _without_case(body.runtime_config).items():
            if key not in ("ips", "mac"):
                _refuse(f"runtimeConfig.{key}", value, (), "only the capabilities ips and mac are served")


def _refuse(key: str, value: object, harmless: tuple[object, ...], reason: str) -> None:
    if value not in NOTHING and value not in harmless:
        raise CniFieldRefused(key, msgspec.json.encode(value).decode(), reason)


def _served(version: str | None) -> str:
    """Without a version a configuration is of 0.1.0 (CNI SPEC 0.2.0)."""
    text = version or "0.1.0"
    if text not in VERSIONS:
        raise CniVersionRefused(text, f"supported versions are {', '.join(VERSIONS)}")
    return text


def _mtu(mtu: int | None) -> int | None:
    if not mtu:
        return None
    if not 68 <= mtu <= 65535:
        raise Invalid("mtu", mtu, "68 to 65535 bytes")
    return mtu


def _without_case(keys: Mapping[str, object] | None) -> dict[str, object]:
    """Runtimes spell runtimeConfig's keys as they like (HostPort, hostPort), since Go's decoder does not care."""
    return {key.lower(): value for key, value in (keys or {}).items()}
