"""Rows of what API servers show: nodes, namespaces, pods. One statement writes many, and touches no row that says the same already."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Integer, Row, Text, TextClause, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from fabricmgr.domain.kube import KubeNamespace, KubeNode, KubePod
from fabricmgr.store.tables import announcement, kube_namespace, kube_node, kube_pod, service, voice, workload
from fabricmgr.store.tx import Tx

_NODE = {"uid": "text", "system_uuid": "text", "labels": "jsonb", "addresses": "inet[]", "ready": "boolean", "provider_id": "text"}
_NAMESPACE = {"uid": "text", "labels": "jsonb", "annotations": "jsonb"}
_POD = {
    "uid": "text",
    "node": "text",
    "labels": "jsonb",
    "annotations": "jsonb",
    "owner_kind": "text",
    "owner_name": "text",
    "host_network": "boolean",
    "phase": "text",
    "addresses": "inet[]",
    "deleting": "boolean",
    "ready": "boolean",
}


def _upsert(table: str, key: Sequence[str], columns: dict[str, str], stamp: bool = False) -> TextClause:
    """Rows in order of their keys, so that two writers never wait for each other crosswise."""
    names = ", ".join([*key, *columns])
    typed = ", ".join([*(f"{name} text" for name in key), *(f"{name} {kind}" for name, kind in columns.items())])
    at, now = (", at", ", :now") if stamp else ("", "")
    sets = ", ".join(f"{name} = excluded.{name}" for name in [*columns, *(["at"] if stamp else [])])
    before, after = (", ".join(f"{side}.{name}" for name in columns) for side in ("t", "excluded"))
    found = text(f"""
        insert into {table} as t (cluster_id, {names}{at})
        select :cluster, {names}{now} from jsonb_to_recordset(:rows) as r ({typed}) order by {", ".join(key)}
        on conflict (cluster_id, {", ".join(key)}) do update set {sets} where ({before}) is distinct from ({after})
    """).bindparams(bindparam("rows", type_=JSONB), bindparam("cluster", type_=Integer))
    return found.bindparams(bindparam("now", type_=DateTime(timezone=True))) if stamp else found


_NODES = _upsert("kube_node", ["name"], _NODE, stamp=True)
_NAMESPACES = _upsert("kube_namespace", ["name"], _NAMESPACE)
_PODS = _upsert("kube_pod", ["namespace", "name"], _POD)


def _plain(found: KubeNode | KubeNamespace | KubePod) -> dict[str, Any]:
    row = dict(vars(found))
    for name in ("labels", "annotations"):
        if name in row:
            row[name] = dict(row[name])
    if "addresses" in row:
        row["addresses"] = [str(each) for each in row["addresses"]]
    return row


async def _write(tx: Tx, statement: TextClause, cluster_id: int, rows: Iterable[dict[str, Any]], **more: Any) -> int:
    given = list(rows)
    return await tx.change(statement, {"cluster": cluster_id, "rows": given} | more) if given else 0


async def write_nodes(tx: Tx, cluster_id: int, nodes: Iterable[KubeNode], now: datetime) -> int:
    """Gives back how many differ from what was there. Each name once."""
    return await _write(tx, _NODES, cluster_id, map(_plain, nodes), now=now)


async def write_namespaces(tx: Tx, cluster_id: int, namespaces: Iterable[KubeNamespace]) -> int:
    """Gives back how many differ from what was there. Each name once."""
    return await _write(tx, _NAMESPACES, cluster_id, map(_plain, namespaces))


async def write_pods(tx: Tx, cluster_id: int, pods: Iterable[KubePod]) -> int:
    """Gives back how many differ from what was there. Each namespace and name once."""
    return await _write(tx, _PODS, cluster_id, map(_plain, pods))


def _forget(table: str) -> TextClause:
    return text(f"delete from {table} where cluster_id = :cluster and uid = any (:uids)").bindparams(
        bindparam("cluster", type_=Integer), bindparam("uids", type_=ARRAY(Text))
    )


_FORGET = {table.name: _forget(table.name) for table in (kube_node, kube_namespace, kube_pod)}


async def forget_nodes(tx: Tx, cluster_id: int, uids: Iterable[str]) -> int:
    """Those that are gone. By uid: another that came under the same name stays."""
    return await tx.change(_FORGET["kube_node"], {"cluster": cluster_id, "uids": list(uids)})


async def forget_namespaces(tx: Tx, cluster_id: int, uids: Iterable[str]) -> int:
    """Those that are gone, by uid."""
    return await tx.change(_FORGET["kube_namespace"], {"cluster": cluster_id, "uids": list(uids)})


async def forget_pods(tx: Tx, cluster_id: int, uids: Iterable[str]) -> int:
    """Those that are gone, by uid."""
    return await tx.change(_FORGET["kube_pod"], {"cluster": cluster_id, "uids": list(uids)})


async def nodes(tx: Tx, cluster_id: int) -> list[KubeNode]:
    """By name."""
    rows = await tx.all(select(kube_node).where(kube_node.c.cluster_id == cluster_id).order_by(kube_node.c.name))
    return [_node(row) for row in rows]


async def node(tx: Tx, cluster_id: int, name: str) -> KubeNode | None:
    row = await tx.first(select(kube_node).where(kube_node.c.cluster_id == cluster_id, kube_node.c.name == name))
    return None if row is None else _node(row)


_NODE_LABELS = text("""
    select coalesce(k.labels, n.labels) as labels from (select cast(:cluster as int) as cluster_id, cast(:name as text) as name) x
    left join kube_node k using (cluster_id, name) left join node n using (cluster_id, name)
""")


async def node_labels(tx: Tx, cluster_id: int, name: str) -> dict[str, str]:
    """What the API server shows, else what is known of the node besides."""
    return dict(await tx.value(_NODE_LABELS, {"cluster": cluster_id, "name": name}) or {})


async def namespaces(tx: Tx, cluster_id: int) -> list[KubeNamespace]:
    """By name."""
    rows = await tx.all(select(kube_namespace).where(kube_namespace.c.cluster_id == cluster_id).order_by(kube_namespace.c.name))
    return [_namespace(row) for row in rows]


async def namespace(tx: Tx, cluster_id: int, name: str) -> KubeNamespace | None:
    row = await tx.first(select(kube_namespace).where(kube_namespace.c.cluster_id == cluster_id, kube_namespace.c.name == name))
    return None if row is None else _namespace(row)


async def pods(tx: Tx, cluster_id: int, namespace: str | None = None) -> list[KubePod]:
    """Of a namespace, or of all; by namespace and name."""
    asked = select(kube_pod).where(kube_pod.c.cluster_id == cluster_id).order_by(kube_pod.c.namespace, kube_pod.c.name)
    rows = await tx.all(asked if namespace is None else asked.where(kube_pod.c.namespace == namespace))
    return [_pod(row) for row in rows]


async def pod(tx: Tx, cluster_id: int, namespace: str, name: str) -> KubePod | None:
    wanted = (kube_pod.c.cluster_id == cluster_id, kube_pod.c.namespace == namespace, kube_pod.c.name == name)
    row = await tx.first(select(kube_pod).where(*wanted))
    return None if row is None else _pod(row)


async def has_services(tx: Tx, cluster_id: int) -> bool:
    """Whether Services of the cluster use addresses of ours."""
    wanted = (service.c.cluster_id == cluster_id, service.c.owner.is_not(None))
    return await tx.first(select(service.c.name).where(*wanted).limit(1)) is not None


async def forget_all(tx: Tx, cluster_id: int) -> None:
    """All that its API server showed."""
    for table in (kube_node, kube_namespace, kube_pod, workload, service, announcement, voice):
        await tx.change(table.delete().where(table.c.cluster_id == cluster_id))


async def uids(tx: Tx, cluster_id: int, table: str) -> set[str]:
    """What is known of `kube_node`, `kube_namespace` or `kube_pod`: to be held against a whole list."""
    found = {each.name: each for each in (kube_node, kube_namespace, kube_pod)}[table]
    return {row.uid for row in await tx.all(select(found.c.uid).where(found.c.cluster_id == cluster_id))}


def _node(row: Row[Any]) -> KubeNode:
    return KubeNode(row.name, row.uid, row.system_uuid, row.labels, tuple(row.addresses), row.ready, row.provider_id)


def _namespace(row: Row[Any]) -> KubeNamespace:
    return KubeNamespace(row.name, row.uid, row.labels, row.annotations)


def _pod(row: Row[Any]) -> KubePod:
    return KubePod(
        namespace=row.namespace,
        name=row.name,
        uid=row.uid,
        node=row.node,
        labels=row.labels,
        annotations=row.annotations,
        owner_kind=row.owner_kind,
        owner_name=row.owner_name,
        host_network=row.host_network,
        phase=row.phase,
        addresses=tuple(row.addresses),
        deleting=row.deleting,
        ready=row.ready,
    )
