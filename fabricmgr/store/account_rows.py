"""Rows of accounts, sessions and failed logins."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, case, func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from fabricmgr.domain.account import Account, AccountDraft, Lockout, Role, Session
from fabricmgr.domain.errors import NotFound, VersionConflict
from fabricmgr.domain.page import Page, Paged
from fabricmgr.store.tables import account, login_failure, role, session
from fabricmgr.store.tx import Tx

_SESSIONS = (
    select(session, account.c.name.label("account"), account.c.role, role.c.privileges)
    .join(account, account.c.id == session.c.account_id)
    .join(role, role.c.name == account.c.role)
)


_ACCOUNTS = select(account, role.c.privileges).join(role, role.c.name == account.c.role)


def _role(row: Row[Any]) -> Role:
    return Role(row.role, frozenset(row.privileges))


def _account(row: Row[Any]) -> Account:
    return Account(row.id, row.name, _role(row), row.enabled, row.must_change, row.created_at, row.version)


def _session(row: Row[Any]) -> Session:
    return Session(row.id, row.account, _role(row), row.source, row.created_at, row.seen_at)


async def find(tx: Tx, name: str) -> tuple[Account, str] | None:
    """An account and its password's hash."""
    row = await tx.first(_ACCOUNTS.where(account.c.name == name))
    return None if row is None else (_account(row), row.password_hash)


async def get(tx: Tx, name: str) -> Account:
    """Raises NotFound."""
    found = await find(tx, name)
    if found is None:
        raise NotFound("account", name)
    return found[0]


async def take(tx: Tx, name: str, quoted: int | None) -> Account:
    """Lock it for a change. Raises NotFound and VersionConflict."""
    # The lock comes first and alone: a statement that waits for it would join the changed account to the role it had before.
    await tx.first(select(account.c.id).where(account.c.name == name).with_for_update())
    row = await tx.first(_ACCOUNTS.where(account.c.name == name))
    if row is None:
        raise NotFound("account", name)
    if quoted is not None and quoted != row.version:
        raise VersionConflict("account", name, str(quoted), str(row.version))
    return _account(row)


async def other_administrators(tx: Tx, found: Account) -> int:
    """Enabled ones beside this. They are locked, so that two cannot remove each other."""
    asked = select(account.c.id).where(account.c.role == Role.ADMINISTRATOR.value, account.c.enabled.is_(True), account.c.id != found.id)
    return len(await tx.all(asked.with_for_update()))


async def lock_all(tx: Tx) -> bool:
    """Keep others from adding accounts until we commit. Gives back whether there are any."""
    await tx.connection.execute(text("lock table account in share row exclusive mode"))
    return bool(await tx.value(select(func.count()).select_from(account)))


async def exist(tx: Tx) -> bool:
    return await tx.first(select(account.c.id).limit(1)) is not None


async def page(tx: Tx, wanted: Page) -> Paged[Account]:
    rows = await tx.all(_ACCOUNTS.where(account.c.name > (wanted.after or "")).order_by(account.c.name).limit(wanted.limit + 1))
    return wanted.cut([_account(row) for row in rows], lambda each: each.name)


async def insert(tx: Tx, draft: AccountDraft, now: datetime) -> None:
    row = {
        "name": draft.name,
        "password_hash": draft.password.text,
        "role": draft.role.value,
        "enabled": draft.enabled,
        "must_change": draft.must_change,
        "created_at": now,
    }
    await tx.change(account.insert(), row)


async def change(tx: Tx, account_id: int, values: Mapping[str, Any]) -> None:
    await tx.change(account.update().where(account.c.id == account_id).values(version=account.c.version + 1, **values))


async def delete(tx: Tx, account_id: int) -> None:
    """Its sessions go with it."""
    await tx.change(account.delete().where(account.c.id == account_id))


# --- sessions --------------------------------------------------------------------------------------------------------


async def insert_session(tx: Tx, session_id: UUID, digest: bytes, account_id: int, source: str, now: datetime) -> None:
    row = {"id": session_id, "digest": digest, "account_id": account_id, "source": source, "created_at": now, "seen_at": now}
    await tx.change(session.insert(), row)


async def session_by_digest(tx: Tx, digest: bytes) -> Row[Any] | None:
    """The session and its account, with account_id, name, role, privileges, enabled and must_change."""
    columns = (session, account.c.name, account.c.role, account.c.enabled, account.c.must_change, role.c.privileges)
    asked = select(*columns).join(account, account.c.id == session.c.account_id).join(role, role.c.name == account.c.role)
    return await tx.first(asked.where(session.c.digest == digest))


async def touch_session(tx: Tx, session_id: UUID, now: datetime) -> None:
    await tx.change(session.update().where(session.c.id == session_id).values(seen_at=now))


async def get_session(tx: Tx, session_id: UUID) -> Session:
    """Raises NotFound."""
    row = await tx.first(_SESSIONS.where(session.c.id == session_id))
    if row is None:
        raise NotFound("session", str(session_id))
    return _session(row)


async def sessions(tx: Tx, seen_after: datetime, wanted: Page) -> Paged[Session]:
    """By id; those that timed out are not shown."""
    asked = _SESSIONS.where(session.c.seen_at > seen_after).order_by(session.c.id).limit(wanted.limit + 1)
    if wanted.after is not None:
        asked = asked.where(session.c.id > UUID(wanted.after))
    return wanted.cut([_session(row) for row in await tx.all(asked)], lambda each: str(each.id))


async def delete_session(tx: Tx, session_id: UUID) -> bool:
    return await tx.change(session.delete().where(session.c.id == session_id)) > 0


async def delete_sessions_of(tx: Tx, account_id: int, *, but: UUID | None = None) -> None:
    wanted = session.delete().where(session.c.account_id == account_id)
    await tx.change(wanted if but is None else wanted.where(session.c.id != but))


async def delete_sessions_before(tx: Tx, seen_at: datetime) -> int:
    return await tx.change(session.delete().where(session.c.seen_at <= seen_at))


# --- failed logins ---------------------------------------------------------------------------------------------------


async def failures(tx: Tx, name: str, source: str) -> tuple[int, datetime] | None:
    """How many in a row, and when the last one was."""
    asked = select(login_failure.c["count"].label("failed"), login_failure.c.last_at)
    row = await tx.first(asked.where(login_failure.c.account == name, login_failure.c.source == source))
    return None if row is None else (row.failed, row.last_at)


async def count_failure(tx: Tx, name: str, source: str, lockout: Lockout, now: datetime) -> int:
    """One more; the count begins anew when the last one was long ago. Gives back the count."""
    values = {"account": name, "source": source, "count": 1, "last_at": now}
    old = login_failure.c.last_at <= now - lockout.wait
    counted = upsert(login_failure).values(values)
    counted = counted.on_conflict_do_update(
        index_elements=["account", "source"],
        set_={"count": case((old, 1), else_=login_failure.c["count"] + 1), "last_at": now},
    )
    return int(await tx.value(counted.returning(login_failure.c["count"])))


async def locked(tx: Tx, names: Collection[str], lockout: Lockout, now: datetime) -> frozenset[str]:
    """Those of the accounts that are locked out, from wherever."""
    if not lockout.attempts:
        return frozenset()
    asked = select(login_failure.c.account).where(login_failure.c.account.in_(names), login_failure.c["count"] >= lockout.attempts)
    return frozenset(row.account for row in await tx.all(asked.where(login_failure.c.last_at > now - lockout.wait)))


async def forget_failures(tx: Tx, name: str, source: str | None = None) -> None:
    wanted = login_failure.delete().where(login_failure.c.account == name)
    await tx.change(wanted if source is None else wanted.where(login_failure.c.source == source))


async def forget_failures_before(tx: Tx, last_at: datetime) -> int:
    return await tx.change(login_failure.delete().where(login_failure.c.last_at <= last_at))
