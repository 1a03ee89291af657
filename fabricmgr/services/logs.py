"""The logs, by page: nothing in them is ever changed, and new rows come at their end."""

from collections.abc import Sequence

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.events import Event
from fabricmgr.domain.log import Audited, AuditFilter, EventFilter
from fabricmgr.store import audit_rows, event_rows
from fabricmgr.store.tx import Tx


async def audited(tx: Tx, wanted: AuditFilter, skip: int, limit: int) -> tuple[list[int], int]:
    """Ids in their order, from `skip` on, and how many there are in all."""
    return await audit_rows.ids(tx, wanted, skip, limit)


async def audit_entries(tx: Tx, ids: Sequence[int]) -> list[Audited]:
    """Those that are there, in the order of their ids."""
    return await audit_rows.some(tx, ids)


async def audit_entry(tx: Tx, wanted: int) -> Audited:
    """Raises NotFound."""
    found = await audit_rows.some(tx, [wanted])
    if not found:
        raise NotFound("audit entry", str(wanted))
    return found[0]


async def happened(tx: Tx, wanted: EventFilter, skip: int, limit: int) -> tuple[list[int], int]:
    """Positions of events in their order, from `skip` on, and how many there are in all."""
    return await event_rows.positions(tx, wanted, skip, limit)


async def events(tx: Tx, positions: Sequence[int]) -> list[Event]:
    """Those that are there, in order."""
    return await event_rows.some(tx, positions)


async def event(tx: Tx, position: int) -> Event:
    """Raises NotFound."""
    found = await event_rows.some(tx, [position])
    if not found:
        raise NotFound("event", str(position))
    return found[0]
