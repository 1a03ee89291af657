"""Chassis: one for each node and one for each switch. Ids of switches start with a capital, names of nodes never do."""

from collections.abc import Sequence
from dataclasses import dataclass

from fabricmgr.domain.fabric import Switch
from fabricmgr.domain.node import Node
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.redfish.resources.managers import managed_by
from fabricmgr.redfish.resources.switches import chassis_id, inventory, status
from fabricmgr.redfish.resources.systems import STATUS, all_nodes, node_of
from fabricmgr.services import switches

SWITCH = "Switch_"


@dataclass(frozen=True)
class Shown:
    """managed: the link to its managers."""

    what: Node | Switch
    managed: Json


async def get(ask: Ask) -> Shown:
    name = ask.params["system_id"]
    async with ask.database.read() as tx:
        if name.startswith(SWITCH):
            return Shown(await switches.get(tx, name.removeprefix(SWITCH)), await managed_by(tx))
        return Shown(await node_of(tx, ask), await managed_by(tx))


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        found = [ids.system_id(each.cluster, each.name) for each in await all_nodes(tx)]
        found += [chassis_id(each) for each in await switches.names(tx)]
    return found[skip:][:top], len(found)


def body(shown: Shown) -> Json:
    page = _of_switch(shown.what) if isinstance(shown.what, Switch) else _of_node(shown.what)
    return {**page, "Links": {**page["Links"], **shown.managed}}


def _of_switch(switch: Switch) -> Json:
    return {
        "Id": chassis_id(switch.name),
        "Name": f"Chassis of switch {switch.name}",
        "ChassisType": "Other",
        "Status": status(switch),
        **inventory(switch),
        "Links": ids.counted("Switches", [f"{ids.SWITCHES}/{switch.name}"]),
    }


def _of_node(node: Node) -> Json:
    system = ids.system_id(node.cluster, node.name)
    return {
        "Id": system,
        "Name": f"Chassis of node {node.name}",
        "ChassisType": "Other",
        "Status": STATUS[node.state],
        "Links": ids.counted("ComputerSystems", [f"{ids.SYSTEMS}/{system}"]),
    }


chassis = Resource(schema="Chassis", uri="/redfish/v1/Chassis/{system_id}", get=get, body=body, members=members, collection_name="Chassis")
