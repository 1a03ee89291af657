"""Services of clusters: what they want, and which allocation they use."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Row, Select, bindparam, or_, select, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.dialects.postgresql import insert as upsert

from fabricmgr.domain.addresses import Address
from fabricmgr.store.tables import cluster, service
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class ServiceRow:
    """owner: of the allocation; several Services that share an address have the same. ports: such as TCP/80.

    state: pending, assigned, withdrawing; moving: it has another address (owner) than its status shows, which is that of `former`;
    leaving: `former` is to fall silent. endpoints: Nodes that have a ready one, where its traffic policy is Local."""

    namespace: str
    name: str
    uid: str
    owner: UUID | None = None
    sharing_key: str = ""
    ports: tuple[str, ...] = ()
    state: str = "pending"
    reason: str = ""
    wanted: Mapping[str, Any] = field(default_factory=dict)
    assigned_at: datetime | None = None
    endpoints: tuple[str, ...] = ()
    former: UUID | None = None


@dataclass(frozen=True)
class Holding:
    address: Address
    pool: str


async def find(tx: Tx, cluster_id: int, namespace: str, name: str) -> ServiceRow | None:
    row = await tx.first(_of(cluster_id).where(service.c.namespace == namespace, service.c.name == name))
    return None if row is None else _read(row)


async def every(tx: Tx, cluster_id: int, namespace: str = "") -> list[ServiceRow]:
    """By namespace and name; of all namespaces where none is named."""
    wanted = _of(cluster_id).order_by(service.c.namespace, service.c.name)
    return [_read(row) for row in await tx.all(wanted if not namespace else wanted.where(service.c.namespace == namespace))]


async def sharing(tx: Tx, cluster_id: int, namespace: str, key: str) -> list[ServiceRow]:
    """Those of a namespace with a sharing key that have an address."""
    wanted = _of(cluster_id).where(service.c.namespace == namespace, service.c.sharing_key == key, service.c.owner.is_not(None))
    return [_read(row) for row in await tx.all(wanted.order_by(service.c.name))]


async def is_used(tx: Tx, owner: UUID) -> bool:
    """Whether a Service has it, or had it and its address is not silent yet."""
    wanted = or_(service.c.owner == owner, service.c.former == owner)
    return await tx.first(select(service.c.name).where(wanted).limit(1)) is not None


async def is_wanted(tx: Tx, cluster_id: int, owner: UUID, but: tuple[str, str]) -> bool:
    """Whether another Service than the one named has it and keeps it."""
    others = or_(service.c.namespace != but[0], service.c.name != but[1])
    wanted = (service.c.cluster_id == cluster_id, service.c.owner == owner, service.c.state != "withdrawing", others)
    return await tx.first(select(service.c.name).where(*wanted).limit(1)) is not None


async def put(tx: Tx, cluster_id: int, row: ServiceRow) -> None:
    values = vars(row) | {"ports": list(row.ports), "wanted": dict(row.wanted), "endpoints": list(row.endpoints)}
    statement = upsert(service).values(cluster_id=cluster_id, **values)
    grown = values | {"version": service.c.version + 1}
    await tx.change(statement.on_conflict_do_update(index_elements=["cluster_id", "namespace", "name"], set_=grown))


async def delete(tx: Tx, cluster_id: int, namespace: str, name: str) -> None:
    wanted = (service.c.cluster_id == cluster_id, service.c.namespace == namespace, service.c.name == name)
    await tx.change(service.delete().where(*wanted))


async def lock(tx: Tx, cluster_id: int) -> None:
    """Addresses of one cluster's Services are decided one after another, since they may share them."""
    await tx.all(select(cluster.c.id).where(cluster.c.id == cluster_id).with_for_update(key_share=True))


_HELD = text("""
select h.address, p.name as pool from allocation a
cross join lateral (values (a.prefix4, a.address4), (a.prefix6, a.address6)) h (prefix_id, address)
join prefix x on x.id = h.prefix_id join pool p on p.id = x.pool_id
where a.owner = :owner and a.released_at is null order by family(h.address)
""").bindparams(bindparam("owner", type_=PG_UUID))


async def holding(tx: Tx, owner: UUID | None) -> Sequence[Holding]:
    """What an allocation holds, IPv4 first."""
    return () if owner is None else [Holding(row.address, row.pool) for row in await tx.all(_HELD, {"owner": owner})]


_FORMER = text("""
select distinct on (family(address)) address from history
where owner = any (:owners) and what = 'assigned' and address is not null order by family(address), at desc, id desc
""").bindparams(bindparam("owners", type_=ARRAY(PG_UUID)))


async def former(tx: Tx, owners: Iterable[UUID]) -> list[Address]:
    """The last address of each family that one of them ever held, as far back as the history goes."""
    return [row.address for row in await tx.all(_FORMER, {"owners": list(owners)})]


_RELEASE = text("""
select * from release_batch_1(:now, array[cast(:owner as uuid)], array[null::bigint], array[true], array[cast(:actor as text)])
""").bindparams(bindparam("owner", type_=PG_UUID))


async def release(tx: Tx, owner: UUID, actor: str, now: datetime) -> None:
    """Its addresses rest for their pool's cooldown from now."""
    await tx.all(_RELEASE, {"now": now, "owner": owner, "actor": actor})


_COUNTS = text("""
    select (select coalesce(sum(b.generation), 0) from block b join prefix p on p.id = b.prefix_id join pool q on q.id = p.pool_id
      where q.purpose = 'Service')::bigint as generations,
      (select coalesce(sum(version), 0) from service where cluster_id = :cluster)::bigint as versions,
      (select count(*) from service where cluster_id = :cluster) as services
""")


async def counts(tx: Tx, cluster_id: int) -> tuple[int, ...]:
    """Numbers that change when an address of a pool for Services is assigned, and when a Service of the cluster changes."""
    return tuple(await tx.only(_COUNTS, {"cluster": cluster_id}))


def _of(cluster_id: int) -> Select[Any]:
    return select(service).where(service.c.cluster_id == cluster_id)


def _read(row: Row[Any]) -> ServiceRow:
    return ServiceRow(
        row.namespace,
        row.name,
        row.uid,
        row.owner,
        row.sharing_key,
        tuple(row.ports),
        row.state,
        row.reason,
        row.wanted,
        row.assigned_at,
        tuple(row.endpoints),
        row.former,
    )
