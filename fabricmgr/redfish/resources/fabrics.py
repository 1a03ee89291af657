"""The fabric: one Ethernet fabric, which all pools belong to (DSP0268, Fabric)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fabricmgr.domain.errors import NotFound
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.redfish.resources.managers import managed_by

ETHERNET = "ethernet"


@dataclass(frozen=True)
class Fabric:
    """managed: the link to its managers."""

    name: str
    managed: Json = field(default_factory=dict)


def known(name: str) -> Fabric:
    """The fabric of that id. Raises NotFound."""
    if name != ETHERNET:
        raise NotFound("fabric", name)
    return Fabric(name)


async def get(ask: Ask) -> Fabric:
    found = known(ask.params["fabric_id"])
    async with ask.database.read() as tx:
        return Fabric(found.name, await managed_by(tx))


async def members(_ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    every = [ETHERNET]
    return every[skip:][:top], len(every)


def body(fabric: Fabric) -> Json:
    uri = f"/redfish/v1/Fabrics/{fabric.name}"
    return {
        "Id": fabric.name,
        "Name": "Ethernet fabric",
        "FabricType": "Ethernet",
        "Status": {"State": "Enabled", "Health": "OK"},
        "AddressPools": {"@odata.id": f"{uri}/AddressPools"},
        "Endpoints": {"@odata.id": f"{uri}/Endpoints"},
        "Switches": {"@odata.id": f"{uri}/Switches"},
        "Zones": {"@odata.id": f"{uri}/Zones"},
        "Links": fabric.managed,
    }


fabric = Resource(schema="Fabric", uri="/redfish/v1/Fabrics/{fabric_id}", get=get, body=body, members=members, collection_name="Fabrics")
