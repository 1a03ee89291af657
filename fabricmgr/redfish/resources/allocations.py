"""Allocations of a pool: an OEM collection, since the standard has no word for who holds an address (docs/decisions/0004)."""

from collections.abc import Mapping, Sequence

from fabricmgr.domain.addresses import family_of
from fabricmgr.domain.allocation import Allocation, AllocationFilter, AllocationState, HeldAddress
from fabricmgr.domain.errors import Invalid, NotFound
from fabricmgr.domain.names import PoolName, cluster_name, network_name, node_name, pool_name
from fabricmgr.domain.owner import OwnerKind
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.pages import page_of
from fabricmgr.redfish.resource import Ask, Resource, texts
from fabricmgr.redfish.resources.fabrics import known
from fabricmgr.services import allocations, pools

PAGE = 200
KINDS = {
    OwnerKind.ATTACHMENT: "Attachment",
    OwnerKind.SERVICE: "Service",
    OwnerKind.STATEFULSET: "StatefulSet",
    OwnerKind.DIRECT: "Direct",
}
STATES = {AllocationState.HELD: "Held", AllocationState.RELEASED: "Released"}
_KIND_OF = {shown: kind for kind, shown in KINDS.items()}
_STATE_OF = {shown: state for state, shown in STATES.items()}
_OWNER = ("Kind", "Name", "Cluster", "Node", "Network", "Container", "Namespace", "Pod", "Workload")


async def get(ask: Ask) -> Allocation:
    (found,) = await load(ask, [ask.params["allocation_id"]])
    return found


async def load(ask: Ask, wanted: Sequence[str]) -> Sequence[Allocation]:
    """Raises NotFound for the first that is not of this pool."""
    owners = tuple(ids.uuid_of(each, "allocation") for each in wanted)
    async with ask.database.read() as tx:
        pool = await _pool(ask)
        found, _ = await allocations.some(tx, AllocationFilter(pool=pool, owners=owners), 0, len(owners))
    by_owner = {each.owner: each for each in found}
    for owner in owners:
        if owner not in by_owner:
            raise NotFound("allocation", str(owner))
    return [by_owner[owner] for owner in owners]


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    pool = await _pool(ask)
    try:
        wanted = _wanted(pool, texts(ask))
    except (Invalid, KeyError):
        wanted = AllocationFilter(owners=())  # no allocation has such a value
    async with ask.database.read() as tx:
        found, total = await allocations.some(tx, wanted, skip, PAGE if top is None else top)
    return [str(each.owner) for each in found], total


async def _pool(ask: Ask) -> PoolName:
    known(ask.params["fabric_id"])
    name = pool_name(ask.params["pool_id"])
    async with ask.database.read() as tx:
        return (await pools.get(tx, name)).name


def _wanted(pool: PoolName, given: Mapping[str, str]) -> AllocationFilter:
    """Raises Invalid and KeyError for values that cannot be."""
    owner = {name: given[f"Owner/{name}"] for name in _OWNER if f"Owner/{name}" in given}
    return AllocationFilter(
        pool=pool,
        cluster=cluster_name(owner["Cluster"]) if "Cluster" in owner else None,
        node=node_name(owner["Node"]) if "Node" in owner else None,
        network=network_name(owner["Network"]) if "Network" in owner else None,
        namespace=owner.get("Namespace"),
        pod=owner.get("Pod"),
        workload=owner.get("Workload"),
        state=_STATE_OF[given["State"]] if "State" in given else None,
        kind=_KIND_OF[owner["Kind"]] if "Kind" in owner else None,
        name=owner.get("Name"),
        container=owner.get("Container"),
    )


def body(found: Allocation) -> Json:
    page: Json = {
        "Id": str(found.owner),
        "Name": found.label,
        "Addresses": [_address(each) for each in found.addresses],
        "Owner": _owner(found),
        "State": STATES[found.state],
        "AllocatedAt": found.at.isoformat(timespec="seconds"),
        "Links": {"AddressPool": ids.reference(f"{ids.POOLS}/{found.addresses[0].pool}")},
    }
    if found.mac:
        page["MACAddress"] = found.mac
    if found.released_at is not None:
        page["ReleasedAt"] = found.released_at.isoformat(timespec="seconds")
    if found.node is not None and found.cluster is not None:
        page["Links"]["System"] = ids.reference(ids.system_uri(found.cluster, found.node))
    return page


def _address(held: HeldAddress) -> Json:
    return {"Address": str(held.address), "Family": family_of(held.address).label, "Generation": held.generation}


def _owner(found: Allocation) -> Json:
    said = {
        "Name": found.name,
        "Cluster": found.cluster,
        "Node": found.node,
        "Network": found.network,
        "Container": found.container,
        "Interface": found.ifname,
        "Namespace": found.namespace,
        "Pod": found.pod,
        "Workload": found.workload,
    }
    return {"Kind": KINDS[found.kind], **{name: value for name, value in said.items() if value}}


allocation = Resource(
    schema="FabricMgrAllocation",
    uri="/redfish/v1/Fabrics/{fabric_id}/AddressPools/{pool_id}/Oem/FabricMgr/Allocations/{allocation_id}",
    get=get,
    body=body,
    members=members,
    load=load,
    page_size=PAGE,
    filters=frozenset({"State", *(f"Owner/{name}" for name in _OWNER)}),
    collection_name="Allocations",
)


def page(found: Allocation, pool: str) -> tuple[str, Json]:
    """Where an allocation of a pool is, and what it shows."""
    uri = f"{ids.POOLS}/{pool}/Oem/FabricMgr/Allocations/{found.owner}"
    return uri, page_of(allocation, uri, found)
