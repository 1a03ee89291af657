"""How much of a pool is in use, and by whom: always counted, never kept."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, cast, func, literal, not_, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, CIDR, INET

from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.domain.page import Page, Paged
from fabricmgr.domain.pool import BlockFilter, BlockTally, Pool, PoolBlock, PoolPrefix, PrefixTally, inside
from fabricmgr.store.tables import allocation, block, cluster, node, prefix, spare, supply
from fabricmgr.store.tx import Tx

NODE_STATES = ("pending", "confirmed", "releasing", "held_back")


def _address(version: int) -> tuple[Any, Any]:
    """The allocation's columns of a family: prefix id and address."""
    columns = allocation.c
    return (columns.prefix4, columns.address4) if version == 4 else (columns.prefix6, columns.address6)


def lies_in(column: ColumnElement[Any], cidr: Prefix) -> ColumnElement[bool]:
    """As a range, so that the index of (scope, address) serves it."""
    return and_(column >= cast(str(cidr[0]), INET), column <= cast(str(cidr[-1]), INET))


async def tally(tx: Tx, pool: Pool, each: PoolPrefix, now: datetime) -> PrefixTally:
    """Count one prefix. Four queries; the allocations' one reads each of its addresses once."""
    kept_out = each.kept_out(pool.skip_ends)
    taken = await _taken(tx, pool.scope, each, kept_out)
    node_blocks, resting = await _blocks(tx, each, kept_out, now)
    return PrefixTally(
        cidr=each.cidr,
        kept_out=sum(cidr.num_addresses for cidr in kept_out),
        held=taken.held,
        waiting=taken.waiting,
        taken_kept_out=taken.kept_out,
        taken_in_node_blocks=taken.in_node_blocks,
        node_blocks=node_blocks,
        resting_blocks=resting,
        resting_spares=await _resting_spares(tx, each, kept_out, now - pool.cooldown),
    )


async def _taken(tx: Tx, scope: int, each: PoolPrefix, kept_out: tuple[Prefix, ...]) -> Any:
    _, address = _address(each.cidr.version)
    out = _within(address, kept_out)
    around = func.network(func.set_masklen(address, each.block_length))
    of_node = block.c.state.in_(NODE_STATES)
    asked = (
        select(
            func.count().filter(allocation.c.released_at.is_(None)).label("held"),
            func.count().filter(allocation.c.released_at.is_not(None)).label("waiting"),
            func.count().filter(out).label("kept_out"),
            func.count().filter(and_(of_node, not_(out))).label("in_node_blocks"),
        )
        .select_from(allocation)
        .outerjoin(block, and_(block.c.prefix_id == each.id, block.c.cidr == around))
        .where(allocation.c.scope == scope, lies_in(address, each.cidr))
    )
    return await tx.only(asked)


def _within(address: ColumnElement[Any], prefixes: tuple[Prefix, ...]) -> ColumnElement[bool]:
    if not prefixes:
        return literal(False)
    return address.op("<<=", is_comparison=True)(func.any(bindparam(None, list(prefixes), type_=ARRAY(CIDR))))


async def _blocks(tx: Tx, each: PoolPrefix, kept_out: tuple[Prefix, ...], now: datetime) -> tuple[BlockTally, BlockTally]:
    """Those of nodes, and unclaimed ones that rest."""
    of_node = block.c.state.in_(NODE_STATES)
    resting = and_(block.c.state == "unclaimed", block.c.rested_at > now)
    asked = select(func.count().filter(of_node).label("of_node"), func.count().filter(resting).label("resting")).where(
        block.c.prefix_id == each.id
    )
    counted = await tx.only(asked)
    met: list[Any] = []
    if kept_out and (counted.of_node or counted.resting):
        overlaps = block.c.cidr.op("&&", is_comparison=True)(func.any(bindparam(None, list(kept_out), type_=ARRAY(CIDR))))
        kinds = select(block.c.cidr, of_node.label("of_node"))
        met = await tx.all(kinds.where(block.c.prefix_id == each.id, or_(of_node, resting), overlaps))
    size = 1 << (each.cidr.max_prefixlen - each.block_length)
    return (
        BlockTally(counted.of_node * size, sum(_shared(row.cidr, kept_out) for row in met if row.of_node)),
        BlockTally(counted.resting * size, sum(_shared(row.cidr, kept_out) for row in met if not row.of_node)),
    )


def _shared(cidr: Prefix, others: tuple[Prefix, ...]) -> int:
    """Addresses of a block that are kept out. CIDRs are nested or apart, and `others` are apart from each other."""
    if any(inside(cidr, other) for other in others):
        return int(cidr.num_addresses)
    return sum(other.num_addresses for other in others if inside(other, cidr))


async def _resting_spares(tx: Tx, each: PoolPrefix, kept_out: tuple[Prefix, ...], rested: datetime) -> int:
    around = func.network(func.set_masklen(spare.c.address, each.block_length))
    asked = (
        select(func.count())
        .select_from(spare)
        .join(block, and_(block.c.prefix_id == spare.c.prefix_id, block.c.cidr == around))
        .where(spare.c.prefix_id == each.id, spare.c.released_at > rested, block.c.state == "central")
        .where(not_(_within(spare.c.address, kept_out)))
    )
    return int(await tx.value(asked))


async def holders(tx: Tx, scope: int, cidr: Prefix, limit: int = 5) -> list[Address]:
    """Some of the addresses below a prefix that are held, or released with a link that may still carry them."""
    _, address = _address(cidr.version)
    rows = await tx.all(select(address).where(allocation.c.scope == scope, lies_in(address, cidr)).order_by(address).limit(limit))
    return [row[0] for row in rows]


async def lock_supply(tx: Tx, prefix_id: int) -> None:
    """From here on the writer hands nothing out of this prefix until we commit."""
    await tx.all(select(supply.c.prefix_id).where(supply.c.prefix_id == prefix_id).with_for_update())


async def busy_blocks(tx: Tx, prefix_id: int, now: datetime, limit: int = 3) -> list[str]:
    """Blocks that nodes hold, that are held back, or that rest; locked, with the reason in words."""
    resting = and_(block.c.state == "unclaimed", block.c.rested_at > now)
    asked = (
        select(block.c.cidr, block.c.state, block.c.rested_at, node.c.name)
        .outerjoin(node, node.c.id == block.c.node_id)
        .where(block.c.prefix_id == prefix_id, or_(block.c.state.in_(NODE_STATES), resting))
        .order_by(block.c.cidr)
        .limit(limit)
        .with_for_update(of=block)
    )
    return [_why(row) for row in await tx.all(asked)]


def _why(row: Any) -> str:
    if row.state == "unclaimed":
        return f"block {row.cidr} rests until {row.rested_at.isoformat(timespec='seconds')}"
    return f"block {row.cidr} is {row.state.replace('_', ' ')}" + (f" for node {row.name}" if row.name else "")


async def forget_blocks(tx: Tx, prefix_id: int) -> None:
    """What nobody holds of a prefix that is to go: its spare addresses and its blocks."""
    await tx.change(spare.delete().where(spare.c.prefix_id == prefix_id))
    await tx.change(block.delete().where(block.c.prefix_id == prefix_id))


def _blocks_of(pool: Pool) -> Select[Any]:
    return (
        select(block, node.c.name.label("node"), cluster.c.name.label("cluster"))
        .join(prefix, prefix.c.id == block.c.prefix_id)
        .outerjoin(node, node.c.id == block.c.node_id)
        .outerjoin(cluster, cluster.c.id == node.c.cluster_id)
        .where(prefix.c.pool_id == pool.id)
        .order_by(block.c.cidr)
    )


def _pool_block(row: Row[Any]) -> PoolBlock:
    return PoolBlock(row.cidr, row.state, row.node, row.cluster, row.claim, row.generation, row.since, row.rested_at)


async def blocks_slice(tx: Tx, pool: Pool, wanted: BlockFilter, skip: int, top: int) -> tuple[list[PoolBlock], int]:
    """By address, from the `skip`th on, with how many there are in all."""
    found = {block.c.state: wanted.state, node.c.name: wanted.node, cluster.c.name: wanted.cluster}
    asked = _blocks_of(pool).where(*(column == value for column, value in found.items() if value is not None))
    if wanted.among is not None:
        asked = asked.where(block.c.cidr.in_(wanted.among))
    total = int(await tx.value(select(func.count()).select_from(asked.order_by(None).subquery())))
    return [_pool_block(row) for row in await tx.all(asked.offset(skip).limit(top))], total


async def blocks_page(tx: Tx, pool: Pool, wanted: Page, after: Prefix | None) -> Paged[PoolBlock]:
    asked = _blocks_of(pool).limit(wanted.limit + 1)
    if after is not None:
        asked = asked.where(block.c.cidr > cast(str(after), CIDR))
    found = [_pool_block(row) for row in await tx.all(asked)]
    return wanted.cut(found, lambda each: str(each.prefix))
