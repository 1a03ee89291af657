"""Who had an address, and what an owner had."""

from datetime import UTC, datetime
from uuid import UUID

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.allocation import HistoryEntry, Holding
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.page import Page, Paged
from fabricmgr.domain.times import instant
from fabricmgr.store import history_rows
from fabricmgr.store.history_rows import Key
from fabricmgr.store.tx import Tx

# Of these many that began before a time, those that still lasted then are told: two at once are a conflict, more are a flood.
_LOOKED_AT = 16


async def who_had(tx: Tx, address: Address, at: datetime) -> list[Holding]:
    """Whose address it was at a time, whatever happened since. None in most gaps, one as a rule, two in a conflict or in two scopes."""
    found = await history_rows.holdings(tx, address, at, None, _LOOKED_AT)
    return [holding for _, holding in found if holding.covers(at)]


async def holdings(tx: Tx, address: Address, page: Page) -> Paged[Holding]:
    """All who had it, newest first. Raises Invalid for an `after` that is none of ours."""
    found = await history_rows.holdings(tx, address, None, _key(page.after), page.limit + 1)
    cut = page.cut(found, lambda each: _text(each[0]))
    return Paged(tuple(holding for _, holding in cut.items), cut.next)


async def of_owner(tx: Tx, owner: UUID, page: Page) -> Paged[HistoryEntry]:
    """What happened to an owner, newest first. Raises Invalid."""
    return _entries(await history_rows.entries(tx, None, owner, _key(page.after), page.limit + 1), page)


async def of_address(tx: Tx, address: Address, page: Page) -> Paged[HistoryEntry]:
    """What happened to an address, newest first, line by line. Raises Invalid."""
    return _entries(await history_rows.entries(tx, address, None, _key(page.after), page.limit + 1), page)


def _entries(found: list[HistoryEntry], page: Page) -> Paged[HistoryEntry]:
    return page.cut(found, lambda each: _text((each.at, each.id)))


def _text(key: Key) -> str:
    return f"{key[0].astimezone(UTC).isoformat()}/{key[1]}"


def _key(text: str | None) -> Key | None:
    if text is None:
        return None
    at, _, line = text.partition("/")
    try:
        found = instant(datetime.fromisoformat(at)), int(line)
    except (ValueError, Invalid):
        raise Invalid("after", text, "the `next` of the page before") from None
    if not 0 <= found[1] < 2**63:
        raise Invalid("after", text, "the `next` of the page before")
    return found
