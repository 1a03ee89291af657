"""Managers: this one and its replicas, and what they speak (DSP0268, Manager and ManagerNetworkProtocol)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.replica import Replica
from fabricmgr.redfish.body import Items, Json, Object, Text, patched
from fabricmgr.redfish.ids import counted, reference
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.services import installation, replicas
from fabricmgr.store.tx import Tx

MANAGERS = "/redfish/v1/Managers"


@dataclass(frozen=True)
class Shown:
    """installation: by which clients know the service again, whichever manager answers."""

    replica: Replica
    installation: UUID
    now: datetime


def manager_id(text: str) -> UUID:
    """Of a URI. Raises NotFound."""
    try:
        found = UUID(text)
    except ValueError:
        raise NotFound("manager", text) from None
    if str(found) != text:
        raise NotFound("manager", text)
    return found


async def replica_of(tx: Tx, ask: Ask) -> Replica:
    """The manager that a URI below Managers means. Raises NotFound."""
    return await replicas.get(tx, manager_id(ask.params["manager_id"]))


async def managed_by(tx: Tx) -> Json:
    """The link of what all managers manage alike: those that were heard of in the last week."""
    return counted("ManagedBy", [f"{MANAGERS}/{each.id}" for each in await replicas.list_all(tx)])


async def get(ask: Ask) -> Shown:
    async with ask.database.read() as tx:
        return Shown(await replica_of(tx, ask), await installation.get(tx), ask.now)


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        found = [str(each.id) for each in await replicas.list_all(tx)]
    return found[skip:][:top], len(found)


def body(shown: Shown) -> Json:
    found = shown.replica
    uri = f"{MANAGERS}/{found.id}"
    state: Json = {"State": "Enabled", "Health": "OK"} if found.lives(shown.now) else {"State": "UnavailableOffline", "Health": "Critical"}
    return {
        "Id": str(found.id),
        "Name": f"fabricmgr on {found.host}",
        "ManagerType": "Service",
        "Model": "fabricmgr",
        "FirmwareVersion": found.software,
        "UUID": str(found.id),
        "ServiceEntryPointUUID": str(shown.installation),
        "Status": state,
        "NetworkProtocol": reference(f"{uri}/NetworkProtocol"),
        "LogServices": reference(f"{uri}/LogServices"),
    }


# --- what it speaks --------------------------------------------------------------------------------------------------


async def get_protocol(ask: Ask) -> Replica:
    async with ask.database.read() as tx:
        return await replica_of(tx, ask)


def protocol_body(found: Replica) -> Json:
    """NTP servers are kept for whoever reads them: this machine's clock is its operator's."""
    certificates = f"{MANAGERS}/{found.id}/NetworkProtocol/HTTPS/Certificates"
    return {
        "Id": "NetworkProtocol",
        "Name": f"Protocols of fabricmgr on {found.host}",
        "Status": {"State": "Enabled", "Health": "OK"},
        "HostName": found.host,
        "HTTP": {"ProtocolEnabled": False},
        "HTTPS": {"ProtocolEnabled": True, "Port": found.port, "Certificates": reference(certificates)},
        "NTP": {"ProtocolEnabled": False, "NTPServers": list(found.ntp_servers)},
    }


async def patch_protocol(ask: Ask, found: Replica, given: Json, version: int | None) -> Replica:
    servers = given.get("NTP", {}).get("NTPServers")
    if servers is None:
        return found
    wanted = patched(found.ntp_servers, servers)
    # What {} keeps is what was read: unless the client quoted a version, the one that was read counts.
    quoted = found.version if version is None else version
    return await ask.database.run(lambda tx: replicas.change_ntp(tx, found.id, wanted, quoted, ask.principal.actor, ask.now))


manager = Resource(
    schema="Manager", uri="/redfish/v1/Managers/{manager_id}", get=get, body=body, members=members, collection_name="Managers"
)
network_protocol = Resource(
    schema="ManagerNetworkProtocol",
    uri="/redfish/v1/Managers/{manager_id}/NetworkProtocol",
    get=get_protocol,
    body=protocol_body,
    version=lambda found: found.version,
    patch=patch_protocol,
    patchable=Object({"NTP": Object({"NTPServers": Items(Text(), patched=True)})}),
)
