"""Accounts: who may come in by name and password."""

import asyncio
import os
import secrets
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from fabricmgr.domain.account import (
    FIRST_ADMINISTRATOR,
    Account,
    AccountChange,
    AccountDraft,
    AccountPrincipal,
    Lockout,
    Role,
    account_name,
)
from fabricmgr.domain.errors import AlreadyExists, InUse, Invalid, LockedOut, Unauthenticated
from fabricmgr.domain.events import AccountChanged, AccountCreated, AccountDeleted, AccountLockedOut
from fabricmgr.domain.page import Page, Paged
from fabricmgr.services.passwords import Passwords
from fabricmgr.store import account_rows, client_rows
from fabricmgr.store.tx import Database, Tx

FIRST_PASSWORD_FILE = "initial-admin-password"
WRONG = "wrong account or password"
LOCAL = "fabricmgr on this machine"


async def create(tx: Tx, draft: AccountDraft, by: str, now: datetime) -> Account:
    """Raises AlreadyExists."""
    if await account_rows.find(tx, draft.name) is not None:
        raise AlreadyExists("account", draft.name)
    await account_rows.insert(tx, draft, now)
    tx.emit(AccountCreated(draft.name, draft.role.value, by))
    return await account_rows.get(tx, draft.name)


async def get(tx: Tx, name: str) -> Account:
    """Raises NotFound."""
    return await account_rows.get(tx, name)


async def locked(tx: Tx, names: Collection[str], lockout: Lockout, now: datetime) -> frozenset[str]:
    """Those of the accounts that wait after too many wrong passwords, from any source."""
    return await account_rows.locked(tx, names, (await client_rows.login(tx)).lockout(lockout), now)


async def list_all(tx: Tx, page: Page) -> Paged[Account]:
    """By name."""
    return await account_rows.page(tx, page)


async def change(
    tx: Tx, name: str, wanted: AccountChange, if_version: int | None, by: str, now: datetime, *, session: UUID | None = None
) -> Account:
    """A new password, and being disabled, end the account's sessions, but the one (`session`) that asks.

    Raises NotFound, VersionConflict, and InUse for what would leave nobody who may administer."""
    del now
    found = await account_rows.take(tx, name, if_version)
    if wanted.unlock:
        await account_rows.forget_failures(tx, name)
    values = _values(found, wanted)
    if not values:
        return found
    if values.get("enabled") is False or values.get("role", Role.ADMINISTRATOR.value) != Role.ADMINISTRATOR.value:
        await _keep_an_administrator(tx, found)
    if "password_hash" in values or values.get("enabled") is False:
        await account_rows.delete_sessions_of(tx, found.id, but=None if values.get("enabled") is False else session)
    if "password_hash" in values:
        await account_rows.forget_failures(tx, name)
    await account_rows.change(tx, found.id, values)
    tx.emit(AccountChanged(name, tuple(sorted("password" if each == "password_hash" else each for each in values)), by))
    return await account_rows.get(tx, name)


async def delete(tx: Tx, name: str, if_version: int | None, by: str, now: datetime) -> None:
    """With its sessions. Raises NotFound, VersionConflict, and InUse for the last administrator."""
    del now
    found = await account_rows.take(tx, name, if_version)
    await _keep_an_administrator(tx, found)
    await account_rows.delete(tx, found.id)
    tx.emit(AccountDeleted(name, by))


def _values(found: Account, wanted: AccountChange) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if wanted.password is not None:
        values = {"password_hash": wanted.password.text, "must_change": bool(wanted.must_change)}
    if wanted.role is not None and wanted.role != found.role:
        values["role"] = wanted.role.value
    if wanted.enabled not in (None, found.enabled):
        values["enabled"] = wanted.enabled
    if wanted.must_change not in (None, found.must_change):
        values["must_change"] = wanted.must_change
    return values


async def _keep_an_administrator(tx: Tx, found: Account) -> None:
    if found.role == Role.ADMINISTRATOR and found.enabled and not await account_rows.other_administrators(tx, found):
        raise InUse("account", found.name, "nobody else could administer this manager")


# --- coming in -------------------------------------------------------------------------------------------------------


@dataclass
class Gate:
    """Checks names and passwords. One for each process. lockout: by the settings; what somebody has said since goes before it."""

    database: Database
    passwords: Passwords
    lockout: Lockout = field(default_factory=Lockout)
    _turns: "WeakValueDictionary[tuple[str, str], asyncio.Lock]" = field(default_factory=WeakValueDictionary)

    async def authenticate(self, name: str, password: str, source: str, now: datetime) -> AccountPrincipal:
        """Raises Unauthenticated, and LockedOut after too many wrong passwords for this account from this source.

        Three steps, since no database connection is kept while argon2 runs: look, verify, and count what was wrong. Guesses of one
        account from one source take turns, so that many at once are no way around the count."""
        try:
            account_name(name)
        except Invalid:
            raise Unauthenticated(WRONG) from None
        turn = self._turns.setdefault((name, source), asyncio.Lock())
        async with turn:
            found, expected = await self._look(name, source, now)
            right = await self.passwords.verify(name, password, expected)
            if not right:
                await self.database.run(lambda tx: _count_failure(tx, name, source, self.lockout, now))
                raise Unauthenticated(WRONG)
        if found is None or not found.enabled:
            raise Unauthenticated("the account is disabled")
        return AccountPrincipal(found.id, found.name, found.role, found.must_change)

    async def _look(self, name: str, source: str, now: datetime) -> tuple[Account | None, str | None]:
        async with self.database.read() as tx:
            failed = await account_rows.failures(tx, name, source)
            found = await account_rows.find(tx, name)
            rule = (await client_rows.login(tx)).lockout(self.lockout)
        if failed is not None and rule.holds(*failed, now):
            raise LockedOut(name, failed[1] + rule.wait)
        return found if found is not None else (None, None)


async def _count_failure(tx: Tx, name: str, source: str, lockout: Lockout, now: datetime) -> None:
    known = await account_rows.find(tx, name) is not None
    rule = (await client_rows.login(tx)).lockout(lockout)
    count = await account_rows.count_failure(tx, name, source, rule, now)
    if known and count == rule.attempts and rule.holds(count, now, now):
        tx.emit(AccountLockedOut(name, source, now + rule.wait))


# --- the first one, and help on the machine itself ---------------------------------------------------------------------


async def ensure_first_administrator(
    database: Database, passwords: Passwords, data_dir: Path, now: datetime, chance: Callable[[int], str] = secrets.token_urlsafe
) -> Path | None:
    """Where nobody may come in yet: an administrator with a made-up password, which stands in a file that its owner alone can read.

    Gives back the file's path, None when there are accounts. The file is there before the account is: a crash in between costs nothing."""
    async with database.read() as tx:
        if await account_rows.exist(tx):
            return None
    password = chance(18)
    hashed = await passwords.hashed(password)
    path = data_dir / FIRST_PASSWORD_FILE
    _write_secret(path, password)
    draft = AccountDraft(FIRST_ADMINISTRATOR, hashed, Role.ADMINISTRATOR)
    if await database.run(lambda tx: _create_first(tx, draft, now)):
        return path
    path.unlink(missing_ok=True)
    return None


async def _create_first(tx: Tx, draft: AccountDraft, now: datetime) -> bool:
    if await account_rows.lock_all(tx):
        return False
    await create(tx, draft, LOCAL, now)
    return True


async def reset(
    database: Database, passwords: Passwords, name: str, now: datetime, chance: Callable[[int], str] = secrets.token_urlsafe
) -> str:
    """Let an administrator in again, asked for on the machine itself: a new password, enabled, not locked out, in the role it had.

    Only the first administrator is made where it does not exist. Gives back the password. Raises NotFound."""
    password = chance(18)
    hashed = await passwords.hashed(password)

    async def use(tx: Tx) -> None:
        await account_rows.forget_failures(tx, name)
        if name == FIRST_ADMINISTRATOR and await account_rows.find(tx, name) is None:
            await create(tx, AccountDraft(name, hashed, Role.ADMINISTRATOR), LOCAL, now)
            return
        role = Role.ADMINISTRATOR if name == FIRST_ADMINISTRATOR else None
        await change(tx, name, AccountChange(password=hashed, enabled=True, role=role), None, LOCAL, now)

    await database.run(use)
    return password


def _write_secret(path: Path, text: str) -> None:
    """Whole or not at all, and never readable by others, not for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)
