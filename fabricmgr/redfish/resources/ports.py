"""Ports of a switch: link, speed, neighbour and counters (DSP0268, Port and PortMetrics)."""

import re
from collections.abc import Sequence
from functools import lru_cache

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.fabric import Port, safe
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.redfish.resources.fabrics import known
from fabricmgr.services import switches

LINKS = {"up": "LinkUp", "down": "LinkDown", "none": "NoLink"}
KINDS = {"upstream": "UpstreamPort", "downstream": "DownstreamPort", "interswitch": "InterswitchPort", "management": "ManagementPort"}
# What LLDP calls the kinds of ids (IEEE 802.1AB), and the schema's words for them.
ID_KINDS = {"mac": "MacAddr", "ifname": "IfName", "alias": "IfAlias", "local": "LocalAssign", "address": "NetworkAddr"}
NETWORKING = {
    "rx_frames": "RXFrames",
    "tx_frames": "TXFrames",
    "rx_discards": "RXDiscards",
    "tx_discards": "TXDiscards",
    "rx_fcs_errors": "RXFCSErrors",
    "rx_unicast": "RXUnicastFrames",
    "tx_unicast": "TXUnicastFrames",
    "rx_multicast": "RXMulticastFrames",
    "tx_multicast": "TXMulticastFrames",
    "rx_broadcast": "RXBroadcastFrames",
    "tx_broadcast": "TXBroadcastFrames",
}
COUNTERS = {"rx_bytes": "RXBytes", "tx_bytes": "TXBytes", "rx_errors": "RXErrors", "tx_errors": "TXErrors"}
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\Z")


async def get(ask: Ask) -> Port:
    known(ask.params["fabric_id"])
    async with ask.database.look() as tx:
        return await switches.port(tx, ask.params["switch_id"], ask.params["port_id"])


async def load(ask: Ask, wanted: Sequence[str]) -> Sequence[Port]:
    async with ask.database.look() as tx:
        found = {safe(each.name): each for each in await switches.ports(tx, ask.params["switch_id"])}
    for each in wanted:
        if each not in found:
            raise NotFound("port", each)
    return [found[each] for each in wanted]


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    known(ask.params["fabric_id"])
    async with ask.database.look() as tx:
        found = [safe(each) for each in await switches.port_names(tx, ask.params["switch_id"])]
    return found[skip:][:top], len(found)


def body(port: Port) -> Json:
    label = safe(port.name)
    uri = f"{ids.SWITCHES}/{port.switch}/Ports/{label}"
    page: Json = {
        "Id": label,
        "Name": f"Port {port.name}",
        "PortId": port.name,
        "PortProtocol": "Ethernet",
        "LinkNetworkTechnology": "Ethernet",
        "InterfaceEnabled": port.enabled,
        "LinkState": "Enabled" if port.enabled else "Disabled",
        "Status": {"State": "Enabled" if port.enabled else "Disabled", "Health": "OK"},
        "Metrics": ids.reference(f"{uri}/Metrics"),
    }
    page |= {"LinkStatus": LINKS[port.link]} if port.link else {}
    page |= {"PortType": KINDS[port.kind]} if port.kind else {}
    page |= {"MaxFrameSize": port.mtu} if port.mtu is not None else {}
    page |= {"CurrentSpeedGbps": port.speed_mbps / 1000} if port.speed_mbps is not None else {}
    page |= {"MaxSpeedGbps": port.max_speed_mbps / 1000} if port.max_speed_mbps is not None else {}
    ethernet = _ethernet(port)
    return {**page, "Ethernet": ethernet} if ethernet else page


def _ethernet(port: Port) -> Json:
    found: Json = {"AssociatedMACAddresses": [port.mac]} if _MAC.match(port.mac) else {}
    if not port.neighbour:
        return found
    heard = {str(name): str(value) for name, value in port.neighbour.items() if value}
    shown = {"SystemName": heard.get("system_name"), "ManagementAddressIPv4": heard.get("address4")}
    shown |= {
        "ManagementAddressIPv6": heard.get("address6"),
        **_lldp_id("ChassisId", heard, "chassis"),
        **_lldp_id("PortId", heard, "port"),
    }
    return {**found, "LLDPReceive": {name: value for name, value in shown.items() if value}}


def _lldp_id(name: str, heard: dict[str, str], what: str) -> dict[str, str | None]:
    """The schema wants octets in hex, so a name is shown by its bytes (Port, LLDPReceive)."""
    text, kind = heard.get(f"{what}_id"), heard.get(f"{what}_kind", "")
    if text is None:
        return {}
    return {name: text.upper() if kind == "mac" else _octets(text), f"{name}Subtype": ID_KINDS.get(kind)}


@lru_cache(maxsize=4096)
def _octets(text: str) -> str:
    return ":".join(f"{byte:02X}" for byte in text.encode())


def metrics_body(port: Port) -> Json:
    found = {shown: port.metrics[name] for name, shown in COUNTERS.items() if name in port.metrics}
    networking = {shown: port.metrics[name] for name, shown in NETWORKING.items() if name in port.metrics}
    page = {"Id": "Metrics", "Name": f"Metrics of port {port.name}", **found}
    return {**page, "Networking": networking} if networking else page


port = Resource(
    schema="Port",
    uri="/redfish/v1/Fabrics/{fabric_id}/Switches/{switch_id}/Ports/{port_id}",
    get=get,
    body=body,
    members=members,
    load=load,
    collection_name="Ports",
)
port_metrics = Resource(
    schema="PortMetrics",
    uri="/redfish/v1/Fabrics/{fabric_id}/Switches/{switch_id}/Ports/{port_id}/Metrics",
    get=get,
    body=metrics_body,
)
