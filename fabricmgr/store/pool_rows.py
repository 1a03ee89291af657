"""Rows of pools, prefixes and reservations."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Row, Select, bindparam, func, select
from sqlalchemy.dialects.postgresql import CIDR

from fabricmgr.domain import selectors
from fabricmgr.domain.addresses import Prefix
from fabricmgr.domain.errors import NotFound, VersionConflict
from fabricmgr.domain.names import ClusterName, PoolName
from fabricmgr.domain.page import Page, Paged
from fabricmgr.domain.pool import Pool, PoolDraft, PoolFilter, PoolPrefix, PrefixDraft, Purpose, Reservation
from fabricmgr.domain.selectors import Selectors
from fabricmgr.store.tables import cluster, network, network_pool, pool, prefix, reservation, supply
from fabricmgr.store.tx import Tx

_POOLS = select(pool, cluster.c.name.label("cluster")).outerjoin(cluster, cluster.c.id == pool.c.cluster_id)


async def find(tx: Tx, name: PoolName, *, lock: bool = False) -> Pool | None:
    """With its prefixes and reservations. lock: against everybody else who changes it."""
    wanted = _POOLS.where(pool.c.name == name)
    found = await _read(tx, wanted.with_for_update(of=pool) if lock else wanted)
    return found[0] if found else None


async def get(tx: Tx, name: PoolName, *, lock: bool = False) -> Pool:
    """Raises NotFound."""
    found = await find(tx, name, lock=lock)
    if found is None:
        raise NotFound("pool", name)
    return found


async def take(tx: Tx, name: PoolName, quoted: int | None) -> Pool:
    """Lock it for a change. quoted: the version the caller saw; None: any. Raises NotFound and VersionConflict."""
    found = await get(tx, name, lock=True)
    if quoted is not None and quoted != found.version:
        raise VersionConflict("pool", name, str(quoted), str(found.version))
    return found


async def page(tx: Tx, wanted: PoolFilter, paged: Page) -> Paged[Pool]:
    asked = _POOLS.where(pool.c.name > (paged.after or "")).order_by(pool.c.name).limit(paged.limit + 1)
    if wanted.purpose is not None:
        asked = asked.where(pool.c.purpose == wanted.purpose.value)
    if wanted.cluster is not None:
        asked = asked.where(cluster.c.name == wanted.cluster)
    if wanted.scope is not None:
        asked = asked.where(pool.c.scope == wanted.scope)
    return paged.cut(await _read(tx, asked), lambda each: each.name)


async def of_names(tx: Tx, names: Iterable[PoolName]) -> dict[PoolName, Pool]:
    """Those of them that exist."""
    return {each.name: each for each in await _read(tx, _POOLS.where(pool.c.name.in_(list(names))))}


async def insert(tx: Tx, draft: PoolDraft, cluster_id: int | None, now: datetime) -> int:
    """Gives back its id."""
    row = {
        "cluster_id": cluster_id,
        "scope": draft.scope,
        "name": draft.name,
        "purpose": draft.purpose.value,
        "cooldown": draft.cooldown,
        "skip_ends": draft.skip_ends,
        "reuse_early": draft.reuse_early,
        "warning": draft.warning,
        "critical": draft.critical,
        "selectors": selectors.to_json(draft.selectors),
        "priority": draft.priority,
        "auto_assign": draft.auto_assign,
        "created_at": now,
    }
    return int(await tx.value(pool.insert().returning(pool.c.id), row))


async def insert_prefix(tx: Tx, pool_id: int, scope: int, purpose: Purpose, draft: PrefixDraft, now: datetime) -> int:
    """With its supply row, and with its gateway kept out. PrefixOverlap comes from the database."""
    row = {
        "pool_id": pool_id,
        "scope": scope,
        "cidr": draft.cidr,
        "block_len": draft.length(),
        "central": draft.is_central(purpose),
        "gateway": draft.gateway,
        "created_at": now,
    }
    prefix_id = int(await tx.value(prefix.insert().returning(prefix.c.id), row))
    await tx.change(supply.insert(), {"prefix_id": prefix_id})
    return prefix_id


async def delete_prefix(tx: Tx, prefix_id: int) -> None:
    """Reservations go with it."""
    await tx.change(supply.delete().where(supply.c.prefix_id == prefix_id))
    await tx.change(prefix.delete().where(prefix.c.id == prefix_id))


async def insert_reservation(tx: Tx, prefix_id: int, cidr: Prefix, reason: str, now: datetime) -> None:
    await tx.change(reservation.insert(), {"prefix_id": prefix_id, "cidr": cidr, "reason": reason, "at": now})


async def delete_reservation(tx: Tx, prefix_id: int, cidr: Prefix) -> None:
    await tx.change(reservation.delete().where(reservation.c.prefix_id == prefix_id, reservation.c.cidr == cidr))


async def return_to_writer(tx: Tx, prefix_id: int, cidr: Prefix, now: datetime) -> None:
    """What was kept out may be handed out again: the writer's walk may have passed it."""
    at, back = bindparam("at", now, type_=DateTime(timezone=True)), bindparam("back", cidr, type_=CIDR)
    await tx.all(select(func.unreserved_1(at, prefix_id, back)))


async def change(tx: Tx, pool_id: int, values: Mapping[str, Any]) -> None:
    """Its version grows, also without values: its prefixes changed then."""
    plain = {name: selectors.to_json(value) if isinstance(value, Selectors) else value for name, value in values.items()}
    await tx.change(pool.update().where(pool.c.id == pool_id).values(version=pool.c.version + 1, **plain))


async def delete(tx: Tx, pool_id: int) -> None:
    await tx.change(pool.delete().where(pool.c.id == pool_id))


async def networks_of(tx: Tx, pool_id: int) -> list[str]:
    """Networks that use it, as cluster/network."""
    asked = (
        select(func.concat(cluster.c.name, "/", network.c.name).label("name"))
        .join_from(network_pool, network, network.c.id == network_pool.c.network_id)
        .join(cluster, cluster.c.id == network.c.cluster_id)
        .where(network_pool.c.pool_id == pool_id)
        .order_by("name")
    )
    return [str(row.name) for row in await tx.all(asked)]


async def _read(tx: Tx, asked: Select[Any]) -> list[Pool]:
    rows = await tx.all(asked)
    prefixes = await _prefixes(tx, [row.id for row in rows])
    return [_pool(row, prefixes.get(row.id, [])) for row in rows]


async def _prefixes(tx: Tx, pool_ids: list[int]) -> dict[int, list[PoolPrefix]]:
    if not pool_ids:
        return {}
    wanted = prefix.c.pool_id.in_(pool_ids)
    kept = select(reservation).join(prefix, prefix.c.id == reservation.c.prefix_id).where(wanted).order_by(reservation.c.cidr)
    kept_out: dict[int, list[Reservation]] = {}
    for row in await tx.all(kept):
        kept_out.setdefault(row.prefix_id, []).append(Reservation(row.cidr, row.reason, row.at))
    found: dict[int, list[PoolPrefix]] = {}
    for row in await tx.all(select(prefix).where(wanted).order_by(prefix.c.id)):
        found.setdefault(row.pool_id, []).append(_prefix(row, kept_out.get(row.id, [])))
    return found


def _prefix(row: Row[Any], kept_out: list[Reservation]) -> PoolPrefix:
    return PoolPrefix(row.id, row.cidr, row.block_len, row.central, row.gateway, row.created_at, tuple(kept_out))


def _pool(row: Row[Any], prefixes: list[PoolPrefix]) -> Pool:
    return Pool(
        id=row.id,
        name=PoolName(row.name),
        cluster=None if row.cluster is None else ClusterName(row.cluster),
        scope=row.scope,
        purpose=Purpose(row.purpose),
        cooldown=row.cooldown,
        skip_ends=row.skip_ends,
        reuse_early=row.reuse_early,
        draining=row.draining,
        created_at=row.created_at,
        version=row.version,
        prefixes=tuple(prefixes),
        warning=row.warning,
        critical=row.critical,
        selectors=selectors.parse(row.selectors),
        priority=row.priority,
        auto_assign=row.auto_assign,
    )
