"""Rows of nodes, their tokens and certificates."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, exists, select, tuple_

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.names import ClusterName, NodeName
from fabricmgr.domain.node import Node, NodeState
from fabricmgr.domain.page import Page, Paged
from fabricmgr.store.tables import allocation, block, certificate, cluster, node, token
from fabricmgr.store.tx import Tx

_NODES = select(node, cluster.c.name.label("cluster")).join(cluster, cluster.c.id == node.c.cluster_id)


@dataclass(frozen=True)
class Issued:
    """A certificate that was given to a node."""

    serial: str
    node_id: int
    machine_id: str
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None
    pem: str


def _node(row: Row[Any]) -> Node:
    return Node(
        id=row.id,
        cluster=ClusterName(row.cluster),
        name=NodeName(row.name),
        state=NodeState(row.state),
        system_uuid=row.system_uuid,
        machine_id=row.machine_id,
        agent_version=row.agent_version,
        labels=row.labels,
        addresses=tuple(row.addresses),
        interfaces=tuple(row.interfaces),
        free=row.free,
        report_age_ms=row.report_age_ms,
        desired_acted=row.desired_acted,
        seen_at=row.seen_at,
        created_at=row.created_at,
        gone_at=row.gone_at,
        version=row.version,
        faults=tuple(row.faults),
    )


async def find(tx: Tx, in_cluster: ClusterName, name: NodeName, *, lock: bool = False) -> Node | None:
    wanted = _NODES.where(cluster.c.name == in_cluster, node.c.name == name)
    row = await tx.first(wanted.with_for_update(of=node) if lock else wanted)
    return None if row is None else _node(row)


async def get(tx: Tx, in_cluster: ClusterName, name: NodeName, *, lock: bool = False) -> Node:
    """lock: against every write of its agent too, which looks at its certificate under a lock on this row. Raises NotFound."""
    found = await find(tx, in_cluster, name, lock=lock)
    if found is None:
        raise NotFound("node", f"{in_cluster}/{name}")
    return found


async def by_id(tx: Tx, node_id: int, *, lock: bool = False) -> Node:
    """Raises NotFound."""
    wanted = _NODES.where(node.c.id == node_id)
    row = await tx.first(wanted.with_for_update(of=node) if lock else wanted)
    if row is None:
        raise NotFound("node", str(node_id))
    return _node(row)


async def of_cluster(tx: Tx, cluster_id: int) -> list[Node]:
    """All of it, by name."""
    return [_node(row) for row in await tx.all(_NODES.where(node.c.cluster_id == cluster_id).order_by(node.c.name))]


async def page(tx: Tx, in_cluster: ClusterName | None, wanted: Page) -> Paged[Node]:
    """By cluster and name."""
    asked = _NODES.order_by(cluster.c.name, node.c.name).limit(wanted.limit + 1)
    if in_cluster is not None:
        asked = asked.where(cluster.c.name == in_cluster)
    if wanted.after is not None:
        before, _, name = wanted.after.partition("/")
        asked = asked.where(tuple_(cluster.c.name, node.c.name) > tuple_(before, name))
    return wanted.cut([_node(row) for row in await tx.all(asked)], lambda each: f"{each.cluster}/{each.name}")


async def look_again(tx: Tx, node_ids: Iterable[int]) -> int:
    """Their agents are to hold journal and kernel against each other, and say what they find. Gives back how many there are."""
    return await tx.change(node.update().where(node.c.id.in_([*node_ids]), node.c.state != "gone").values(looks=node.c.looks + 1))


async def insert(tx: Tx, cluster_id: int, name: NodeName, now: datetime) -> None:
    await tx.change(node.insert(), {"cluster_id": cluster_id, "name": name, "created_at": now})


async def change(tx: Tx, node_id: int, values: Mapping[str, Any]) -> None:
    """Its version grows."""
    await tx.change(node.update().where(node.c.id == node_id).values(version=node.c.version + 1, **values))


async def delete(tx: Tx, node_id: int) -> None:
    """Tokens and certificates go with it."""
    await tx.change(node.delete().where(node.c.id == node_id))


async def holds(tx: Tx, node_id: int) -> list[str]:
    """What it holds, as kinds."""
    tables = {"allocations": allocation, "blocks": block}
    row = await tx.only(select(*(exists().where(table.c.node_id == node_id).label(kind) for kind, table in tables.items())))
    return [kind for kind in tables if getattr(row, kind)]


# --- tokens ----------------------------------------------------------------------------------------------------------


async def replace_token(tx: Tx, node_id: int, digest: bytes, now: datetime, expires_at: datetime) -> None:
    """Earlier ones count no more."""
    await forget_tokens(tx, node_id)
    await tx.change(token.insert(), {"digest": digest, "node_id": node_id, "created_at": now, "expires_at": expires_at})


async def forget_tokens(tx: Tx, node_id: int) -> None:
    await tx.change(token.delete().where(token.c.node_id == node_id))


async def take_token(tx: Tx, digest: bytes) -> Row[Any] | None:
    """Locked: node_id, expires_at, used_at."""
    return await tx.first(select(token).where(token.c.digest == digest).with_for_update())


async def use_token(tx: Tx, digest: bytes, now: datetime) -> None:
    await tx.change(token.update().where(token.c.digest == digest).values(used_at=now))


async def forget_tokens_before(tx: Tx, expired: datetime) -> int:
    return await tx.change(token.delete().where(token.c.expires_at <= expired))


# --- certificates ----------------------------------------------------------------------------------------------------


async def insert_certificate(tx: Tx, issued: Issued, fingerprint: bytes) -> None:
    await tx.change(certificate.insert(), vars(issued) | {"fingerprint": fingerprint})


async def certificates(tx: Tx, node_id: int) -> list[Issued]:
    """Newest first."""
    rows = await tx.all(select(certificate).where(certificate.c.node_id == node_id).order_by(certificate.c.not_before.desc()))
    return [_issued(row) for row in rows]


async def certificate_of(tx: Tx, serial: str, *, lock: bool = False) -> tuple[Issued, Node] | None:
    """A certificate and its node. lock: the node cannot be revoked or declared gone until we commit."""
    return await _certificate_where(tx, certificate.c.serial == serial, lock=lock)


async def certificate_like(tx: Tx, fingerprint: bytes) -> tuple[Issued, Node] | None:
    """The same by what a caller has shown: a serial alone proves nothing, since any other CA may choose it."""
    return await _certificate_where(tx, certificate.c.fingerprint == fingerprint, lock=False)


async def _certificate_where(tx: Tx, wanted: ColumnElement[bool], *, lock: bool) -> tuple[Issued, Node] | None:
    found = await tx.first(select(certificate).where(wanted))
    if found is None:
        return None
    if lock:
        await tx.all(select(node.c.id).where(node.c.id == found.node_id).with_for_update(key_share=True, read=True))
        found = await tx.first(select(certificate).where(wanted))
    return None if found is None else (_issued(found), await by_id(tx, found.node_id))


async def revoke_certificates(tx: Tx, node_id: int, now: datetime, serial: str | None = None) -> int:
    """All that were not, or one of them. Gives back how many."""
    wanted = [certificate.c.node_id == node_id, certificate.c.revoked_at.is_(None)]
    if serial is not None:
        wanted.append(certificate.c.serial == serial)
    return await tx.change(certificate.update().where(*wanted).values(revoked_at=now))


async def places_of_certificates(tx: Tx, now: datetime) -> list[tuple[str, str, str]]:
    """Cluster, node and serial of each that counts."""
    asked = select(cluster.c.name.label("cluster"), node.c.name.label("node"), certificate.c.serial).select_from(certificate)
    asked = asked.join(node, node.c.id == certificate.c.node_id).join(cluster, cluster.c.id == node.c.cluster_id)
    asked = asked.where(certificate.c.revoked_at.is_(None), certificate.c.not_after > now)
    rows = await tx.all(asked.order_by(cluster.c.name, node.c.name, certificate.c.serial))
    return [(row.cluster, row.node, row.serial) for row in rows]


async def forget_certificates_before(tx: Tx, expired: datetime) -> int:
    return await tx.change(certificate.delete().where(certificate.c.not_after <= expired))


def _issued(row: Row[Any]) -> Issued:
    return Issued(row.serial, row.node_id, row.machine_id, row.not_before, row.not_after, row.revoked_at, row.pem)
