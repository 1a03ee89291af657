"""Tells, once each, that a pool runs full, that it is exhausted, and that it no longer is."""

from datetime import datetime

from fabricmgr.domain.events import PoolExhausted, PoolRelieved, PoolThresholdCleared, PoolThresholdCrossed
from fabricmgr.domain.page import Page
from fabricmgr.domain.pool import Pool, PoolFilter, Usage
from fabricmgr.domain.thresholds import EXHAUSTED, crossings, percent_used
from fabricmgr.services import pools
from fabricmgr.store import mark_rows
from fabricmgr.store.tx import Tx


async def watch(tx: Tx, now: datetime, page: Page) -> tuple[int, str | None]:
    """A page of pools: how many marks were crossed either way, and where the next page begins; None at the end."""
    standing = await mark_rows.standing(tx)
    found = await pools.list_all(tx, PoolFilter(), page)
    told = 0
    for pool in found.items:
        for usage in await pools.usage_of(tx, pool, now):
            told += await _tell(tx, pool, usage, standing.get((pool.id, usage.family.value), frozenset()), now)
    return told, found.next


async def _tell(tx: Tx, pool: Pool, usage: Usage, standing: frozenset[int], now: datetime) -> int:
    key = (pool.id, usage.family.value)
    met = crossings(usage, standing, (pool.warning, pool.critical))
    label, percent = usage.family.label, percent_used(usage)
    for mark in met.raised:
        if await mark_rows.raise_mark(tx, key, mark, now):
            tx.emit(PoolExhausted(pool.name, label) if mark == EXHAUSTED else PoolThresholdCrossed(pool.name, label, mark, percent))
    for mark in met.cleared:
        tx.emit(PoolRelieved(pool.name, label) if mark == EXHAUSTED else PoolThresholdCleared(pool.name, label, mark, percent))
    if met.cleared:
        await mark_rows.clear(tx, key, met.cleared)
    return len(met.raised) + len(met.cleared)
