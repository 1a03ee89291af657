"""Endpoints: a node's NIC as a place on the fabric. A NIC that nobody named is one too, under a name made of its node's and its own."""

from collections.abc import Iterable
from datetime import datetime

from fabricmgr.domain.errors import AlreadyExists, InUse, NotFound, VersionConflict
from fabricmgr.domain.events import EndpointChanged, EndpointCreated, EndpointDeleted
from fabricmgr.domain.fabric import Endpoint, EndpointDraft, check_description
from fabricmgr.store import endpoint_rows, node_rows
from fabricmgr.store.tx import Tx


async def create(tx: Tx, draft: EndpointDraft, by: str, now: datetime) -> Endpoint:
    """Also for a NIC that its node has not reported yet. Raises NotFound (node), AlreadyExists: of a NIC there is one endpoint."""
    node = await node_rows.get(tx, draft.cluster, draft.node)
    taken = draft.name if await endpoint_rows.find(tx, draft.name) is not None else await endpoint_rows.find_nic(tx, draft)
    if taken is not None:
        raise AlreadyExists("endpoint", taken)
    await endpoint_rows.insert(tx, draft.name, node.id, draft.interface, draft.description, now)
    tx.emit(EndpointCreated(draft.name, draft.cluster, draft.node, draft.interface, by))
    return await get(tx, draft.name)


async def get(tx: Tx, name: str, *, lock: bool = False) -> Endpoint:
    """Raises NotFound."""
    if not name.isprintable():
        raise NotFound("endpoint", name)  # the database takes no NUL
    found = await endpoint_rows.find(tx, name, lock=lock)
    if found is None and name.count("_") >= 2:
        cluster, node, _ = name.split("_", 2)
        found = await endpoint_rows.unnamed(tx, cluster, node, name)
    if found is None:
        raise NotFound("endpoint", name)
    return found


async def list_all(tx: Tx) -> list[Endpoint]:
    """By name."""
    return await endpoint_rows.every(tx)


async def of_node(tx: Tx, node_id: int) -> list[Endpoint]:
    """Of a node's NICs."""
    return await endpoint_rows.every(tx, of_node=node_id)


async def change(tx: Tx, name: str, description: str | None, if_version: int | None, by: str, now: datetime) -> Endpoint:
    """A NIC that nobody named is named by this, as it was called before. Raises NotFound, VersionConflict, Invalid."""
    found = await take(tx, name, if_version)
    if description is None or found.description == description:
        return found
    check_description(description)
    endpoint_id = await claim(tx, found, by, now)
    await endpoint_rows.change(tx, [endpoint_id], description=description)
    tx.emit(EndpointChanged(name, ("description",), by))
    return await get(tx, name)


async def delete(tx: Tx, name: str, if_version: int | None, by: str, now: datetime) -> None:
    """Its NIC, if it is there, belongs to nobody again. Raises NotFound, VersionConflict, InUse for a NIC that nobody named."""
    del now
    found = await take(tx, name, if_version)
    if found.id is None:
        raise InUse("endpoint", name, f"node {found.cluster}/{found.node} reports its NIC {found.interface}")
    if found.zones:
        raise InUse("endpoint", name, f"zone {', '.join(f'{each.cluster}/{each.zone}' for each in found.zones)} holds it")
    await endpoint_rows.delete(tx, found.id)
    tx.emit(EndpointDeleted(name, by))


async def take(tx: Tx, name: str, quoted: int | None) -> Endpoint:
    """Lock it for a change. Raises NotFound, VersionConflict."""
    found = await get(tx, name, lock=True)
    if quoted is not None and quoted != found.version:
        raise VersionConflict("endpoint", name, str(quoted), str(found.version))
    return found


async def claim(tx: Tx, found: Endpoint, by: str, now: datetime) -> int:
    """Its row, made now if it had none. Gives back its id."""
    if found.id is not None:
        return found.id
    made = await endpoint_rows.insert(tx, found.name, found.node_id, found.interface, "", now)
    tx.emit(EndpointCreated(found.name, found.cluster, found.node, found.interface, by))
    return made


async def claim_all(tx: Tx, names: Iterable[str], by: str, now: datetime) -> dict[str, int]:
    """Rows of several, by name; locked in order. Raises NotFound."""
    return {name: await claim(tx, await get(tx, name, lock=True), by, now) for name in sorted(set(names))}
