"""API servers of clusters: how they are reached, and which ranges are theirs. Their credentials are sealed and never shown."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fabricmgr.domain import ranges
from fabricmgr.domain.addresses import Prefix, parse_prefix
from fabricmgr.domain.errors import ApiAbsent, InUse, Invalid, KubeconfigRefused, MissingField, NotFound
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.ranges import ClusterRanges
from fabricmgr.kube import kubeconfig
from fabricmgr.kube.client import Client
from fabricmgr.kube.kubeconfig import Access
from fabricmgr.kube.transport import Dial
from fabricmgr.kube.views import NODES, SERVICE_CIDRS
from fabricmgr.services import selecting, sticky
from fabricmgr.services.cluster_apis import access, sealed_name
from fabricmgr.store import api_rows, cluster_rows, kube_rows, range_rows, sticky_rows
from fabricmgr.store.api_rows import ApiRow
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class ApiChange:
    """What is to be set. kubeconfig: its text, or None; in_cluster: the manager runs there. Ranges: None asks the server, or leaves them.

    class_less: Services without a class are ours too."""

    kubeconfig: str | None = None
    in_cluster: bool | None = None
    pod_ranges: tuple[Prefix, ...] | None = None
    service_ranges: tuple[Prefix, ...] | None = None
    class_less: bool | None = None

    def __post_init__(self) -> None:
        if self.kubeconfig is not None and self.in_cluster:
            raise Invalid("in_cluster", True, "either a kubeconfig or in_cluster")

    def __repr__(self) -> str:
        return f"ApiChange(in_cluster={self.in_cluster}, pod_ranges={self.pod_ranges}, service_ranges={self.service_ranges})"

    @property
    def names_server(self) -> bool:
        return self.kubeconfig is not None or bool(self.in_cluster)


@dataclass(frozen=True)
class Surveyed:
    """What a server said of itself."""

    server: str
    version: str
    pod_ranges: tuple[Prefix, ...]
    service_ranges: tuple[Prefix, ...]


async def survey(change: ApiChange, sealer: Sealer, dial: Dial, known: ApiRow | None) -> Surveyed:
    """Ask the server, outside any transaction: its version, and the ranges that are not given. known: the row, where there is one.

    Raises KubeconfigRefused and what the client raises; MissingField for ranges that the server does not tell."""
    client = Client(_access(change, sealer, known), dial)
    try:
        version = await client.version()
        version.require()
        service = change.service_ranges
        if service is None:
            service = known.service_ranges if known is not None and not change.names_server else await _service_ranges(client)
        pod = change.pod_ranges
        if pod is None:
            pod = known.pod_ranges if known is not None and not change.names_server else await _pod_ranges(client)
    finally:
        await client.close()
    return Surveyed(client.server, version.git_version, pod, service)


def _access(change: ApiChange, sealer: Sealer, known: ApiRow | None) -> Access:
    if change.kubeconfig is not None:
        return kubeconfig.parse(change.kubeconfig)
    if change.in_cluster:
        return kubeconfig.in_cluster(os.environ)
    if known is None:
        raise KubeconfigRefused("kubeconfig", "this cluster has no API server yet: give a kubeconfig, or in_cluster")
    return access(sealer, known)


async def _service_ranges(client: Client) -> tuple[Prefix, ...]:
    try:
        found = await client.list_all(SERVICE_CIDRS)
    except ApiAbsent:
        found = []
    texts = [text for each in found for text in each.spec.cidrs or ()]
    if not texts:
        raise MissingField("service_ranges", "the range of cluster addresses of Services, which servers before 1.33 do not tell")
    return ranges.merged(parse_prefix(text, "service_ranges") for text in texts)


async def _pod_ranges(client: Client) -> tuple[Prefix, ...]:
    """None, where no controller cuts them for the nodes: then the cluster's own pools say where its pods lie."""
    nodes = await client.list_all(NODES)
    return ranges.merged(parse_prefix(text, "pod_ranges") for node in nodes for text in node.spec.pod_cidrs or ())


async def put(tx: Tx, name: ClusterName, change: ApiChange, said: Surveyed, sealer: Sealer) -> ApiRow:
    """Make it the cluster's API server, or change it. Raises NotFound, RangeMeetsPool."""
    found = await cluster_rows.get(tx, name, lock=True)
    await range_rows.lock(tx)
    ranges.check([ClusterRanges(name, said.service_ranges, said.pod_ranges)], await range_rows.prefixes(tx))
    values: dict[str, Any] = {
        "server": said.server,
        "server_version": said.version,
        "pod_ranges": list(said.pod_ranges),
        "service_ranges": list(said.service_ranges),
    }
    if change.class_less is not None:
        values["class_less"] = change.class_less
    if change.names_server:
        text = change.kubeconfig
        values |= {"in_cluster": text is None, "state": "new", "reason": ""}
        values["sealed"] = None if text is None else sealer.seal(sealed_name(name), text.encode())
    else:
        before = await _get(tx, name)
        values |= {"in_cluster": before.in_cluster, "sealed": before.sealed}
    await api_rows.put(tx, found.id, values)
    await cluster_rows.grow(tx, found.id)
    await selecting.refresh(tx, found.id)
    tx.wake()
    return await _get(tx, name)


async def forget(tx: Tx, name: ClusterName, now: datetime) -> None:
    """It is followed no more, and what it showed is forgotten; addresses of pods stay as they are, those kept for pods that are away rest.

    Raises NotFound, InUse by Services."""
    row = await _get(tx, name)
    if await kube_rows.has_services(tx, row.cluster_id):
        raise InUse("API server", row.server, "Services of it hold addresses: delete them, or give them another class, first")
    await api_rows.delete(tx, row.cluster_id)
    await sticky.forget(tx, [each.place for each in await sticky_rows.every(tx, row.cluster_id)], now)
    await kube_rows.forget_all(tx, row.cluster_id)
    await cluster_rows.grow(tx, row.cluster_id)
    await selecting.refresh(tx, row.cluster_id)
    tx.wake()


async def _get(tx: Tx, name: ClusterName) -> ApiRow:
    found = await api_rows.find(tx, name)
    if found is None:
        raise NotFound("API server of cluster", name)
    return found


def public(row: ApiRow) -> ApiRow:
    """The row without its credentials, for whoever shows it."""
    return replace(row, sealed=None)


async def find(tx: Tx, name: ClusterName) -> ApiRow | None:
    """With its credentials, sealed."""
    return await api_rows.find(tx, name)


async def of_clusters(tx: Tx, names: Sequence[ClusterName]) -> dict[ClusterName, ApiRow]:
    """Those of them that have one."""
    wanted = set(names)
    return {row.cluster: public(row) for row in await api_rows.every(tx) if row.cluster in wanted}
