"""Places of StatefulSets, and the addresses that each keeps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Row, bindparam, select, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.dialects.postgresql import insert as upsert

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.names import ClusterName, NetworkName
from fabricmgr.domain.owner import SetPlace
from fabricmgr.store.tables import allocation, cluster, sticky
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class StickyRow:
    """owner: the attachment that has the addresses, or had them last."""

    place: SetPlace
    address4: Address | None
    address6: Address | None
    owner: UUID

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(each for each in (self.address4, self.address6) if each is not None)


async def find(tx: Tx, place: SetPlace) -> StickyRow | None:
    """Locked: one pod at a time comes to a place."""
    row = await tx.first(select(sticky).where(sticky.c.place == place.key).with_for_update())
    return None if row is None else StickyRow(place, row.address4, row.address6, row.owner)


async def put(tx: Tx, cluster_id: int, row: StickyRow) -> None:
    place = row.place
    names = {"cluster_id": cluster_id, "namespace": place.namespace, "name": place.name, "ordinal": place.ordinal, "network": place.network}
    has = {"address4": row.address4, "address6": row.address6, "owner": row.owner}
    statement = upsert(sticky).values(place=place.key, **names, **has)
    await tx.change(statement.on_conflict_do_update(index_elements=["place"], set_=has))


async def delete(tx: Tx, places: Iterable[SetPlace]) -> None:
    keys = bindparam("keys", [each.key for each in places], type_=ARRAY(PG_UUID))
    await tx.change(sticky.delete().where(sticky.c.place == keys.any_()))


async def every(tx: Tx, cluster_id: int) -> list[StickyRow]:
    """Of a cluster, in no order."""
    wanted = select(sticky, cluster.c.name.label("cluster")).join(cluster, cluster.c.id == sticky.c.cluster_id)
    return [_read(row) for row in await tx.all(wanted.where(sticky.c.cluster_id == cluster_id))]


async def holds(tx: Tx, owner: UUID) -> bool:
    """Whether an owner has addresses, or a link of its carries them still."""
    return await tx.first(select(allocation.c.owner).where(allocation.c.owner == owner)) is not None


_UNHELD = text("""
select s.*, c.name as cluster from sticky s join cluster c on c.id = s.cluster_id
where s.cluster_id = :cluster
  and not exists (select from allocation a where a.owner = s.owner) and not exists (select from allocation a where a.owner = s.place)
for update of s skip locked
""").columns(place=PG_UUID, address4=INET, address6=INET, owner=PG_UUID)


async def unheld(tx: Tx, cluster_id: int) -> list[StickyRow]:
    """Places whose addresses nobody has now: no pod, no link of one, and not the place itself. Locked."""
    return [_read(row) for row in await tx.all(_UNHELD, {"cluster": cluster_id})]


_END = text("""
select * from release_batch_1(:now, :owners, array_fill(null::bigint, array[cardinality(:owners)]),
  array_fill(true, array[cardinality(:owners)]), array_fill('StatefulSets'::text, array[cardinality(:owners)]))
""").bindparams(bindparam("owners", type_=ARRAY(PG_UUID)), bindparam("now", type_=DateTime(timezone=True)))


async def release(tx: Tx, places: Sequence[SetPlace], now: datetime) -> None:
    """What places hold themselves rests from now."""
    if places:
        await tx.all(_END, {"now": now, "owners": [each.key for each in places]})


def _read(row: Row[Any]) -> StickyRow:
    place = SetPlace(ClusterName(row.cluster), row.namespace, row.name, row.ordinal, NetworkName(row.network))
    return StickyRow(place, row.address4, row.address6, row.owner)
