"""The history's months: a partition each, made ahead, so that old ones go in an instant and inserts never fail for lack of one."""

from datetime import UTC, datetime

from sqlalchemy import text

from fabricmgr.store.tx import Tx

AHEAD = 2  # months beside the current one
BATCH = 10_000  # rows deleted in one transaction

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
    """Make a month's table, beside the history and then as part of it, since making it in place would lock out all writers for longer.

    Rows of that month that the default partition caught move there first. Gives back how many."""
    name, begin, end = partition(first), first.isoformat(), month(first, 1).isoformat()
    await tx.change(text(f"create table {name} (like history including defaults)"))
    # Nobody adds to the default partition from here on: a row of this month in it would make the last step fail.
    await tx.change(text("lock table history_default in access exclusive mode"))
    caught = f"delete from history_default where at >= '{begin}' and at < '{end}' returning *"
    moved = await tx.change(text(f"with caught as ({caught}) insert into {name} select * from caught"))
    await tx.change(text(f"alter table history attach partition {name} for values from ('{begin}') to ('{end}')"))
    return moved


async def drop_before(tx: Tx, keep_from: datetime) -> list[str]:
    """Drop the months that ended before. Gives back their names."""
    old = [name for name in await existing(tx) if name < partition(month(keep_from))]
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
