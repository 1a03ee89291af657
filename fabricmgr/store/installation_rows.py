"""The row that says who this installation is."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from fabricmgr.store.tables import installation
from fabricmgr.store.tx import Tx


async def ensure(tx: Tx, wanted: UUID, now: datetime) -> UUID:
    """The id that stands there; the wanted one where none did."""
    await tx.change(insert(installation).values(only_one=True, id=wanted, created_at=now).on_conflict_do_nothing())
    return await get(tx)


async def get(tx: Tx) -> UUID:
    """The id, which the first start wrote."""
    row = await tx.only(select(installation.c.id))
    found: UUID = row.id
    return found
