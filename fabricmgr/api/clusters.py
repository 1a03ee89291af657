"""/v1/clusters."""

from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import Field

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Call, Called, Paging, gone
from fabricmgr.domain.addresses import Prefix, parse_prefix
from fabricmgr.domain.errors import AlreadyExists, NothingToDo
from fabricmgr.domain.names import ClusterName, cluster_name
from fabricmgr.domain.network import Cluster
from fabricmgr.services import api_servers, clusters
from fabricmgr.services.api_servers import ApiChange, Surveyed
from fabricmgr.store.api_rows import ApiRow
from fabricmgr.store.tx import Tx

router = APIRouter(tags=["clusters"])


class ApiFields(Model):
    """How the cluster's API server is reached. kubeconfig: its text, with inline credentials; it is never shown again.

    pod_ranges, service_ranges: asked of the server where they are not given."""

    kubeconfig: str | None = Field(default=None, repr=False)
    in_cluster: bool | None = None
    pod_ranges: list[str] | None = None
    service_ranges: list[str] | None = None
    class_less: bool | None = None

    def change(self) -> ApiChange:
        """Raises Invalid."""
        pods, services = _prefixes(self.pod_ranges, "pod_ranges"), _prefixes(self.service_ranges, "service_ranges")
        return ApiChange(self.kubeconfig, self.in_cluster, pods, services, self.class_less)


class ClusterCreate(ApiFields):
    name: str


class ClusterChange(ApiFields):
    pass


class ApiView(View):
    """state: new, following, unreachable or refused; reason says why. progressed_at: when the server last told something."""

    server: str
    in_cluster: bool
    server_version: str
    state: str
    reason: str
    progressed_at: datetime | None
    pod_ranges: list[str]
    service_ranges: list[str]
    class_less: bool

    @classmethod
    def of(cls, row: ApiRow) -> "ApiView":
        return cls(
            server=row.server,
            in_cluster=row.in_cluster,
            server_version=row.server_version,
            state=row.state,
            reason=row.reason,
            progressed_at=row.progressed_at,
            pod_ranges=[str(each) for each in row.pod_ranges],
            service_ranges=[str(each) for each in row.service_ranges],
            class_less=row.class_less,
        )


class ClusterView(View):
    """api: its API server, where one is known."""

    name: str
    api: ApiView | None
    created_at: datetime
    version: int

    @classmethod
    def of(cls, found: Cluster, api: ApiRow | None) -> "ClusterView":
        shown = None if api is None else ApiView.of(api)
        return cls(name=found.name, api=shown, created_at=found.created_at, version=found.version)


class ClusterPage(View):
    items: list[ClusterView]
    next: str | None


@router.get("/v1/clusters", response_model=ClusterPage)
async def list_clusters(call: Called, page: Paging) -> Response:
    """All clusters, by name."""

    async def look(tx: Tx) -> ClusterPage:
        found = await clusters.list_all(tx, page)
        apis = await api_servers.of_clusters(tx, [each.name for each in found.items])
        return ClusterPage(items=[ClusterView.of(each, apis.get(each.name)) for each in found.items], next=found.next)

    return call.shown(await call.read(look))


@router.post("/v1/clusters", response_model=ClusterView, status_code=201)
async def create_cluster(call: Called, body: ClusterCreate) -> Response:
    """Make a cluster; with its API server where a kubeconfig is given, or the manager runs in it."""
    name, change = cluster_name(body.name, "name"), body.change()
    said = await _survey(call, name, change) if _names_api(change) else None

    async def make(tx: Tx) -> ClusterView:
        made = await clusters.create(tx, name, call.by, call.now)
        if said is None:
            return ClusterView.of(made, None)
        api = await api_servers.put(tx, name, change, said, call.parts.sealer)
        return ClusterView.of(await clusters.get(tx, name), api)

    made = await call.run(make)
    return call.shown(made, made.version, location=f"/v1/clusters/{name}")


@router.get("/v1/clusters/{cluster}", response_model=ClusterView)
async def show_cluster(call: Called, cluster: str) -> Response:
    """One cluster."""
    shown = await call.read(lambda tx: _show(tx, cluster_name(cluster)))
    # How an API server is followed changes from one moment to the next, and the cluster's version does not say so.
    return call.shown(shown, shown.version if shown.api is None else None)


@router.patch("/v1/clusters/{cluster}", response_model=ClusterView)
async def change_cluster(call: Called, cluster: str, body: ClusterChange) -> Response:
    """Reach its API server in another way, or for the first time; the server is asked before anything changes."""
    name, change = cluster_name(cluster), body.change()
    await call.read(lambda tx: clusters.get(tx, name))
    if not _names_api(change):
        raise NothingToDo("kubeconfig, in_cluster, pod_ranges, service_ranges, class_less")
    said = await _survey(call, name, change)

    async def put(tx: Tx) -> ClusterView:
        await api_servers.put(tx, name, change, said, call.parts.sealer)
        return await _show(tx, name)

    return call.shown(await call.run(put))


@router.delete("/v1/clusters/{cluster}/api", status_code=204)
async def forget_api(call: Called, cluster: str) -> Response:
    """Follow its API server no more, and forget how it was reached."""
    await call.run(lambda tx: api_servers.forget(tx, cluster_name(cluster), call.now))
    return gone()


@router.delete("/v1/clusters/{cluster}", status_code=204)
async def delete_cluster(call: Called, cluster: str) -> Response:
    """Remove an empty cluster."""
    await call.run(lambda tx: clusters.delete(tx, cluster_name(cluster), call.by, call.now))
    return gone()


async def _show(tx: Tx, name: ClusterName) -> ClusterView:
    return ClusterView.of(await clusters.get(tx, name), (await api_servers.of_clusters(tx, [name])).get(name))


async def _survey(call: Call, name: ClusterName, change: ApiChange) -> Surveyed:
    known = await call.read(lambda tx: api_servers.find(tx, name))
    if call.request.method == "POST" and await call.read(lambda tx: clusters.exists(tx, name)):
        raise AlreadyExists("cluster", name)
    return await api_servers.survey(change, call.parts.sealer, call.parts.apis.dial, known)


def _names_api(change: ApiChange) -> bool:
    given = (change.pod_ranges, change.service_ranges, change.class_less)
    return change.names_server or any(each is not None for each in given)


def _prefixes(texts: list[str] | None, field: str) -> tuple[Prefix, ...] | None:
    return None if texts is None else tuple(parse_prefix(text, f"{field}[{place}]") for place, text in enumerate(texts))
