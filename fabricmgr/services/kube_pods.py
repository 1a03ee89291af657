"""Who a pod is: read from what the API server shows, and never believed from the node that asks for its addresses."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from fabricmgr.domain.errors import FabricError, PodElsewhere
from fabricmgr.domain.kube import ADDRESSES, ALLOWED, MIRROR, POOL, KubeNamespace, KubePod
from fabricmgr.domain.selectors import Kind, Subject
from fabricmgr.store import kube_rows
from fabricmgr.store.tx import Tx

# What kubelet gives a pod that it has from a file: the hash of its configuration, while the mirror in the API has a UUID of its own.
_HASH = re.compile(r"[0-9a-f]{32}\Z")


@dataclass(frozen=True)
class Shown:
    """What an API server answers when it is asked: None for what it has not."""

    pod: KubePod | None
    namespace: KubeNamespace | None


Ask = Callable[[str, str, str], Awaitable[Shown]]
"""Cluster, namespace and name of a pod. Raises ApiUnreachable and the like; its time-out is its own."""


@dataclass(frozen=True)
class Known:
    """What our rows say of a pod, its namespace and the node that asks."""

    pod: KubePod | None
    namespace: KubeNamespace | None
    node_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Who:
    """Of whom addresses are asked. pod: None where the API server does not show it, and for pods that a node has from a file."""

    pod: KubePod | None
    namespace: KubeNamespace | None
    node_labels: Mapping[str, str]

    @property
    def chooses(self) -> bool:
        """Whether annotations of the pod count: its namespace carries the label that allows it."""
        return self.pod is not None and self.namespace is not None and self.namespace.labels.get(ALLOWED) == "allowed"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Texts of the addresses that it asks for by annotation."""
        given = self.pod.annotations.get(ADDRESSES, "") if self.pod is not None and self.chooses else ""
        return tuple(each.strip() for each in given.split(",") if each.strip())

    def subject(self) -> Subject:
        """As deciding wants it."""
        if self.pod is None:
            return Subject(Kind.POD, node_labels=self.node_labels)
        namespace = self.namespace or KubeNamespace(self.pod.namespace, "")
        of_pod = self.pod.annotations.get(POOL, "") if self.chooses else ""
        of_namespace = namespace.annotations.get(POOL, "")
        return Subject(
            Kind.POD,
            self.pod.namespace,
            namespace.labels,
            self.node_labels,
            self.pod.labels,
            asked_pool=of_pod or of_namespace,
            asked_by="pod" if of_pod else "namespace" if of_namespace else "",
        )


async def known(tx: Tx, cluster_id: int, node: str, namespace: str, pod: str) -> Known:
    """From our rows."""
    labels = await kube_rows.node_labels(tx, cluster_id, node)
    if not namespace:
        return Known(None, None, labels)
    shown = await kube_rows.pod(tx, cluster_id, namespace, pod)
    return Known(shown, await kube_rows.namespace(tx, cluster_id, namespace), labels)


def must_ask(rows: Known, namespace: str, pod: str, uid: str) -> bool:
    """Whether the API server itself is asked: our rows are a moment behind it."""
    if not namespace or not pod or is_from_file(uid):
        return False
    return rows.namespace is None or rows.pod is None or not rows.pod.node or bool(uid and rows.pod.uid != uid)


def is_from_file(uid: str) -> bool:
    """Whether a UID is kubelet's own, of a static pod."""
    return _HASH.match(uid) is not None


def judge(rows: Known, node: str, uid: str) -> Who:
    """Who it is, once all is known. A mirror of a node's own file counts as not shown: the node may write there what it likes.

    Raises PodElsewhere for a pod of another node."""
    pod = rows.pod
    if pod is None or is_from_file(uid) or MIRROR in pod.annotations or (uid and pod.uid != uid):
        return Who(None, None, rows.node_labels)
    if pod.node and pod.node != node:
        raise PodElsewhere(f"{pod.namespace}/{pod.name}", node, pod.node)
    return Who(pod, rows.namespace, rows.node_labels)


async def complete(ask: Ask, rows: Known, cluster: str, namespace: str, pod: str) -> tuple[Known, FabricError | None]:
    """Our rows with what the API server adds to them now; and why it could not be asked."""
    try:
        shown = await ask(cluster, namespace, pod)
    except FabricError as error:
        return rows, error
    return Known(shown.pod, shown.namespace or rows.namespace, rows.node_labels), None
