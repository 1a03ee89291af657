"""What is on the fabric: switches and ports as a driver saw them, endpoints, and the zones that say who belongs together."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.events import Json
from fabricmgr.domain.names import ClusterName, NodeName

_ENDPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,127}\Z")
_SAFE = re.compile(r"[A-Za-z0-9.\-]")
_DESCRIPTION_LENGTH = 200


@dataclass(frozen=True)
class Switch:
    """source: the driver that observes it. metrics: counters by name. role: leaf, spine, or "" where nobody said."""

    id: int
    name: str
    manufacturer: str
    model: str
    serial: str
    firmware: str
    role: str
    reachable: bool
    source: str
    metrics: Mapping[str, Json]
    observed_at: datetime
    version: int


@dataclass(frozen=True)
class Port:
    """link: up, down, none (no partner), or "" where it is not known. kind: upstream, downstream, interswitch, management, or "".

    neighbour: what LLDP heard: chassis_id, chassis_kind, port_id, port_kind, system_name, address4, address6; {}: it was not read."""

    switch: str
    name: str
    place: int
    enabled: bool
    link: str
    speed_mbps: int | None
    max_speed_mbps: int | None
    mtu: int | None
    mac: str
    kind: str
    neighbour: Mapping[str, Json]
    metrics: Mapping[str, Json]
    observed_at: datetime
    version: int


@dataclass(frozen=True)
class Nic:
    """A NIC of a node, as its agent last reported it. addresses: with prefix length."""

    name: str
    mac: str
    mtu: int
    up: bool
    addresses: tuple[str, ...]

    @classmethod
    def of(cls, said: Mapping[str, Json]) -> "Nic":
        """From the node's row."""
        addresses = said.get("addresses")
        found = tuple(str(each) for each in addresses) if isinstance(addresses, list) else ()
        mtu = said.get("mtu")
        return cls(str(said["name"]), str(said.get("mac", "")), mtu if isinstance(mtu, int) else 0, said.get("up") is True, found)


@dataclass(frozen=True)
class ZoneName:
    cluster: ClusterName
    zone: str


@dataclass(frozen=True)
class Endpoint:
    """A node's NIC as a place on the fabric. id: None while nobody gave it a name or a zone: then it is there as long as the NIC is.

    nic: None: the node does not report it now. zones: those it is in. pools: those zones'."""

    id: int | None
    name: str
    node_id: int
    cluster: ClusterName
    node: NodeName
    interface: str
    nic: Nic | None
    description: str = ""
    zones: tuple[ZoneName, ...] = ()
    pools: tuple[str, ...] = ()
    version: int = 0


@dataclass(frozen=True)
class EndpointDraft:
    name: str
    cluster: ClusterName
    node: NodeName
    interface: str
    description: str = ""

    def __post_init__(self) -> None:
        if not _ENDPOINT.match(self.name):
            raise Invalid("Name", self.name, "1 to 128 letters, digits, '.' and '-', starting with a letter or digit")
        check_description(self.description)


@dataclass(frozen=True)
class Zone:
    """endpoints: names of those in it. pools: that its endpoints take addresses from."""

    id: int
    cluster: ClusterName
    name: str
    description: str
    endpoints: tuple[str, ...]
    pools: tuple[str, ...]
    version: int


@dataclass(frozen=True)
class ZoneChange:
    """None leaves it."""

    description: str | None = None
    endpoints: tuple[str, ...] | None = None
    pools: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.description is not None:
            check_description(self.description)


def check_description(text: str) -> None:
    """Raises Invalid."""
    if len(text) > _DESCRIPTION_LENGTH or (text and not text.isprintable()):
        raise Invalid("Description", text, f"at most {_DESCRIPTION_LENGTH} printable characters")


@lru_cache(maxsize=8192)
def safe(name: str) -> str:
    """A name that a kernel or a switch gave, for an id: letters, digits, '.' and '-' stay, '/' becomes '-', else hex behind '_'."""
    return "".join(
        each if _SAFE.match(each) else "-" if each == "/" else "".join(f"_{byte:02X}" for byte in each.encode()) for each in name
    )


def endpoint_name(cluster: str, node: str, interface: str) -> str:
    """Of an endpoint that nobody named. Names that people give have no '_', so the two never meet."""
    return f"{cluster}_{node}_{safe(interface)}"
