"""Events and audit rows that nobody has to keep any longer."""

from datetime import datetime

from sqlalchemy import delete, func, select

from fabricmgr.store.tables import audit, event
from fabricmgr.store.tx import Tx

BATCH = 10_000  # rows deleted in one transaction


async def delete_events(tx: Tx, before: datetime) -> int:
    """The newest one stays, whatever its age: positions go on from it. At most BATCH at once; gives back how many."""
    newest = select(func.max(event.c.position)).scalar_subquery()
    old = select(event.c.position).where(event.c.at < before, event.c.position < newest).order_by(event.c.position).limit(BATCH)
    return await tx.change(delete(event).where(event.c.position.in_(old)))


async def delete_audit(tx: Tx, before: datetime) -> int:
    """At most BATCH at once; gives back how many."""
    old = select(audit.c.id).where(audit.c.at < before).order_by(audit.c.id).limit(BATCH)
    return await tx.change(delete(audit).where(audit.c.id.in_(old)))
