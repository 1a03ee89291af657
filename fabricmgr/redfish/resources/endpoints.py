"""Endpoints: a node's NIC as a place on the fabric (DSP0268, Endpoint)."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_interface

from fabricmgr.domain.errors import Invalid, MissingField, NotFound
from fabricmgr.domain.fabric import Endpoint, EndpointDraft, Nic, Port, safe
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Items, Json, Link, Object, Text
from fabricmgr.redfish.resource import Ask, Made, Resource
from fabricmgr.redfish.resources.fabrics import known
from fabricmgr.services import endpoints, nodes, switches
from fabricmgr.store.tx import Tx

_ENTITY = Object(
    {"EntityType": Text(("NetworkController",)), "EntityRole": Text(("Both",)), "EntityLink": Link((ids.SYSTEMS,))},
    required=("EntityLink",),
)


@dataclass(frozen=True)
class Shown:
    """An endpoint with the switch ports that heard its NIC."""

    endpoint: Endpoint
    ports: list[Port]


async def _shown(tx: Tx, found: Endpoint) -> Shown:
    return Shown(found, await switches.heard(tx, [found.nic.mac] if found.nic is not None else []))


async def get(ask: Ask) -> Shown:
    known(ask.params["fabric_id"])
    async with ask.database.read() as tx:
        return await _shown(tx, await endpoints.get(tx, ask.params["endpoint_id"]))


async def load(ask: Ask, wanted: Sequence[str]) -> Sequence[Shown]:
    async with ask.database.read() as tx:
        found = {each.name: each for each in await endpoints.list_all(tx)}
        for name in wanted:
            if name not in found:
                raise NotFound("endpoint", name)
        heard = await switches.heard(tx, [nic.mac for name in wanted if (nic := found[name].nic) is not None])
    return [Shown(found[name], [port for port in heard if _hears(port, found[name].nic)]) for name in wanted]


def _hears(port: Port, nic: Nic | None) -> bool:
    return nic is not None and str(port.neighbour.get("port_id", "")).lower() == nic.mac.lower()


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    known(ask.params["fabric_id"])
    async with ask.database.read() as tx:
        found = [each.name for each in await endpoints.list_all(tx)]
    return found[skip:][:top], len(found)


def body(shown: Shown) -> Json:
    found = shown.endpoint
    page: Json = {
        "Id": found.name,
        "Name": f"Endpoint {found.name}",
        "Description": found.description or f"NIC {found.interface} of node {found.node}",
        "EndpointProtocol": "Ethernet",
        "Status": {"State": "Enabled", "Health": "OK"} if found.nic is not None else {"State": "Absent"},
        "ConnectedEntities": [_entity(found)],
        "Links": _links(shown),
    }
    details = [] if found.nic is None else [_transport(each) for each in found.nic.addresses]
    return {**page, "IPTransportDetails": details} if details else page


def _entity(found: Endpoint) -> Json:
    entity: Json = {"EntityType": "NetworkController", "EntityRole": "Both"}
    if found.nic is None:
        return entity
    uri = f"{ids.system_uri(found.cluster, found.node)}/EthernetInterfaces/{safe(found.interface)}"
    return {**entity, "EntityLink": ids.reference(uri)}


def _transport(text: str) -> Json:
    address = ip_interface(text)
    if address.version == 4:
        return {"IPv4Address": {"Address": str(address.ip), "SubnetMask": str(address.netmask)}}
    return {"IPv6Address": {"Address": str(address.ip), "PrefixLength": address.network.prefixlen}}


def _links(shown: Shown) -> Json:
    found = shown.endpoint
    zones = [f"{ids.ZONES}/{ids.zone_id(each.cluster, each.zone)}" for each in found.zones] or [f"{ids.ZONES}/Default"]
    links = {**ids.counted("Zones", zones), **ids.counted("AddressPools", [f"{ids.POOLS}/{each}" for each in found.pools])}
    ports = [f"{ids.SWITCHES}/{port.switch}/Ports/{safe(port.name)}" for port in shown.ports]
    return {**links, **ids.counted("ConnectedPorts", ports)} if ports else links


async def create(ask: Ask, given: Json) -> Made:
    known(ask.params["fabric_id"])
    entities = given["ConnectedEntities"]
    if len(entities) != 1:
        raise Invalid("ConnectedEntities", len(entities), "one entity: the NIC that this endpoint is")

    async def use_case(tx: Tx) -> Shown:
        draft = await _draft(tx, given, entities[0]["EntityLink"]["@odata.id"])
        return await _shown(tx, await endpoints.create(tx, draft, ask.principal.actor, ask.now))

    made = await ask.database.run(use_case)
    return Made(made.endpoint.name, made)


async def _draft(tx: Tx, given: Json, link: str) -> EndpointDraft:
    """The NIC is looked up by the id that its URI has; one that is not reported yet is taken by its own name."""
    where = "ConnectedEntities/0/EntityLink/@odata.id"
    system, parted, interface = link.removeprefix(f"{ids.SYSTEMS}/").partition("/EthernetInterfaces/")
    if not parted or not interface or "/" in interface:
        raise Invalid(where, link, "the URI of an EthernetInterface of a system")
    cluster, node = ids.system_of(system)
    nics = [Nic.of(each) for each in (await nodes.get(tx, cluster, node)).interfaces]
    name = next((nic.name for nic in nics if safe(nic.name) == interface), None)
    if name is None:
        raise MissingField(where, f"an interface that node {node} reports")
    return EndpointDraft(given.get("Name") or f"{node}.{safe(name)}", cluster, node, name, given.get("Description", ""))


async def patch(ask: Ask, shown: Shown, given: Json, version: int | None) -> Shown:
    name = shown.endpoint.name

    async def use_case(tx: Tx) -> Shown:
        changed = await endpoints.change(tx, name, given["Description"], version, ask.principal.actor, ask.now)
        return await _shown(tx, changed)

    return await ask.database.run(use_case)


async def delete(ask: Ask, shown: Shown, version: int | None) -> None:
    await ask.database.run(lambda tx: endpoints.delete(tx, shown.endpoint.name, version, ask.principal.actor, ask.now))


endpoint = Resource(
    schema="Endpoint",
    uri="/redfish/v1/Fabrics/{fabric_id}/Endpoints/{endpoint_id}",
    get=get,
    body=body,
    version=lambda shown: shown.endpoint.version,
    members=members,
    load=load,
    collection_name="Endpoints",
    patch=patch,
    patchable=Object({"Description": Text()}),
    delete=delete,
    create=create,
    creatable=Object(
        {
            "Name": Text(),
            "Description": Text(),
            "EndpointProtocol": Text(("Ethernet",)),
            "ConnectedEntities": Items(_ENTITY),
        },
        required=("Name", "ConnectedEntities"),
    ),
)
