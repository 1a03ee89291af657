"""Positions of events: dense, and in an order in which no reader can miss one.

Ids do not commit in order, so who reads by id skips those that commit late. One leader moves what it sees from `outbox` to `event`: what
commits later gets later positions, and of two changes to one row the second drew its id after the first had committed.
"""

from dataclasses import dataclass

from fabricmgr.store.leadership import Leading
from fabricmgr.store.wake import EVENT_CHANNEL

MOST = 5000  # events of one statement

_MOVE = f"""
    with moved as (
      delete from outbox where id in (select id from outbox order by id limit {MOST}) returning id, at, what, about
    ), placed as (
      insert into event (position, at, what, about)
      select (select coalesce(max(position), 0) from event) + row_number() over (order by id), at, what, about from moved
      returning position, at
    ), told as (
      select count(*) as moved, coalesce(max(position), 0) as newest, min(at) as oldest from placed
    )
    select moved, newest, oldest, case when moved > 0 then pg_notify('{EVENT_CHANNEL}', newest::text) end from told
"""


@dataclass(frozen=True)
class Moved:
    """How many events got a position, and the newest of them, 0 for none."""

    count: int
    newest: int

    @property
    def more(self) -> bool:
        """Whether others may be waiting still."""
        return self.count == MOST


async def move(leading: Leading) -> Moved:
    """Give what waits its positions, in one statement on the leader's own session, and wake the readers.

    Raises DatabaseUnavailable when we lead no more."""
    row = await leading.row(_MOVE)
    return Moved(0, 0) if row is None else Moved(row["moved"], row["newest"])
