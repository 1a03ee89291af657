"""/v1/services: Services of type LoadBalancer and the addresses that they have."""

from datetime import datetime

from fastapi import APIRouter, Response

from fabricmgr.api.framework import View
from fabricmgr.api.parts import Called
from fabricmgr.domain.names import cluster_name
from fabricmgr.services import service_addresses
from fabricmgr.services.service_addresses import ServiceView as Found
from fabricmgr.store.announce_rows import Announcement
from fabricmgr.store.service_rows import Holding

router = APIRouter(tags=["services"])


class HeldView(View):
    """announced: unassigned, probing (a node asks the wire) or speaking; node: the one that does. reason: why it is not as it should be.

    conflict: MAC of who else answers for it."""

    address: str
    pool: str
    announced: str
    node: str
    reason: str
    conflict: str

    @classmethod
    def of(cls, held: Holding, found: Announcement | None) -> "HeldView":
        said = found or Announcement(held.address)
        return cls(
            address=str(held.address), pool=held.pool, announced=said.state, node=said.node, reason=said.reason, conflict=said.conflict
        )


class ServiceView(View):
    """state: pending, assigned, moving or leaving (on its way to another address), withdrawing. ports: such as TCP/80.

    reason: why it has not what it wants; empty where it has."""

    namespace: str
    name: str
    state: str
    reason: str
    addresses: list[HeldView]
    sharing_key: str
    ports: list[str]
    assigned_at: datetime | None

    @classmethod
    def of(cls, found: Found) -> "ServiceView":
        row = found.row
        return cls(
            namespace=row.namespace,
            name=row.name,
            state=row.state,
            reason=row.reason,
            addresses=[HeldView.of(each, found.announced.get(each.address)) for each in found.held],
            sharing_key=row.sharing_key,
            ports=list(row.ports),
            assigned_at=row.assigned_at,
        )


class ServiceList(View):
    items: list[ServiceView]


@router.get("/v1/services", response_model=ServiceList)
async def list_services(call: Called, cluster: str = "default", namespace: str = "") -> Response:
    """Services of a cluster that want addresses of ours; of one namespace, or of all."""
    found = await call.read(lambda tx: service_addresses.every(tx, cluster_name(cluster), namespace))
    return call.shown(ServiceList(items=[ServiceView.of(each) for each in found]))


@router.get("/v1/services/{cluster}/{namespace}/{name}", response_model=ServiceView)
async def show_service(call: Called, cluster: str, namespace: str, name: str) -> Response:
    """One of them."""
    found = await call.read(lambda tx: service_addresses.get(tx, cluster_name(cluster), namespace, name))
    return call.shown(ServiceView.of(found))
