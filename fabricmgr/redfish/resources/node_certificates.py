"""Certificates of nodes: by which their agents come in. To delete one is to revoke it (DSP0268, Certificate)."""

from collections.abc import Sequence

from fabricmgr.domain.errors import NotFound
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.redfish.resources.certificates import certificate_body
from fabricmgr.services import identity
from fabricmgr.store.node_rows import Issued


async def _all(ask: Ask) -> list[Issued]:
    cluster, node = ids.system_of(ask.params["system_id"])
    async with ask.database.read() as tx:
        return await identity.certificates_of(tx, cluster, node, ask.now)


async def get(ask: Ask) -> Issued:
    found = next((each for each in await _all(ask) if each.serial == ask.params["certificate_id"]), None)
    if found is None:
        raise NotFound("certificate", ask.params["certificate_id"])
    return found


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    found = [each.serial for each in await _all(ask)]
    return found[skip:][:top], len(found)


def body(found: Issued) -> Json:
    return certificate_body(found.serial, "Certificate of a node's agent", found.pem, "Device")


async def delete(ask: Ask, found: Issued, _version: int | None) -> None:
    cluster, node = ids.system_of(ask.params["system_id"])
    await ask.database.run(lambda tx: identity.revoke_certificate(tx, cluster, node, found.serial, ask.principal.actor, ask.now))


node_certificate = Resource(
    schema="Certificate",
    uri="/redfish/v1/Systems/{system_id}/Certificates/{certificate_id}",
    get=get,
    body=body,
    members=members,
    collection_name="Certificates of the node",
    delete=delete,
    below="ComputerSystem",
)
