"""Sessions: a login without the password in every request. The token is shown once and stored as its hash.

`unused` is for how long a session lasts without a request.
"""

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from fabricmgr.domain.account import AccountPrincipal, Role, Session
from fabricmgr.domain.errors import Invalid, NotFound, Unauthenticated
from fabricmgr.domain.page import Page, Paged
from fabricmgr.store import account_rows
from fabricmgr.store.tx import Tx

# A session's last use is written at most this often, so that reading costs no write.
NOTED = timedelta(seconds=10)


async def open_session(
    tx: Tx, who: AccountPrincipal, source: str, now: datetime, chance: Callable[[int], bytes] = secrets.token_bytes
) -> tuple[Session, str]:
    """A new session of an account that was just recognised by its password, and its token: 32 random bytes in hex."""
    token = chance(32).hex()
    session_id = UUID(bytes=chance(16), version=4)
    await account_rows.insert_session(tx, session_id, _digest(token), who.account_id, source, now)
    return Session(session_id, who.name, who.role, source, now, now), token


async def find(tx: Tx, token: str, unused: timedelta, now: datetime) -> AccountPrincipal:
    """Whose token it is. Its use is noted, so this needs a transaction that may write. Raises Unauthenticated."""
    row = await account_rows.session_by_digest(tx, _digest(token))
    if row is None or row.seen_at + unused <= now:
        raise Unauthenticated("there is no such session, or it has ended")
    if not row.enabled:
        raise Unauthenticated("the account is disabled")
    if row.seen_at + min(NOTED, unused / 10) <= now:
        await account_rows.touch_session(tx, row.id, now)
    return AccountPrincipal(row.account_id, row.name, Role(row.role, frozenset(row.privileges)), row.must_change, row.id)


async def get(tx: Tx, session_id: UUID, unused: timedelta, now: datetime) -> Session:
    """Raises NotFound, for one that timed out too."""
    found = await account_rows.get_session(tx, session_id)
    if found.seen_at + unused <= now:
        raise NotFound("session", str(session_id))
    return found


async def list_all(tx: Tx, unused: timedelta, now: datetime, page: Page) -> Paged[Session]:
    """Those that have not ended. Raises Invalid for an `after` that is no id."""
    if page.after is not None:
        _parse(page.after)
    return await account_rows.sessions(tx, now - unused, page)


async def close(tx: Tx, session_id: UUID) -> None:
    """Raises NotFound."""
    if not await account_rows.delete_session(tx, session_id):
        raise NotFound("session", str(session_id))


async def expire(tx: Tx, unused: timedelta, now: datetime) -> int:
    """Forget those that timed out. Gives back how many."""
    return await account_rows.delete_sessions_before(tx, now - unused)


def _digest(token: str) -> bytes:
    # 32 random bytes need no slow hash: nobody guesses them.
    return hashlib.sha256(token.encode()).digest()


def _parse(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Invalid("after", text, "the `next` of the page before") from None
