"""Blocks come back: claims that nobody confirmed, and those given back once they have rested. A confirmed block never does by itself."""

from datetime import datetime

from fabricmgr.loop import Outcome
from fabricmgr.services import blocks
from fabricmgr.store.tx import Database

PERIOD = 5.0  # seconds


async def blocks_back(database: Database, now: datetime) -> Outcome:
    """One pass."""
    withdrawn = await database.run(lambda tx: blocks.withdraw_unconfirmed(tx, now))
    freed = await database.run(lambda tx: blocks.free_rested(tx, now))
    if not withdrawn and not freed:
        return Outcome.done("no block to take back")
    return Outcome.done(f"withdrew {withdrawn} claims that nobody confirmed, freed {freed} rested blocks")
