"""Pools that run full are told about, and central blocks that stand empty go back to whoever claims them."""

from datetime import datetime
from functools import partial

from fabricmgr.domain.page import Page
from fabricmgr.loop import Outcome
from fabricmgr.services import thresholds
from fabricmgr.store import mark_rows
from fabricmgr.store.tx import Database

PERIOD = 15.0  # seconds: a pass counts every allocation
EMPTY_PERIOD = 60.0  # seconds
_AT_ONCE = 20  # pools, or blocks, of one transaction
_MOST_BLOCKS = 1000  # of one pass


async def watch(database: Database, now: datetime) -> Outcome:
    """One pass over all pools."""
    told, after = 0, None
    while True:
        crossed, after = await database.run(partial(thresholds.watch, now=now, page=Page(_AT_ONCE, after)))
        told += crossed
        if after is None:
            break
    return Outcome.done(f"{told} thresholds were crossed" if told else "no pool crossed a threshold")


async def empty_central(database: Database, now: datetime) -> Outcome:
    """One pass: at most _MOST_BLOCKS blocks."""
    freed = 0
    while freed < _MOST_BLOCKS:
        some = await database.run(partial(mark_rows.empty_central, now=now, most=_AT_ONCE))
        freed += some
        if some < _AT_ONCE:
            break
    return Outcome.done(f"{freed} central blocks may be claimed again" if freed else "no central block stands empty")
