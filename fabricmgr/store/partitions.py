"""The history's months: a partition each, made ahead, so that old ones go in an instant and inserts never fail for lack of one."""

from datetime import UTC, datetime

from sqlalchemy import text

from fabricmgr.store.tx import Tx

AHEAD = 2  # months beside the current one
BATCH = 10_000  # rows deleted in one transaction
LOCK_WAIT = 300  # milliseconds that writers of history may wait behind us

_EXISTING = text(
    """
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'history'::regclass and c.relname ~ '^history_[0-9]{4}_[0-9]{2}$' order by c.relname
    """
)


def month(at: datetime, ahead: int = 0) -> datetime:
    """The first moment of a time's month in UTC, or of one some months later."""
    at = at.astimezone(UTC)
    months = at.year * 12 + at.month - 1 + ahead
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def partition(first: datetime) -> str:
    """A month's table."""
    return f"history_{first:%Y_%m}"


async def existing(tx: Tx) -> list[str]:
    """All months' tables, oldest first."""
    return [row.name for row in await tx.all(_EXISTING)]


async def make(tx: Tx, first: datetime) -> int:
    """Make a month's table. Rows of that month that the default partition caught move there. Gives back how many.

    The history itself is locked for these milliseconds: an insert that had chosen the default partition and then waited for it would fail,
    since by then the row belongs elsewhere. A lock that does not come at once is given up, so that nobody queues behind us for long."""
    name, begin, end = partition(first), first.isoformat(), month(first, 1).isoformat()
    await _lock(tx)
    await tx.change(text(f"create table {name} (like history including defaults)"))
    caught = f"delete from history_default where at >= '{begin}' and at < '{end}' returning *"
    moved = await tx.change(text(f"with caught as ({caught}) insert into {name} select * from caught"))
    await tx.change(text(f"alter table history attach partition {name} for values from ('{begin}') to ('{end}')"))
    return moved


async def _lock(tx: Tx) -> None:
    await tx.change(text(f"set local lock_timeout = {LOCK_WAIT}"))
    await tx.change(text("lock table history in access exclusive mode"))


async def drop_before(tx: Tx, keep_from: datetime) -> list[str]:
    """Drop the months that ended before. Gives back their names."""
    old = [name for name in await existing(tx) if name < partition(month(keep_from))]
    if old:
        await _lock(tx)
    for name in old:
        await tx.change(text(f"drop table {name}"))
    return old


async def delete_before(tx: Tx, keep_from: datetime) -> int:
    """Delete older rows of the months that stay, at most BATCH at once. Gives back how many."""
    statement = text(
        f"""
        delete from history h using (select ctid, tableoid from history where at < :keep_from limit {BATCH}) old
        where h.ctid = old.ctid and h.tableoid = old.tableoid and h.at < :keep_from
        """
    )
    return await tx.change(statement.bindparams(keep_from=keep_from))
