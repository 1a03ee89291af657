"""A node's NICs, then the host ends of its pods' links: these may be thousands, so the collection comes in pages."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from uuid import UUID

from fabricmgr.domain.allocation import Allocation, AllocationFilter, AllocationState
from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.fabric import Endpoint, Nic, Port, safe
from fabricmgr.domain.node import Node
from fabricmgr.domain.owner import OwnerKind
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.redfish.resources.systems import node_of
from fabricmgr.services import allocations, endpoints, switches

PAGE = 200
OEM_TYPE = "#FabricMgrEthernetInterface.v1_0_0.EthernetInterface"
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\Z")


@dataclass(frozen=True)
class OfNode:
    """A NIC, with its place on the fabric and the switch ports that heard it."""

    nic: Nic
    endpoint: Endpoint | None
    ports: list[Port]


Shown = OfNode | Allocation


async def get(ask: Ask) -> Shown:
    (found,) = await load(ask, [ask.params["interface_id"]])
    return found


async def load(ask: Ask, wanted: Sequence[str]) -> Sequence[Shown]:
    async with ask.database.read() as tx:
        node = await node_of(tx, ask)
        nics = {safe(nic.name): nic for nic in _nics(node)}
        places = {each.interface: each for each in await endpoints.of_node(tx, node.id)}
        owners = tuple(ids.uuid_of(each, "interface") for each in wanted if each not in nics)
        pods, _ = await allocations.some(tx, _pods(node, owners), 0, len(owners)) if owners else ([], 0)
        heard = await switches.heard(tx, [nics[each].mac for each in wanted if each in nics])
    found: dict[str, Shown] = {str(each.owner): each for each in pods}
    for label, nic in nics.items():
        found[label] = OfNode(nic, places.get(nic.name), [port for port in heard if port.neighbour.get("port_id") == nic.mac])
    for each in wanted:
        if each not in found:
            raise NotFound("interface", each)
    return [found[each] for each in wanted]


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        node = await node_of(tx, ask)
        nics = [safe(nic.name) for nic in _nics(node)]
        here = nics[skip:][:top]
        left = PAGE if top is None else top - len(here)
        pods, total = await allocations.some(tx, _pods(node, None), max(skip - len(nics), 0), left)
    return [*here, *(str(each.owner) for each in pods)], len(nics) + total


def _nics(node: Node) -> list[Nic]:
    return [Nic.of(each) for each in node.interfaces]


def _pods(node: Node, owners: tuple[UUID, ...] | None) -> AllocationFilter:
    return AllocationFilter(cluster=node.cluster, node=node.name, kind=OwnerKind.ATTACHMENT, state=AllocationState.HELD, owners=owners)


def body(shown: Shown) -> Json:
    return _nic_body(shown) if isinstance(shown, OfNode) else _pod_body(shown)


def _nic_body(shown: OfNode) -> Json:
    nic = shown.nic
    page: Json = {
        "Id": safe(nic.name),
        "Name": nic.name,
        "InterfaceEnabled": nic.up,
        "LinkStatus": "LinkUp" if nic.up else "LinkDown",
        "Status": {"State": "Enabled" if nic.up else "Disabled", "Health": "OK"},
        **_addresses([ip_interface(each) for each in nic.addresses]),
        **_mac(nic.mac),
    }
    if nic.mtu:
        page["MTUSize"] = nic.mtu
    links: Json = {}
    if shown.endpoint is not None:
        links |= ids.counted("Endpoints", [f"{ids.ENDPOINTS}/{shown.endpoint.name}"])
    if shown.ports:
        links |= ids.counted("Ports", [f"{ids.SWITCHES}/{port.switch}/Ports/{safe(port.name)}" for port in shown.ports])
    return {**page, "Links": links} if links else page


def _pod_body(found: Allocation) -> Json:
    return {
        "Id": str(found.owner),
        "Name": f"Host end of {found.namespace}/{found.pod}" if found.pod else f"Host end of container {found.container}",
        "EthernetInterfaceType": "Virtual",
        "InterfaceEnabled": True,
        # An agent that finds the link gone reports the address released, and this page goes with it.
        "LinkStatus": "LinkUp",
        "Status": {"State": "Enabled", "Health": "OK"},
        "StatelessAddressAutoConfig": {"IPv4AutoConfigEnabled": False, "IPv6AutoConfigEnabled": False},
        **_addresses([ip_interface(each.address) for each in found.addresses]),
        **_mac(found.mac or ""),
        "Oem": {"FabricMgr": _oem(found)},
    }


def _oem(found: Allocation) -> Json:
    said = {
        "Network": found.network,
        "Container": found.container,
        "Interface": found.ifname,
        "Namespace": found.namespace,
        "Pod": found.pod,
    }
    allocation = f"{ids.POOLS}/{found.addresses[0].pool}/Oem/FabricMgr/Allocations/{found.owner}"
    return {"@odata.type": OEM_TYPE, **{name: value for name, value in said.items() if value}, "Allocation": ids.reference(allocation)}


def _addresses(found: Sequence[IPv4Interface | IPv6Interface]) -> Json:
    four = [{"Address": str(each.ip), "SubnetMask": str(each.netmask)} for each in found if each.version == 4]
    six = [{"Address": str(each.ip), "PrefixLength": each.network.prefixlen} for each in found if each.version == 6]
    return {"IPv4Addresses": four, "IPv6Addresses": six}


def _mac(text: str) -> Json:
    return {"MACAddress": text} if _MAC.match(text) else {}


ethernet_interface = Resource(
    schema="EthernetInterface",
    uri="/redfish/v1/Systems/{system_id}/EthernetInterfaces/{interface_id}",
    get=get,
    body=body,
    members=members,
    load=load,
    page_size=PAGE,
    collection_name="Ethernet interfaces",
)
