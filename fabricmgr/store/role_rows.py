"""Rows of roles."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select

from fabricmgr.domain.account import Role
from fabricmgr.domain.errors import NotFound, VersionConflict
from fabricmgr.domain.page import Page, Paged
from fabricmgr.store.tables import account, role
from fabricmgr.store.tx import Tx


def _role(row: Row[Any]) -> Role:
    return Role(row.name, frozenset(row.privileges), row.version)


async def find(tx: Tx, name: str) -> Role | None:
    row = await tx.first(select(role).where(role.c.name == name))
    return None if row is None else _role(row)


async def take(tx: Tx, name: str, quoted: int | None) -> Role:
    """Lock it for a change. Raises NotFound and VersionConflict."""
    row = await tx.first(select(role).where(role.c.name == name).with_for_update())
    if row is None:
        raise NotFound("role", name)
    if quoted is not None and quoted != row.version:
        raise VersionConflict("role", name, str(quoted), str(row.version))
    return _role(row)


async def page(tx: Tx, wanted: Page) -> Paged[Role]:
    rows = await tx.all(select(role).where(role.c.name > (wanted.after or "")).order_by(role.c.name).limit(wanted.limit + 1))
    return wanted.cut([_role(row) for row in rows], lambda each: each.value)


async def users(tx: Tx, name: str) -> int:
    """How many accounts have it."""
    return int(await tx.value(select(func.count()).select_from(account).where(account.c.role == name)))


async def insert(tx: Tx, name: str, privileges: Collection[str], now: datetime) -> None:
    await tx.change(role.insert(), {"name": name, "privileges": sorted(privileges), "created_at": now})


async def change(tx: Tx, name: str, privileges: Collection[str]) -> None:
    await tx.change(role.update().where(role.c.name == name).values(privileges=sorted(privileges), version=role.c.version + 1))


async def delete(tx: Tx, name: str) -> None:
    await tx.change(role.delete().where(role.c.name == name))
