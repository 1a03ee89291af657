"""Long lists come in pages, by key: a page never shifts while others insert."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fabricmgr.domain.errors import Invalid

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """limit: items wanted, 1 to 1000. after: the `next` of the page before; None for the first. Raises Invalid."""

    limit: int = DEFAULT_LIMIT
    after: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= LARGEST_LIMIT:
            raise Invalid("limit", self.limit, f"a number from 1 to {LARGEST_LIMIT}")

    def cut(self, items: Sequence[T], key: Callable[[T], str]) -> "Paged[T]":
        """From one item more than wanted: the page, and where the next one begins."""
        kept = tuple(items[: self.limit])
        return Paged(kept, key(kept[-1]) if len(items) > self.limit else None)


@dataclass(frozen=True)
class Paged(Generic[T]):
    """next: what to ask the following page with; None at the end."""

    items: tuple[T, ...]
    next: str | None
