"""Months of the history are made ahead and dropped when their time is over; old events and audit rows go."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

from fabricmgr.domain.errors import Busy
from fabricmgr.loop import Outcome
from fabricmgr.settings import ManagerSettings
from fabricmgr.store import old_rows, partitions
from fabricmgr.store.tx import Database, Tx

PERIOD = 600.0  # seconds
LOCKED_PAUSE = 30.0
MOST_BATCHES = 20  # of one pass, so that a first cut after a long time does not keep the database busy


async def make_months(database: Database, now: datetime) -> Outcome:
    """The current month and the next ones, each in a transaction of its own."""
    try:
        made = await _make_months(database, now)
    except Busy:
        # Nothing is lost meanwhile: the default partition takes what has no month.
        return Outcome.again(LOCKED_PAUSE, "a long transaction holds the history, so no month could be made")
    return Outcome.done(f"made {', '.join(made)}" if made else "all months are made")


async def _make_months(database: Database, now: datetime) -> list[str]:
    made = []
    for ahead in range(partitions.AHEAD + 1):
        first = partitions.month(now, ahead)
        async with database.read() as tx:
            known = await partitions.existing(tx)
        if partitions.partition(first) not in known:
            moved = await database.run(partial(partitions.make, first=first))
            made.append(f"{first:%Y-%m} ({moved} rows moved)")
    return made


async def cut(database: Database, settings: ManagerSettings, now: datetime) -> Outcome:
    """Whole months are dropped, the rest goes row by row."""
    keep_from = now - settings.history_retention
    try:
        dropped = await database.run(lambda tx: partitions.drop_before(tx, keep_from))
    except Busy:
        return Outcome.again(LOCKED_PAUSE, "a long transaction holds the history, so no month could be dropped")
    history = await _in_batches(database, lambda tx: partitions.delete_before(tx, keep_from))
    audit = await _in_batches(database, lambda tx: old_rows.delete_audit(tx, keep_from))
    events = await _in_batches(database, lambda tx: old_rows.delete_events(tx, now - settings.event_retention))
    if not (dropped or history or audit or events):
        return Outcome.done("nothing is old enough to go")
    return Outcome.done(f"dropped {len(dropped)} months, {history} history rows, {audit} audit rows, {events} events")


async def _in_batches(database: Database, delete: Callable[[Tx], Awaitable[int]]) -> int:
    total = 0
    for _ in range(MOST_BATCHES):
        gone = await database.run(delete)
        total += gone
        if gone < old_rows.BATCH:
            break
    return total
