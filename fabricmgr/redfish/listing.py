"""Collections that come whole: all pages of a use case, one after the other."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fabricmgr.domain.page import LARGEST_LIMIT, Page, Paged

T = TypeVar("T")


async def whole(page_of: Callable[[Page], Awaitable[Paged[T]]]) -> list[T]:
    """Every item."""
    found: list[T] = []
    after: str | None = None
    while True:
        page = await page_of(Page(LARGEST_LIMIT, after))
        found += page.items
        if page.next is None:
            return found
        after = page.next
