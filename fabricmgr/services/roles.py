"""Roles: the three that Redfish defines, and those of one's own."""

from datetime import datetime

from fabricmgr.domain.account import Role
from fabricmgr.domain.errors import AlreadyExists, Forbidden, InUse, NotFound, NotInList
from fabricmgr.domain.events import RoleChanged, RoleCreated, RoleDeleted
from fabricmgr.domain.page import LARGEST_LIMIT, Page, Paged
from fabricmgr.store import role_rows
from fabricmgr.store.tx import Tx


async def get(tx: Tx, name: str) -> Role:
    """Raises NotFound."""
    found = await role_rows.find(tx, name)
    if found is None:
        raise NotFound("role", name)
    return found


async def named(tx: Tx, text: str, field: str = "role") -> Role:
    """The role that a request names in a field. Raises NotInList, with those there are."""
    found = await role_rows.find(tx, text) if "\x00" not in text else None
    if found is None:
        known = await role_rows.page(tx, Page(LARGEST_LIMIT))
        raise NotInList(field, text, ", ".join(each.value for each in known.items))
    return found


async def list_all(tx: Tx, page: Page) -> Paged[Role]:
    """By name."""
    return await role_rows.page(tx, page)


async def create(tx: Tx, name: str, privileges: frozenset[str], by: str, now: datetime) -> Role:
    """Raises AlreadyExists. name, privileges: parsed."""
    if await role_rows.find(tx, name) is not None:
        raise AlreadyExists("role", name)
    await role_rows.insert(tx, name, privileges, now)
    tx.emit(RoleCreated(name, tuple(sorted(privileges)), by))
    return await get(tx, name)


async def change(tx: Tx, name: str, privileges: frozenset[str], if_version: int | None, by: str, now: datetime) -> Role:
    """Counts for sessions that are open, too. Raises NotFound, VersionConflict, and Forbidden for a predefined one."""
    del now
    found = await role_rows.take(tx, name, if_version)
    _check_own(found, by)
    if privileges == found.privileges:
        return found
    await role_rows.change(tx, name, privileges)
    tx.emit(RoleChanged(name, tuple(sorted(privileges)), by))
    return await get(tx, name)


async def delete(tx: Tx, name: str, if_version: int | None, by: str, now: datetime) -> None:
    """Raises NotFound, VersionConflict, Forbidden for a predefined one, and InUse while accounts have it."""
    del now
    found = await role_rows.take(tx, name, if_version)
    _check_own(found, by)
    count = await role_rows.users(tx, name)
    if count:
        raise InUse("role", name, f"{count} {'account has' if count == 1 else 'accounts have'} it")
    await role_rows.delete(tx, name)
    tx.emit(RoleDeleted(name, by))


def _check_own(found: Role, by: str) -> None:
    if found.predefined:
        raise Forbidden(by, f"nobody has it: role {found.value} is Redfish's own and never changes")
