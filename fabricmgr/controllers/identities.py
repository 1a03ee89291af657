"""Tokens that expired and certificates that ended long ago are forgotten."""

from datetime import datetime, timedelta

from fabricmgr.loop import Outcome
from fabricmgr.store import node_rows
from fabricmgr.store.tx import Database, Tx

PERIOD = 600.0  # seconds
# So long a refused agent is told that its certificate ended, or that its token expired, and not merely that it is unknown.
REMEMBERED = timedelta(days=7)


async def forget(database: Database, now: datetime) -> Outcome:
    """One pass."""

    async def use(tx: Tx) -> tuple[int, int]:
        before = now - REMEMBERED
        return await node_rows.forget_tokens_before(tx, before), await node_rows.forget_certificates_before(tx, before)

    tokens, certificates = await database.run(use)
    if not tokens and not certificates:
        return Outcome.done("no token and no certificate to forget")
    return Outcome.done(f"forgot {tokens} expired tokens and {certificates} ended certificates")
