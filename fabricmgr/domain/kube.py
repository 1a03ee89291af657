"""What an API server shows of a cluster, as far as addresses are concerned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.domain.names import ClusterName

PREFIX = "fabricmgr.io/"
POOL = f"{PREFIX}pool"  # annotation of a pod, a Service or a namespace: take addresses from this pool
ADDRESSES = f"{PREFIX}addresses"  # annotation: these very addresses, at most one of each family
STICKY = f"{PREFIX}sticky"  # annotation of a StatefulSet's pods: an ordinal keeps its address
ALLOWED = f"{PREFIX}pod-pools"  # label of a namespace, with the value `allowed`: its pods may carry annotations of ours
MIRROR = "kubernetes.io/config.mirror"  # annotation of a pod that its node has from a file
KEPT_ANNOTATIONS = (PREFIX, "kubernetes.io/config.")  # of a pod's annotations, those that begin so are kept

FINISHED = frozenset({"Succeeded", "Failed"})


class ApiState(Enum):
    """How far an API server is followed."""

    NEW = "new"
    FOLLOWING = "following"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"


@dataclass(frozen=True)
class ClusterApi:
    """A cluster's API server. It holds no secret. class_less: Services without a class are ours too. progressed_at: of its watches."""

    cluster_id: int
    cluster: ClusterName
    server: str
    in_cluster: bool
    pod_ranges: tuple[Prefix, ...]
    service_ranges: tuple[Prefix, ...]
    server_version: str
    state: ApiState
    reason: str
    progressed_at: datetime | None
    class_less: bool
    version: int


@dataclass(frozen=True)
class KubeNode:
    name: str
    uid: str
    system_uuid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    ready: bool = False
    provider_id: str = ""


@dataclass(frozen=True)
class KubeNamespace:
    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KubePod:
    """node: empty while it is not scheduled. owner: its controller, such as a ReplicaSet."""

    namespace: str
    name: str
    uid: str
    node: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner_kind: str = ""
    owner_name: str = ""
    host_network: bool = False
    phase: str = ""
    addresses: tuple[Address, ...] = ()
    deleting: bool = False
    ready: bool = False

    @property
    def holds_addresses(self) -> bool:
        """Whether the addresses in its status are its own now: a finished pod's were given back, those of one on the host's network are
        its node's."""
        return not self.host_network and self.phase not in FINISHED


def kept_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """Those of a pod that decide something."""
    return {key: value for key, value in annotations.items() if key.startswith(KEPT_ANNOTATIONS)}
