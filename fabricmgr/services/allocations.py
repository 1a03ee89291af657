"""Who holds what."""

from uuid import UUID

from fabricmgr.domain.allocation import Allocation, AllocationFilter
from fabricmgr.domain.errors import Invalid, NotFound
from fabricmgr.domain.page import Page, Paged
from fabricmgr.store import allocation_rows
from fabricmgr.store.tx import Tx


async def list_all(tx: Tx, filters: AllocationFilter, page: Page) -> Paged[Allocation]:
    """By owner's key: in no order for people, but one that never shifts. Raises Invalid for an `after` that is no key."""
    after = None if page.after is None else owner_key(page.after, "after")
    found = await allocation_rows.find(tx, filters, after, page.limit + 1)
    return page.cut(found, lambda each: str(each.owner))


async def get(tx: Tx, owner: UUID) -> Allocation:
    """Raises NotFound."""
    found = await allocation_rows.find(tx, AllocationFilter(owner=owner), None, 1)
    if not found:
        raise NotFound("allocation", str(owner))
    return found[0]


async def some(tx: Tx, filters: AllocationFilter, skip: int, top: int) -> tuple[list[Allocation], int]:
    """Those that fit, by address, from the `skip`th on; and how many fit."""
    return await allocation_rows.some(tx, filters, skip, top)


def owner_key(text: str, field: str = "owner") -> UUID:
    """Parse an owner's key. Raises Invalid."""
    try:
        return UUID(text)
    except ValueError:
        raise Invalid(field, text, "an owner's key, a UUID") from None
