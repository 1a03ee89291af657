"""Peers of a workload: its pods that hold addresses now, as the API server shows them."""

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.kube import KubePod
from fabricmgr.domain.names import ClusterName
from fabricmgr.store import cluster_rows, kube_rows
from fabricmgr.store.tx import Tx

_HASH = "pod-template-hash"  # label of a Deployment's pods: the end of their ReplicaSet's name


def workload_of(pod: KubePod) -> tuple[str, str]:
    """Kind and name of what made a pod; of a ReplicaSet that a Deployment made, the Deployment. A lone pod is its own."""
    if not pod.owner_name:
        return "Pod", pod.name
    suffix = f"-{pod.labels.get(_HASH, '')}"
    if pod.owner_kind == "ReplicaSet" and len(suffix) > 1 and pod.owner_name.endswith(suffix):
        return "Deployment", pod.owner_name.removesuffix(suffix)
    return pod.owner_kind, pod.owner_name


async def of_workload(tx: Tx, cluster: ClusterName, namespace: str, name: str, kind: str = "") -> list[KubePod]:
    """By name. kind: such as Deployment; empty: any. Left out are finished pods and those on the host's network, which hold no address of
    their own, and pods that have none yet. Raises NotFound where no pod of such a workload is known."""
    found = await cluster_rows.get(tx, cluster)
    pods = [each for each in await kube_rows.pods(tx, found.id, namespace) if _is(each, name, kind)]
    if not pods:
        raise NotFound("workload", f"{namespace}/{name}")
    return [each for each in pods if each.holds_addresses and each.addresses]


def _is(pod: KubePod, name: str, kind: str) -> bool:
    made_by = workload_of(pod)
    return made_by[1] == name and kind in ("", made_by[0])
