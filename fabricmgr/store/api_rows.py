"""How clusters' API servers are reached, and how they were last seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.dialects.postgresql import insert as upsert

from fabricmgr.domain.addresses import Prefix
from fabricmgr.domain.names import ClusterName
from fabricmgr.store.tables import cluster, cluster_api
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class ApiRow:
    """sealed: the kubeconfig, None where the manager runs in that cluster. version grows with each change of access or settings."""

    cluster_id: int
    cluster: ClusterName
    server: str
    sealed: bytes | None
    in_cluster: bool
    pod_ranges: tuple[Prefix, ...]
    service_ranges: tuple[Prefix, ...]
    server_version: str
    state: str
    reason: str
    progressed_at: datetime | None
    class_less: bool
    version: int


def _select() -> Select[Any]:
    return select(cluster_api, cluster.c.name.label("cluster")).join(cluster, cluster.c.id == cluster_api.c.cluster_id)


async def find(tx: Tx, name: ClusterName) -> ApiRow | None:
    """None for a cluster without an API server, or no such cluster."""
    row = await tx.first(_select().where(cluster.c.name == name))
    return None if row is None else _read(row)


async def by_id(tx: Tx, cluster_id: int, *, lock: bool = False) -> ApiRow | None:
    wanted = _select().where(cluster_api.c.cluster_id == cluster_id)
    row = await tx.first(wanted.with_for_update(of=cluster_api) if lock else wanted)
    return None if row is None else _read(row)


async def every(tx: Tx) -> list[ApiRow]:
    """By name of the cluster."""
    return [_read(row) for row in await tx.all(_select().order_by(cluster.c.name))]


async def put(tx: Tx, cluster_id: int, values: Mapping[str, Any]) -> None:
    """Make or change it; its version grows."""
    statement = upsert(cluster_api).values(cluster_id=cluster_id, **values)
    grown = {**values, "version": cluster_api.c.version + 1}
    await tx.change(statement.on_conflict_do_update(index_elements=["cluster_id"], set_=grown))


async def note(tx: Tx, cluster_id: int, values: Mapping[str, Any]) -> None:
    """What was observed of it: its version stays."""
    await tx.change(cluster_api.update().where(cluster_api.c.cluster_id == cluster_id).values(**values))


async def delete(tx: Tx, cluster_id: int) -> None:
    await tx.change(cluster_api.delete().where(cluster_api.c.cluster_id == cluster_id))


def _read(row: Row[Any]) -> ApiRow:
    return ApiRow(
        cluster_id=row.cluster_id,
        cluster=ClusterName(row.cluster),
        server=row.server,
        sealed=row.sealed,
        in_cluster=row.in_cluster,
        pod_ranges=tuple(row.pod_ranges),
        service_ranges=tuple(row.service_ranges),
        server_version=row.server_version,
        state=row.state,
        reason=row.reason,
        progressed_at=row.progressed_at,
        class_less=row.class_less,
        version=row.version,
    )
