"""Sessions that timed out, and wrong passwords that no longer count, are forgotten."""

from datetime import datetime, timedelta

from fabricmgr.domain.account import Lockout
from fabricmgr.loop import Outcome
from fabricmgr.services import client_certificates, sessions
from fabricmgr.settings import ManagerSettings
from fabricmgr.store import account_rows
from fabricmgr.store.tx import Database, Tx

PERIOD = 60.0  # seconds


async def forget(database: Database, settings: ManagerSettings, now: datetime) -> Outcome:
    """One pass. Nobody is let in by a row that is still there: who looks at one looks at its time."""
    by_settings = Lockout(settings.lockout_attempts, timedelta(seconds=settings.lockout_seconds))

    async def use(tx: Tx) -> tuple[int, int]:
        wait = (await client_certificates.get_login(tx)).lockout(by_settings).wait
        return await sessions.expire(tx, settings.session_timeout, now), await account_rows.forget_failures_before(tx, now - wait)

    ended, failures = await database.run(use)
    if not ended and not failures:
        return Outcome.done("no session and no failed login to forget")
    return Outcome.done(f"forgot {ended} sessions that timed out and {failures} failed logins")
