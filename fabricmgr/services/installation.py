"""Who this installation is: one UUID for all managers of a database."""

from datetime import datetime
from uuid import UUID

from fabricmgr.store import installation_rows
from fabricmgr.store.tx import Tx


async def ensure(tx: Tx, wanted: UUID, now: datetime) -> UUID:
    """The installation's id; the wanted one when this is its first start."""
    return await installation_rows.ensure(tx, wanted, now)


async def get(tx: Tx) -> UUID:
    """The installation's id."""
    return await installation_rows.get(tx)
