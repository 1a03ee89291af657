"""/v1/clusters."""

from datetime import datetime

from fastapi import APIRouter, Response

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Called, Paging, gone
from fabricmgr.domain.errors import NothingToDo
from fabricmgr.domain.names import cluster_name
from fabricmgr.domain.network import Cluster
from fabricmgr.services import clusters

router = APIRouter(tags=["clusters"])


class ClusterCreate(Model):
    name: str


class ClusterChange(Model):
    """A cluster has nothing that can be changed yet."""


class ClusterView(View):
    name: str
    created_at: datetime
    version: int

    @classmethod
    def of(cls, found: Cluster) -> "ClusterView":
        return cls(name=found.name, created_at=found.created_at, version=found.version)


class ClusterPage(View):
    items: list[ClusterView]
    next: str | None


@router.get("/v1/clusters", response_model=ClusterPage)
async def list_clusters(call: Called, page: Paging) -> Response:
    """All clusters, by name."""
    found = await call.read(lambda tx: clusters.list_all(tx, page))
    return call.shown(ClusterPage(items=[ClusterView.of(each) for each in found.items], next=found.next))


@router.post("/v1/clusters", response_model=ClusterView, status_code=201)
async def create_cluster(call: Called, body: ClusterCreate) -> Response:
    """Make a cluster."""
    name = cluster_name(body.name, "name")
    made = await call.run(lambda tx: clusters.create(tx, name, call.by, call.now))
    return call.shown(ClusterView.of(made), made.version, location=f"/v1/clusters/{name}")


@router.get("/v1/clusters/{cluster}", response_model=ClusterView)
async def show_cluster(call: Called, cluster: str) -> Response:
    """One cluster."""
    found = await call.read(lambda tx: clusters.get(tx, cluster_name(cluster)))
    return call.shown(ClusterView.of(found), found.version)


@router.patch("/v1/clusters/{cluster}", response_model=ClusterView)
async def change_cluster(call: Called, cluster: str, body: ClusterChange) -> Response:
    """Nothing of a cluster can be changed: always 404 or 400."""
    del body
    await call.read(lambda tx: clusters.get(tx, cluster_name(cluster)))
    raise NothingToDo("no field")


@router.delete("/v1/clusters/{cluster}", status_code=204)
async def delete_cluster(call: Called, cluster: str) -> Response:
    """Remove an empty cluster."""
    await call.run(lambda tx: clusters.delete(tx, cluster_name(cluster), call.by, call.now))
    return gone()
