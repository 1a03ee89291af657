"""Why a pool was taken for a pod or a Service, or not: told by the function that decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fabricmgr.domain.errors import Invalid, NotFound
from fabricmgr.domain.kube import ALLOWED, POOL, KubeNamespace
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.network import Decide, Network
from fabricmgr.domain.page import LARGEST_LIMIT, Page
from fabricmgr.domain.pool import Pool, PoolFilter, Purpose
from fabricmgr.domain.selectors import Decision, Kind, Subject, decide
from fabricmgr.kube.client import Client
from fabricmgr.kube.views import SERVICES, Service
from fabricmgr.services import kube_pods, pools
from fabricmgr.store import cluster_rows, kube_rows, network_rows, pool_rows
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class PoolReason:
    """Of one pool. place: 1 is asked first; 0: not taken. free: addresses by family (4, 6) that may be allocated now."""

    pool: str
    taken: bool
    place: int
    why: str
    free: Mapping[int, int]


@dataclass(frozen=True)
class Explanation:
    """network: of a pod; empty for a Service. decides: who chooses the address, and why. refused: why there is none at all."""

    network: str
    decides: str
    refused: str
    pools: tuple[PoolReason, ...]


async def pod(tx: Tx, cluster: ClusterName, namespace: str, name: str, now: datetime) -> list[Explanation]:
    """For each network of the cluster. Raises NotFound: also for a pod that the API server has not shown yet."""
    found = await cluster_rows.get(tx, cluster)
    shown = await kube_rows.pod(tx, found.id, namespace, name)
    if shown is None:
        raise NotFound("pod", f"{namespace}/{name}")
    who = kube_pods.judge(await kube_pods.known(tx, found.id, shown.node, namespace, name), shown.node, shown.uid)
    around = who.namespace or KubeNamespace(namespace, "")
    told = []
    for network in await network_rows.of_cluster(tx, found.id):
        decides = who_decides(network, around)
        ignored = POOL in shown.annotations and not who.chooses
        note = f"; its own annotation {POOL} is passed over, since its namespace has no label {ALLOWED}=allowed" if ignored else ""
        told.append(await _explained(tx, network, who.subject(), decides + note, now))
    return told


def who_decides(network: Network, namespace: KubeNamespace) -> str:
    """For people."""
    decide, namespaces = network.decided
    if decide is Decide.MANAGER:
        return "the manager, as the network says"
    if namespace.name in network.namespaces:
        return "the manager, since the network names this namespace"
    if namespace.name in namespaces:
        return "the manager, since selectors, labels or annotations of ours lead there"
    return "the node, from the blocks that it holds"


async def _explained(tx: Tx, network: Network, subject: Subject, decides: str, now: datetime) -> Explanation:
    known = await pool_rows.of_names(tx, network.pools)
    ordered = [known[name] for name in network.pools]
    decision = decide(subject, [each.candidate(place) for place, each in enumerate(ordered)])
    return Explanation(network.name, decides, decision.refused, await _reasons(tx, decision, ordered, now))


async def shown_service(client: Client, namespace: str, name: str) -> Service:
    """Asked of the API server now, outside any transaction. Raises NotFound, Invalid, and what the client raises."""
    found = await client.get(SERVICES, namespace, name)
    if found is None:
        raise NotFound("Service", f"{namespace}/{name}")
    if found.spec.type != "LoadBalancer":
        raise Invalid("name", name, "a Service of type LoadBalancer: others ask for no address of ours")
    return found


async def service(
    tx: Tx, cluster: ClusterName, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str], now: datetime
) -> Explanation:
    """For a Service of type LoadBalancer with these labels and annotations. Raises NotFound (cluster)."""
    subject = await service_subject(tx, cluster, namespace, labels, annotations)
    known = await service_pools(tx, cluster)
    decision = decide(subject, [each.candidate() for each in known])
    return Explanation("", "the manager", decision.refused, await _reasons(tx, decision, known, now))


async def service_subject(
    tx: Tx, cluster: ClusterName, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Subject:
    """A Service as deciding wants it. Raises NotFound (cluster)."""
    around = await kube_rows.namespace(tx, (await cluster_rows.get(tx, cluster)).id, namespace)
    return subject_of(around or KubeNamespace(namespace, ""), labels, annotations)


def subject_of(around: KubeNamespace, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Subject:
    """The same for one whose namespace is known."""
    own = annotations.get(POOL, "")
    return Subject(Kind.SERVICE, around.name, around.labels, {}, labels, asked_pool=own, asked_by="Service" if own else "")


async def service_pools(tx: Tx, cluster: ClusterName) -> list[Pool]:
    """Pools for Services that this cluster may use, by name."""
    found = await pools.list_all(tx, PoolFilter(purpose=Purpose.SERVICE), Page(LARGEST_LIMIT))
    return [each for each in found.items if each.cluster in (None, cluster)]


async def _reasons(tx: Tx, decision: Decision, known: Sequence[Pool], now: datetime) -> tuple[PoolReason, ...]:
    free = {str(each.name): await free_of(tx, each, now) for each in known}
    return tuple(
        PoolReason(each.pool, each.taken, each.place, _why(each.why, each.taken, free[each.pool]), free[each.pool])
        for each in decision.reasons
    )


def _why(why: str, taken: bool, free: Mapping[int, int]) -> str:
    full = sorted(family for family, count in free.items() if not count)
    return f"{why}; no free IPv{' and IPv'.join(map(str, full))} address now" if taken and full else why


async def free_of(tx: Tx, pool: Pool, now: datetime) -> dict[int, int]:
    """Addresses by family that may be allocated or claimed now."""
    return {each.family.value: each.free for each in await pools.usage_of(tx, pool, now)}
