"""Switches and what is counted of them, as their driver last saw them (DSP0268, Switch and SwitchMetrics)."""

from collections.abc import Sequence
from dataclasses import dataclass

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.fabric import Switch
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.redfish.resources.fabrics import known
from fabricmgr.redfish.resources.managers import managed_by
from fabricmgr.services import switches

OEM_TYPE = "#FabricMgrSwitch.v1_0_0.Switch"


def chassis_id(switch: str) -> str:
    """Of the chassis of a switch."""
    return f"Switch_{switch}"


@dataclass(frozen=True)
class Shown:
    """managed: the link to its managers."""

    switch: Switch
    managed: Json


async def get(ask: Ask) -> Shown:
    known(ask.params["fabric_id"])
    async with ask.database.read() as tx:
        return Shown(await switches.get(tx, ask.params["switch_id"]), await managed_by(tx))


async def load(ask: Ask, wanted: Sequence[str]) -> Sequence[Shown]:
    async with ask.database.read() as tx:
        found = await switches.of_names(tx, wanted)
        managed = await managed_by(tx)
    for each in wanted:
        if each not in found:
            raise NotFound("switch", each)
    return [Shown(found[each], managed) for each in wanted]


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    known(ask.params["fabric_id"])
    async with ask.database.read() as tx:
        found = await switches.names(tx)
    return found[skip:][:top], len(found)


def status(switch: Switch) -> Json:
    """One that cannot be reached keeps its last values."""
    if switch.reachable:
        return {"State": "Enabled", "Health": "OK"}
    return {"State": "UnavailableOffline", "Health": "Warning"}


def inventory(switch: Switch) -> Json:
    """What a switch and its chassis have in common."""
    said = {"Manufacturer": switch.manufacturer, "Model": switch.model, "SerialNumber": switch.serial}
    return {name: value for name, value in said.items() if value}


def body(shown: Shown) -> Json:
    switch = shown.switch
    uri = f"{ids.SWITCHES}/{switch.name}"
    own: Json = {"@odata.type": OEM_TYPE, "ObservedAt": switch.observed_at.isoformat(timespec="seconds"), "Stale": not switch.reachable}
    own |= {"Role": switch.role.capitalize()} if switch.role else {}
    own |= {"Source": switch.source} if switch.source else {}
    return {
        "Id": switch.name,
        "Name": f"Switch {switch.name}",
        "SwitchType": "Ethernet",
        "SupportedProtocols": ["Ethernet"],
        "Status": status(switch),
        **inventory(switch),
        **({"FirmwareVersion": switch.firmware} if switch.firmware else {}),
        "Ports": ids.reference(f"{uri}/Ports"),
        "Metrics": ids.reference(f"{uri}/SwitchMetrics"),
        "Links": {"Chassis": ids.reference(f"{ids.CHASSIS}/{chassis_id(switch.name)}"), **shown.managed},
        "Oem": {"FabricMgr": own},
    }


def metrics_body(shown: Shown) -> Json:
    switch = shown.switch
    page: Json = {"Id": "SwitchMetrics", "Name": f"Metrics of switch {switch.name}"}
    errors = {
        shown: switch.metrics[name]
        for name, shown in (("ecc_corrected", "CorrectableECCErrorCount"), ("ecc_uncorrected", "UncorrectableECCErrorCount"))
        if name in switch.metrics
    }
    return {**page, "InternalMemoryMetrics": {"LifeTime": errors}} if errors else page


switch = Resource(
    schema="Switch",
    uri="/redfish/v1/Fabrics/{fabric_id}/Switches/{switch_id}",
    get=get,
    body=body,
    members=members,
    load=load,
    collection_name="Switches",
)
switch_metrics = Resource(
    schema="SwitchMetrics",
    uri="/redfish/v1/Fabrics/{fabric_id}/Switches/{switch_id}/SwitchMetrics",
    get=get,
    body=metrics_body,
)
