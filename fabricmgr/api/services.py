"""/v1/services: Services of type LoadBalancer and the addresses that they have."""

from datetime import datetime

from fastapi import APIRouter, Response

from fabricmgr.api.framework import View
from fabricmgr.api.parts import Called
from fabricmgr.domain.names import cluster_name
from fabricmgr.services import service_addresses
from fabricmgr.services.service_addresses import ServiceView as Found

router = APIRouter(tags=["services"])


class HeldView(View):
    address: str
    pool: str


class ServiceView(View):
    """state: pending or assigned. reason: why it has not what it wants; empty where it has. ports: such as TCP/80."""

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
            addresses=[HeldView(address=str(each.address), pool=each.pool) for each in found.held],
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
