"""/v1 for people who run workloads: why a pool is taken, who the peers are, whether a manifest fits."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Called
from fabricmgr.domain.kube import KubePod
from fabricmgr.domain.names import cluster_name
from fabricmgr.services import explain, peers, simulate
from fabricmgr.services.explain import Explanation, PoolReason
from fabricmgr.services.simulate import Simulated

router = APIRouter(tags=["workloads"])


class PoolReasonView(View):
    """place: 1 is asked first; 0: it is not asked. free: addresses by family that may be allocated now."""

    pool: str
    taken: bool
    place: int
    why: str
    free: dict[str, int]

    @classmethod
    def of(cls, found: PoolReason) -> "PoolReasonView":
        free = {f"IPv{family}": count for family, count in found.free.items()}
        return cls(pool=found.pool, taken=found.taken, place=found.place, why=found.why, free=free)


class ExplanationView(View):
    """network: of a pod; empty for a Service. refused: why there is no pool at all; empty where there is one."""

    network: str
    decides: str
    refused: str
    pools: list[PoolReasonView]

    @classmethod
    def of(cls, found: Explanation) -> "ExplanationView":
        pools = [PoolReasonView.of(each) for each in found.pools]
        return cls(network=found.network, decides=found.decides, refused=found.refused, pools=pools)


class ExplanationList(View):
    items: list[ExplanationView]


class PeerView(View):
    name: str
    node: str
    addresses: list[str]
    phase: str
    ready: bool
    deleting: bool

    @classmethod
    def of(cls, found: KubePod) -> "PeerView":
        addresses = [str(each) for each in found.addresses]
        return cls(name=found.name, node=found.node, addresses=addresses, phase=found.phase, ready=found.ready, deleting=found.deleting)


class PeerList(View):
    items: list[PeerView]


class SimulateBody(Model):
    """manifest: YAML or JSON, as kubectl takes it. network: whose pods they are; the cluster's first by name where it is not named."""

    manifest: str
    namespace: str = "default"
    network: str = ""


class TakingView(View):
    pool: str
    family: int
    count: int


class OutcomeView(View):
    object: str
    namespace: str
    fits: bool
    taken: list[TakingView]
    reason: str


class LeftView(View):
    """Addresses that nobody holds, before and after. block: addresses of a block where nodes take whole ones; else 0."""

    pool: str
    family: int
    before: int
    after: int
    block: int


class SimulatedView(View):
    """network: whose pods they were taken for."""

    network: str
    fits: bool
    objects: list[OutcomeView]
    left: list[LeftView]
    passed: list[str]

    @classmethod
    def of(cls, found: Simulated) -> "SimulatedView":
        objects = [
            OutcomeView(
                object=each.what,
                namespace=each.namespace,
                fits=each.fits,
                taken=[TakingView(**vars(one)) for one in each.taken],
                reason=each.reason,
            )
            for each in found.objects
        ]
        left = [LeftView(**vars(each)) for each in found.left]
        return cls(network=found.network, fits=found.fits, objects=objects, left=left, passed=list(found.passed))


@router.get("/v1/clusters/{cluster}/explain/pods/{namespace}/{name}", response_model=ExplanationList)
async def explain_pod(call: Called, cluster: str, namespace: str, name: str) -> Response:
    """Why pools are taken for a pod, or not, for each network of the cluster."""
    found = await call.read(lambda tx: explain.pod(tx, cluster_name(cluster), namespace, name, call.now))
    return call.shown(ExplanationList(items=[ExplanationView.of(each) for each in found]))


@router.get("/v1/clusters/{cluster}/explain/services/{namespace}/{name}", response_model=ExplanationList)
async def explain_service(call: Called, cluster: str, namespace: str, name: str) -> Response:
    """Why pools are taken for a Service of type LoadBalancer, or not."""
    where = cluster_name(cluster)
    shown = await explain.shown_service(await call.parts.apis.client(where), namespace, name)
    found = await call.read(lambda tx: explain.service(tx, where, namespace, shown.labels, shown.annotations, call.now))
    return call.shown(ExplanationList(items=[ExplanationView.of(found)]))


@router.get("/v1/workloads/{cluster}/{namespace}/{name}/peers", response_model=PeerList)
async def list_peers(
    call: Called, cluster: str, namespace: str, name: str, kind: Annotated[str, Query(description="such as Deployment; any")] = ""
) -> Response:
    """The pods of a workload that hold addresses now."""
    found = await call.read(lambda tx: peers.of_workload(tx, cluster_name(cluster), namespace, name, kind))
    return call.shown(PeerList(items=[PeerView.of(each) for each in found]))


@router.post("/v1/clusters/{cluster}/simulate", response_model=SimulatedView)
async def simulate_manifest(call: Called, cluster: str, body: SimulateBody) -> Response:
    """Whether a manifest fits, which pools it takes, and what is left. Nothing changes."""
    where = cluster_name(cluster)
    found = await call.read(lambda tx: simulate.simulate(tx, where, body.network, body.manifest, body.namespace, call.now))
    return call.shown(SimulatedView.of(found))
