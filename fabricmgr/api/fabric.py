"""/v1/endpoints and /v1/clusters/{cluster}/zones: NICs as places on the fabric, and who belongs together."""

from fastapi import APIRouter, Response
from pydantic import Field

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Called, Paging, gone
from fabricmgr.domain.fabric import Endpoint, EndpointDraft, Zone, ZoneChange
from fabricmgr.domain.names import DEFAULT_CLUSTER, cluster_name, interface_name, node_name, zone_name
from fabricmgr.services import clusters, endpoints, zones

router = APIRouter(tags=["fabric"])


class EndpointCreate(Model):
    """The NIC of a node, which need not be reported yet."""

    name: str
    cluster: str = DEFAULT_CLUSTER
    node: str
    interface: str
    description: str = ""


class EndpointPatch(Model):
    description: str | None = None


class EndpointView(View):
    """claimed: somebody gave it a name or a zone; otherwise it is there as long as its node reports the NIC.

    mac, addresses: as reported."""

    name: str
    cluster: str
    node: str
    interface: str
    mac: str | None
    addresses: list[str]
    claimed: bool
    description: str
    zones: list[str]
    pools: list[str]
    version: int

    @classmethod
    def of(cls, found: Endpoint) -> "EndpointView":
        return cls(
            name=found.name,
            cluster=found.cluster,
            node=found.node,
            interface=found.interface,
            mac=None if found.nic is None else found.nic.mac,
            addresses=[] if found.nic is None else list(found.nic.addresses),
            claimed=found.id is not None,
            description=found.description,
            zones=[f"{each.cluster}/{each.zone}" for each in found.zones],
            pools=list(found.pools),
            version=found.version,
        )


class EndpointPage(View):
    items: list[EndpointView]
    next: str | None


class ZoneCreate(Model):
    """endpoints: those in it. pools: that they take addresses from."""

    name: str
    description: str = ""
    endpoints: list[str] = Field(default_factory=list)
    pools: list[str] = Field(default_factory=list)


class ZonePatch(Model):
    description: str | None = None
    endpoints: list[str] | None = None
    pools: list[str] | None = None


class ZoneView(View):
    name: str
    cluster: str
    description: str
    endpoints: list[str]
    pools: list[str]
    version: int

    @classmethod
    def of(cls, found: Zone) -> "ZoneView":
        return cls(
            name=found.name,
            cluster=found.cluster,
            description=found.description,
            endpoints=list(found.endpoints),
            pools=list(found.pools),
            version=found.version,
        )


class ZonePage(View):
    items: list[ZoneView]
    next: str | None


@router.get("/v1/endpoints", response_model=EndpointPage)
async def list_endpoints(call: Called, page: Paging) -> Response:
    """NICs as places on the fabric, by name; also those that nobody claimed."""
    every = await call.read(endpoints.list_all)
    rest = [each for each in every if page.after is None or each.name > page.after]
    found = page.cut(rest[: page.limit + 1], lambda each: each.name)
    return call.shown(EndpointPage(items=[EndpointView.of(each) for each in found.items], next=found.next))


@router.post("/v1/endpoints", response_model=EndpointView, status_code=201)
async def create_endpoint(call: Called, body: EndpointCreate) -> Response:
    """Name the NIC of a node."""
    place = cluster_name(body.cluster), node_name(body.node), interface_name(body.interface, "interface")
    draft = EndpointDraft(body.name, *place, body.description)
    made = await call.run(lambda tx: endpoints.create(tx, draft, call.by, call.now))
    return call.shown(EndpointView.of(made), made.version, location=f"/v1/endpoints/{made.name}")


@router.get("/v1/endpoints/{endpoint}", response_model=EndpointView)
async def show_endpoint(call: Called, endpoint: str) -> Response:
    """One endpoint."""
    found = await call.read(lambda tx: endpoints.get(tx, endpoint))
    return call.shown(EndpointView.of(found), found.version)


@router.patch("/v1/endpoints/{endpoint}", response_model=EndpointView)
async def change_endpoint(call: Called, endpoint: str, body: EndpointPatch) -> Response:
    """Describe an endpoint."""
    quoted = call.version("endpoint", endpoint)
    changed = await call.run(lambda tx: endpoints.change(tx, endpoint, body.description, quoted, call.by, call.now))
    return call.shown(EndpointView.of(changed), changed.version)


@router.delete("/v1/endpoints/{endpoint}", status_code=204)
async def delete_endpoint(call: Called, endpoint: str) -> Response:
    """Forget the name of a NIC that is in no zone."""
    quoted = call.version("endpoint", endpoint)
    await call.run(lambda tx: endpoints.delete(tx, endpoint, quoted, call.by, call.now))
    return gone()


@router.get("/v1/clusters/{cluster}/zones", response_model=ZonePage)
async def list_zones(call: Called, cluster: str, page: Paging) -> Response:
    """Groups of endpoints in a cluster, by name."""
    where = cluster_name(cluster)
    await call.read(lambda tx: clusters.get(tx, where))
    every = await call.read(lambda tx: zones.of_cluster(tx, where))
    found = page.cut([each for each in every if each.name > (page.after or "")][: page.limit + 1], lambda each: each.name)
    return call.shown(ZonePage(items=[ZoneView.of(each) for each in found.items], next=found.next))


@router.post("/v1/clusters/{cluster}/zones", response_model=ZoneView, status_code=201)
async def create_zone(call: Called, cluster: str, body: ZoneCreate) -> Response:
    """Make a group of endpoints, which may be empty."""
    where, name = cluster_name(cluster), zone_name(body.name, "name")
    wanted = ZoneChange(body.description, tuple(sorted(set(body.endpoints))), tuple(sorted(set(body.pools))))
    made = await call.run(lambda tx: zones.create(tx, where, name, wanted, call.by, call.now))
    return call.shown(ZoneView.of(made), made.version, location=f"/v1/clusters/{cluster}/zones/{made.name}")


@router.get("/v1/clusters/{cluster}/zones/{zone}", response_model=ZoneView)
async def show_zone(call: Called, cluster: str, zone: str) -> Response:
    """One group of endpoints."""
    found = await call.read(lambda tx: zones.get(tx, cluster_name(cluster), zone_name(zone)))
    return call.shown(ZoneView.of(found), found.version)


@router.patch("/v1/clusters/{cluster}/zones/{zone}", response_model=ZoneView)
async def change_zone(call: Called, cluster: str, zone: str, body: ZonePatch) -> Response:
    """Change what is named; a list that is given replaces the one before."""
    where, name, quoted = cluster_name(cluster), zone_name(zone), call.version("zone", zone)
    wanted = ZoneChange(body.description, _names(body.endpoints), _names(body.pools))
    changed = await call.run(lambda tx: zones.change(tx, where, name, wanted, quoted, call.by, call.now))
    return call.shown(ZoneView.of(changed), changed.version)


@router.delete("/v1/clusters/{cluster}/zones/{zone}", status_code=204)
async def delete_zone(call: Called, cluster: str, zone: str) -> Response:
    """Remove a group; its endpoints stay, in no zone."""
    where, name, quoted = cluster_name(cluster), zone_name(zone), call.version("zone", zone)
    await call.run(lambda tx: zones.delete(tx, where, name, quoted, call.by, call.now))
    return gone()


def _names(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(sorted(set(given)))
