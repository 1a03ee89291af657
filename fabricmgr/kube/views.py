"""What we read of a cluster's objects, kind by kind: the fields that are used, and no other."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fabricmgr.kube.objects import Condition, Kind, Meta, Owner, Part, Selector, View

__all__ = [
    "ATTACHMENT_DEFINITIONS", "DAEMON_SETS", "DEPLOYMENTS", "ENDPOINT_SLICES", "JOBS", "KINDS", "NAMESPACES", "NODES", "PODS",
    "REPLICA_SETS", "SERVICES", "SERVICE_CIDRS", "STATEFUL_SETS", "Condition", "DaemonSet", "DaemonSetStatus", "Deployment",
    "EndpointSlice", "Ingress", "Job", "JobStatus", "Kind", "LoadBalancer", "Meta", "Namespace", "NetworkAttachmentDefinition",
    "Node", "NodeAddress", "Owner", "Pod", "ReplicaSet", "Service", "ServiceCIDR", "ServicePort", "SliceEndpoint", "StatefulSet",
    "Taint", "View", "WorkloadStatus",
]  # fmt: skip


# --- pods ------------------------------------------------------------------------------------------------------------------


class PodAddress(Part, frozen=True):
    ip: str = ""


class PodSpec(Part, frozen=True):
    node_name: str = ""
    host_network: bool = False


class PodStatus(Part, frozen=True):
    """phase: Pending, Running, Succeeded, Failed or Unknown. addresses: what kubelet wrote."""

    phase: str = ""
    reason: str = ""
    pod_ips: list[PodAddress] | None = None
    conditions: list[Condition] | None = None


class Pod(View, frozen=True):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        """As kubelet wrote them, both families."""
        return tuple(entry.ip for entry in self.status.pod_ips or () if entry.ip)

    @property
    def finished(self) -> bool:
        """It runs no more, though its object and the addresses in its status remain."""
        return self.status.phase in ("Succeeded", "Failed")


# --- nodes and namespaces --------------------------------------------------------------------------------------------------


class NodeAddress(Part, frozen=True):
    """type: InternalIP, ExternalIP, Hostname, ..."""

    type: str = ""
    address: str = ""


class NodeInfo(Part, frozen=True):
    system_uuid: str = ""
    kubelet_version: str = ""


class Taint(Part, frozen=True):
    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: datetime | None = None


class NodeSpec(Part, frozen=True):
    provider_id: str = ""
    pod_cidrs: list[str] | None = None
    unschedulable: bool = False
    taints: list[Taint] | None = None


class NodeStatus(Part, frozen=True):
    addresses: list[NodeAddress] | None = None
    node_info: NodeInfo = NodeInfo()
    conditions: list[Condition] | None = None
    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None


class Node(View, frozen=True):
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        return any(found.type == "Ready" and found.status == "True" for found in self.status.conditions or ())


class NamespaceStatus(Part, frozen=True):
    """phase: Active or Terminating."""

    phase: str = ""


class Namespace(View, frozen=True):
    status: NamespaceStatus = NamespaceStatus()

    @property
    def terminating(self) -> bool:
        return self.metadata.deleting or self.status.phase == "Terminating"


# --- services --------------------------------------------------------------------------------------------------------------


class ServicePort(Part, frozen=True):
    """node_port: 0 where there is none."""

    name: str = ""
    protocol: str = "TCP"
    port: int = 0
    node_port: int = 0


class ServiceSpec(Part, frozen=True):
    """type: ClusterIP, NodePort, LoadBalancer or ExternalName. ip_families: IPv4, IPv6."""

    type: str = "ClusterIP"
    ports: list[ServicePort] | None = None
    selector: dict[str, str] | None = None
    cluster_ip: str = ""
    cluster_ips: list[str] | None = None
    external_ips: list[str] | None = None
    load_balancer_ip: str = ""
    load_balancer_class: str | None = None
    ip_families: list[str] | None = None
    ip_family_policy: str | None = None
    external_traffic_policy: str = ""
    health_check_node_port: int = 0
    allocate_load_balancer_node_ports: bool | None = None


class Ingress(Part, frozen=True):
    """An entry of status.loadBalancer.ingress. ip_mode: VIP or Proxy; None where the server or its writer doesn't know it."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str | None = None


class LoadBalancer(Part, frozen=True):
    ingress: list[Ingress] | None = None


class ServiceStatus(Part, frozen=True):
    load_balancer: LoadBalancer = LoadBalancer()
    conditions: list[Condition] | None = None


class Service(View, frozen=True):
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class EndpointConditions(Part, frozen=True):
    """None means unknown, which counts as ready and serving, and as not terminating (discovery.k8s.io/v1)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(Part, frozen=True):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class SliceEndpoint(Part, frozen=True):
    addresses: list[str] | None = None
    conditions: EndpointConditions = EndpointConditions()
    node_name: str | None = None
    target_ref: TargetRef | None = None


class EndpointSlice(View, frozen=True):
    """address_type: IPv4, IPv6 or FQDN."""

    address_type: str = ""
    endpoints: list[SliceEndpoint] | None = None

    @property
    def service(self) -> str:
        """The Service it belongs to, by its label; empty for a slice that nobody claims."""
        return self.labels.get("kubernetes.io/service-name", "")


class ServiceCIDRSpec(Part, frozen=True):
    cidrs: list[str] | None = None


class ServiceCIDR(View, frozen=True):
    """networking.k8s.io/v1, since 1.33. Addresses in it are given to Services as cluster addresses."""

    spec: ServiceCIDRSpec = ServiceCIDRSpec()


# --- workloads -------------------------------------------------------------------------------------------------------------


class PodTemplate(Part, frozen=True):
    metadata: Meta = Meta()


class RollingUpdate(Part, frozen=True):
    """max_unavailable: a number, or a share such as "25%"."""

    max_unavailable: int | str | None = None


class Strategy(Part, frozen=True):
    """type: RollingUpdate or Recreate."""

    type: str = ""
    rolling_update: RollingUpdate | None = None


class Ordinals(Part, frozen=True):
    """Of a StatefulSet: with which number its pods begin."""

    start: int = 0


class WorkloadSpec(Part, frozen=True):
    """Of Deployment, ReplicaSet, StatefulSet. replicas: None where the author left it to an autoscaler; the server makes it 1."""

    replicas: int | None = None
    paused: bool = False
    selector: Selector = Selector()
    template: PodTemplate = PodTemplate()
    progress_deadline_seconds: int | None = None
    strategy: Strategy = Strategy()
    ordinals: Ordinals | None = None

    @property
    def max_unavailable(self) -> int | str | None:
        """In a rollout of a Deployment: all, where it ends the old replicas before it begins with new ones."""
        if self.strategy.type == "Recreate":
            return "100%"
        return None if self.strategy.rolling_update is None else self.strategy.rolling_update.max_unavailable


class WorkloadStatus(Part, frozen=True):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    conditions: list[Condition] | None = None


class Deployment(View, frozen=True):
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class ReplicaSet(View, frozen=True):
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class StatefulSet(View, frozen=True):
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class DaemonSetStatus(Part, frozen=True):
    observed_generation: int = 0
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    number_ready: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    number_misscheduled: int = 0
    conditions: list[Condition] | None = None


class DaemonSet(View, frozen=True):
    spec: WorkloadSpec = WorkloadSpec()
    status: DaemonSetStatus = DaemonSetStatus()


class JobSpec(Part, frozen=True):
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool = False


class JobStatus(Part, frozen=True):
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    conditions: list[Condition] | None = None


class Job(View, frozen=True):
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class AttachmentSpec(Part, frozen=True):
    """config: a CNI configuration or list as text; empty where a file on the node has it."""

    config: str = ""


class NetworkAttachmentDefinition(View, frozen=True):
    """k8s.cni.cncf.io/v1, which Multus and others read."""

    spec: AttachmentSpec = AttachmentSpec()


# --- kinds -----------------------------------------------------------------------------------------------------------------


PODS = Kind("Pod", "", "v1", "pods", True, Pod)
NODES = Kind("Node", "", "v1", "nodes", False, Node)
NAMESPACES = Kind("Namespace", "", "v1", "namespaces", False, Namespace)
SERVICES = Kind("Service", "", "v1", "services", True, Service)
ENDPOINT_SLICES = Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", True, EndpointSlice)
DEPLOYMENTS = Kind("Deployment", "apps", "v1", "deployments", True, Deployment)
REPLICA_SETS = Kind("ReplicaSet", "apps", "v1", "replicasets", True, ReplicaSet)
STATEFUL_SETS = Kind("StatefulSet", "apps", "v1", "statefulsets", True, StatefulSet)
DAEMON_SETS = Kind("DaemonSet", "apps", "v1", "daemonsets", True, DaemonSet)
JOBS = Kind("Job", "batch", "v1", "jobs", True, Job)
SERVICE_CIDRS = Kind("ServiceCIDR", "networking.k8s.io", "v1", "servicecidrs", False, ServiceCIDR, optional=True)
ATTACHMENT_DEFINITIONS = Kind(
    "NetworkAttachmentDefinition",
    "k8s.cni.cncf.io",
    "v1",
    "network-attachment-definitions",
    True,
    NetworkAttachmentDefinition,
    optional=True,
)
KINDS: Mapping[str, Kind[Any]] = {
    kind.name: kind
    for kind in (
        PODS, NODES, NAMESPACES, SERVICES, ENDPOINT_SLICES, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS, JOBS, SERVICE_CIDRS,
        ATTACHMENT_DEFINITIONS,
    )
}  # fmt: skip
