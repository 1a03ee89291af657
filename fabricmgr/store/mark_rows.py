"""Thresholds that pools have crossed."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import DateTime, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from fabricmgr.store.tables import pool_mark
from fabricmgr.store.tx import Tx

Key = tuple[int, int]  # pool, family


async def standing(tx: Tx) -> dict[Key, frozenset[int]]:
    """The marks of every pool and family. Locked, so that two passes at once cannot tell one twice."""
    found: dict[Key, frozenset[int]] = {}
    order = (pool_mark.c.pool_id, pool_mark.c.family, pool_mark.c.mark)
    for row in await tx.all(select(pool_mark).order_by(*order).with_for_update()):
        key = (row.pool_id, row.family)
        found[key] = found.get(key, frozenset()) | {row.mark}
    return found


async def raise_mark(tx: Tx, key: Key, mark: int, now: datetime) -> bool:
    """Whether it was not there."""
    row = {"pool_id": key[0], "family": key[1], "mark": mark, "since": now}
    return await tx.change(upsert(pool_mark).values(row).on_conflict_do_nothing()) > 0


async def clear(tx: Tx, key: Key, marks: Iterable[int]) -> None:
    wanted = pool_mark.delete().where(pool_mark.c.pool_id == key[0], pool_mark.c.family == key[1])
    await tx.change(wanted.where(pool_mark.c.mark.in_(list(marks))))


async def empty_central(tx: Tx, now: datetime, most: int) -> int:
    """Let nodes claim central blocks again of which every address waits and has rested. How many there were."""
    at = bindparam("at", now, type_=DateTime(timezone=True))
    return int(await tx.value(select(func.empty_central_1(at, most))))
