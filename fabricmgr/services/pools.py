"""Pools: what may be handed out. An overlap is refused when it is typed."""

from datetime import datetime

from fabricmgr.domain import ranges
from fabricmgr.domain.addresses import Prefix, parse_prefix
from fabricmgr.domain.errors import AddressOutside, AlreadyExists, InUse, NotFound, ReservationHeld
from fabricmgr.domain.events import (
    PoolChanged,
    PoolCreated,
    PoolDeleted,
    PrefixAdded,
    PrefixRemoved,
    ReservationAdded,
    ReservationRemoved,
)
from fabricmgr.domain.names import PoolName
from fabricmgr.domain.page import Page, Paged
from fabricmgr.domain.pool import (
    BlockFilter,
    Pool,
    PoolBlock,
    PoolChange,
    PoolDraft,
    PoolFilter,
    PoolPrefix,
    PrefixDraft,
    ReservationDraft,
    Usage,
    add_up,
    alone,
    check_selectors,
    check_thresholds,
)
from fabricmgr.domain.ranges import PooledPrefix
from fabricmgr.services import selecting
from fabricmgr.store import cluster_rows, pool_rows, range_rows, usage_rows, zone_rows
from fabricmgr.store.tx import Tx

GATEWAY = "gateway"


async def create(tx: Tx, draft: PoolDraft, by: str, now: datetime) -> Pool:
    """With its prefixes and reservations, or nothing of it. Raises AlreadyExists, NotFound (cluster), PrefixOverlap, AddressOutside."""
    if await pool_rows.find(tx, draft.name) is not None:
        raise AlreadyExists("pool", draft.name)
    cluster_id = None if draft.cluster is None else (await cluster_rows.get(tx, draft.cluster)).id
    pool_id = await pool_rows.insert(tx, draft, cluster_id, now)
    for each in draft.prefixes:
        await _insert_prefix(tx, pool_id, draft, each, now)
    made = await pool_rows.get(tx, draft.name)
    for wanted in draft.reservations:
        await _keep_out(tx, made, wanted, now)
    tx.emit(PoolCreated(draft.name, draft.purpose.value, tuple(str(each.cidr) for each in draft.prefixes), by))
    return await pool_rows.get(tx, draft.name)


async def get(tx: Tx, name: PoolName) -> Pool:
    """Raises NotFound."""
    return await pool_rows.get(tx, name)


async def list_all(tx: Tx, filters: PoolFilter, page: Page) -> Paged[Pool]:
    """By name."""
    return await pool_rows.page(tx, filters, page)


async def change(tx: Tx, name: PoolName, wanted: PoolChange, if_version: int | None, by: str, now: datetime) -> Pool:
    """Raises NotFound, VersionConflict when the caller quotes a version that is not current, Invalid for thresholds out of order."""
    pool = await pool_rows.take(tx, name, if_version)
    check_thresholds(
        pool.warning if wanted.warning is None else wanted.warning, pool.critical if wanted.critical is None else wanted.critical
    )
    check_selectors(
        pool.selectors if wanted.selectors is None else wanted.selectors,
        pool.priority if wanted.priority is None else wanted.priority,
        pool.purpose,
    )
    differing = {field: value for field, value in wanted.given().items() if getattr(pool, field) != value}
    if not differing:
        return pool
    await pool_rows.change(tx, pool.id, differing)
    if differing.get("skip_ends") is False:
        for each in pool.prefixes:
            for end in {each.cidr[0], each.cidr[-1]}:
                await pool_rows.return_to_writer(tx, each.id, alone(end), now)
    if "selectors" in differing:
        await selecting.refresh_around(tx, pool.id)
    tx.emit(PoolChanged(name, tuple(sorted(differing)), by))
    return await pool_rows.get(tx, name)


async def delete(tx: Tx, name: PoolName, if_version: int | None, by: str, now: datetime) -> None:
    """Only one that no network uses and of which nothing is held. Raises NotFound, VersionConflict, InUse."""
    pool = await pool_rows.take(tx, name, if_version)
    networks = await pool_rows.networks_of(tx, pool.id)
    if networks:
        raise InUse("pool", name, f"network {', '.join(networks)} takes addresses from it")
    for each in sorted(pool.prefixes, key=lambda p: p.id):
        await _empty(tx, pool, each, now)
        await pool_rows.delete_prefix(tx, each.id)
    await zone_rows.grow_around_pool(tx, pool.id)
    await pool_rows.delete(tx, pool.id)
    tx.emit(PoolDeleted(name, by))


async def add_prefix(tx: Tx, name: PoolName, draft: PrefixDraft, by: str, now: datetime) -> Pool:
    """The pool grows. The same prefix again changes nothing. Raises NotFound, PrefixOverlap."""
    pool = await pool_rows.take(tx, name, None)
    if any(each.cidr == draft.cidr for each in pool.prefixes):
        return pool
    await _insert_prefix(tx, pool.id, pool, draft, now)
    await pool_rows.change(tx, pool.id, {})
    tx.emit(PrefixAdded(name, str(draft.cidr), by))
    return await pool_rows.get(tx, name)


async def remove_prefix(tx: Tx, name: PoolName, cidr: Prefix, by: str, now: datetime) -> Pool:
    """Only one of which nothing is held. Raises NotFound, InUse."""
    pool = await pool_rows.take(tx, name, None)
    each = next((each for each in pool.prefixes if each.cidr == cidr), None)
    if each is None:
        raise NotFound("prefix", f"{cidr} of pool {name}")
    await _empty(tx, pool, each, now)
    await pool_rows.delete_prefix(tx, each.id)
    await pool_rows.change(tx, pool.id, {})
    tx.emit(PrefixRemoved(name, str(cidr), by))
    return await pool_rows.get(tx, name)


async def reserve(tx: Tx, name: PoolName, cidr: Prefix, reason: str, by: str, now: datetime) -> Pool:
    """Never hand these out. The same again changes nothing. Raises NotFound, AddressOutside, ReservationHeld."""
    pool = await pool_rows.take(tx, name, None)
    if any(kept.cidr == cidr for each in pool.prefixes for kept in each.reservations):
        return pool
    await _keep_out(tx, pool, ReservationDraft(cidr, reason), now)
    await pool_rows.change(tx, pool.id, {})
    tx.emit(ReservationAdded(name, str(cidr), reason, by))
    return await pool_rows.get(tx, name)


async def unreserve(tx: Tx, name: PoolName, cidr: Prefix, by: str, now: datetime) -> Pool:
    """Raises NotFound, and InUse for the gateway of a prefix, which is kept out as long as the prefix names it."""
    pool = await pool_rows.take(tx, name, None)
    around = pool.prefix_around(cidr)
    if around is None or all(kept.cidr != cidr for kept in around.reservations):
        raise NotFound("reservation", f"{cidr} of pool {name}")
    if around.gateway is not None and cidr == alone(around.gateway):
        raise InUse("reservation", str(cidr), f"it is the gateway of prefix {around.cidr}")
    await pool_rows.delete_reservation(tx, around.id, cidr)
    await pool_rows.return_to_writer(tx, around.id, cidr, now)
    await pool_rows.change(tx, pool.id, {})
    tx.emit(ReservationRemoved(name, str(cidr), by))
    return await pool_rows.get(tx, name)


async def usage(tx: Tx, name: PoolName, now: datetime) -> list[Usage]:
    """One for each family the pool has. Counted now, so callers that show it often cache it. Raises NotFound."""
    return await usage_of(tx, await pool_rows.get(tx, name), now)


async def usage_of(tx: Tx, pool: Pool, now: datetime) -> list[Usage]:
    """The same for a pool that was read already."""
    found = []
    for family in pool.families():
        tallies = [await usage_rows.tally(tx, pool, each, now) for each in pool.of(family)]
        found.append(add_up(family, [each.usage() for each in tallies]))
    return found


async def blocks(tx: Tx, name: PoolName, page: Page) -> Paged[PoolBlock]:
    """By address. Raises NotFound; Invalid for an `after` that is no prefix."""
    pool = await pool_rows.get(tx, name)
    after = None if page.after is None else parse_prefix(page.after, "after")
    return await usage_rows.blocks_page(tx, pool, page, after)


async def some_blocks(tx: Tx, name: PoolName, wanted: BlockFilter, skip: int, top: int) -> tuple[list[PoolBlock], int]:
    """The blocks that fit, by address, from the `skip`th on; and how many fit. Raises NotFound (pool)."""
    return await usage_rows.blocks_slice(tx, await pool_rows.get(tx, name), wanted, skip, top)


async def block(tx: Tx, name: PoolName, cidr: Prefix) -> PoolBlock:
    """Raises NotFound: also for one that nobody has claimed yet, of which there is no row."""
    found, _ = await some_blocks(tx, name, BlockFilter(among=(cidr,)), 0, 1)
    if not found:
        raise NotFound("block", str(cidr))
    return found[0]


async def _insert_prefix(tx: Tx, pool_id: int, owner: Pool | PoolDraft, draft: PrefixDraft, now: datetime) -> None:
    await range_rows.lock(tx)
    wanted = PooledPrefix(owner.name, owner.cluster, owner.purpose, draft.cidr)
    if owner.scope == 0:
        ranges.check(await range_rows.ranges(tx), [wanted])
    prefix_id = await pool_rows.insert_prefix(tx, pool_id, owner.scope, owner.purpose, draft, now)
    if draft.gateway is not None:
        await pool_rows.insert_reservation(tx, prefix_id, alone(draft.gateway), GATEWAY, now)


async def _keep_out(tx: Tx, pool: Pool, wanted: ReservationDraft, now: datetime) -> None:
    around = pool.prefix_around(wanted.cidr)
    if around is None:
        raise AddressOutside(str(wanted.cidr), f"the prefixes of pool {pool.name}")
    await usage_rows.lock_supply(tx, around.id)
    held = await usage_rows.holders(tx, pool.scope, wanted.cidr)
    if held:
        raise ReservationHeld(str(wanted.cidr), ", ".join(str(each) for each in held))
    if any(kept.cidr == wanted.cidr for kept in around.reservations):
        return
    await pool_rows.insert_reservation(tx, around.id, wanted.cidr, wanted.reason, now)


async def _empty(tx: Tx, pool: Pool, each: PoolPrefix, now: datetime) -> None:
    """Make sure that nobody holds anything of a prefix, and forget its blocks. Locks as the writer does: supply, then blocks.

    The pool is locked, so nothing new is assigned; releases go on. Once no allocation is to be seen, their spares are, and go too."""
    await usage_rows.lock_supply(tx, each.id)
    busy = await usage_rows.busy_blocks(tx, each.id, now)
    if busy:
        raise InUse("prefix", str(each.cidr), "; ".join(busy))
    held = await usage_rows.holders(tx, pool.scope, each.cidr)
    if held:
        raise InUse("prefix", str(each.cidr), f"addresses of it are held: {', '.join(str(a) for a in held)}")
    await usage_rows.forget_blocks(tx, each.id)
