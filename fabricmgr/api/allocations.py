"""/v1/allocations: who holds what now."""

from datetime import datetime

from fastapi import APIRouter, Response

from fabricmgr.api.framework import View
from fabricmgr.api.parts import Called, Paging
from fabricmgr.domain.addresses import parse_address
from fabricmgr.domain.allocation import Allocation, AllocationFilter, allocation_state
from fabricmgr.domain.names import cluster_name, network_name, node_name, pool_name
from fabricmgr.services import allocations

router = APIRouter(tags=["allocations"])


class HeldView(View):
    address: str
    generation: int
    pool: str


class AllocationView(View):
    """key: the owner's, for /v1/history. owner: in words. state: held, or released where a link may still carry the addresses."""

    key: str
    kind: str
    owner: str
    cluster: str | None
    node: str | None
    network: str | None
    container: str | None
    ifname: str | None
    name: str | None
    namespace: str
    pod: str
    uid: str
    mac: str | None
    addresses: list[HeldView]
    state: str
    at: datetime
    released_at: datetime | None

    @classmethod
    def of(cls, found: Allocation) -> "AllocationView":
        return cls(
            key=str(found.owner),
            kind=found.kind.value,
            owner=found.label,
            cluster=found.cluster,
            node=found.node,
            network=found.network,
            container=found.container,
            ifname=found.ifname,
            name=found.name,
            namespace=found.namespace,
            pod=found.pod,
            uid=str(found.about.get("uid", "")),
            mac=found.mac,
            addresses=[HeldView(address=str(e.address), generation=e.generation, pool=e.pool) for e in found.addresses],
            state=found.state.value,
            at=found.at,
            released_at=found.released_at,
        )


class AllocationPage(View):
    items: list[AllocationView]
    next: str | None


@router.get("/v1/allocations", response_model=AllocationPage)
async def list_allocations(
    call: Called,
    page: Paging,
    pool: str | None = None,
    cluster: str | None = None,
    node: str | None = None,
    network: str | None = None,
    namespace: str | None = None,
    pod: str | None = None,
    address: str | None = None,
    owner: str | None = None,
    state: str | None = None,
) -> Response:
    """Those that match every filter. owner: a key. An unknown name matches nothing."""
    filters = AllocationFilter(
        pool=None if pool is None else pool_name(pool),
        cluster=None if cluster is None else cluster_name(cluster),
        node=None if node is None else node_name(node),
        network=None if network is None else network_name(network),
        namespace=namespace,
        pod=pod,
        address=None if address is None else parse_address(address),
        owner=None if owner is None else allocations.owner_key(owner),
        state=None if state is None else allocation_state(state),
    )
    found = await call.read(lambda tx: allocations.list_all(tx, filters, page))
    return call.shown(AllocationPage(items=[AllocationView.of(each) for each in found.items], next=found.next))
