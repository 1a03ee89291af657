"""What happened, in order: everybody reads by position."""

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.events import DomainEvent, Event
from fabricmgr.domain.page import LARGEST_LIMIT
from fabricmgr.store import event_rows
from fabricmgr.store.tx import Tx


async def after(tx: Tx, position: int, limit: int) -> list[Event]:
    """Events behind a position, oldest first; none is ever inserted before one that was read. Raises Invalid."""
    if not 0 <= position < 2**63:
        raise Invalid("after", position, "a position, 0 or more")
    if not 1 <= limit <= LARGEST_LIMIT:
        raise Invalid("limit", limit, f"a number from 1 to {LARGEST_LIMIT}")
    return await event_rows.after(tx, position, limit)


async def newest(tx: Tx) -> int:
    """The newest position; 0 before the first event."""
    return (await event_rows.bounds(tx))[1]


async def oldest(tx: Tx) -> int:
    """The oldest position that is kept; 0 when none is."""
    return (await event_rows.bounds(tx))[0]


async def tell(tx: Tx, event: DomainEvent) -> None:
    """Something happened that changes nothing here."""
    tx.emit(event)
