"""Times that come from outside."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from fabricmgr.domain.errors import Invalid

EXPECTED = "a time with an offset, such as 2026-11-25T10:00:00Z"


def instant(at: datetime, field: str = "at") -> datetime:
    """The same moment in UTC. Raises Invalid for one without an offset, and for one that UTC has no year for."""
    if at.tzinfo is None:
        raise Invalid(field, at.isoformat(), EXPECTED)
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise Invalid(field, at.isoformat(), EXPECTED) from None


def parse_instant(text: str, field: str = "at") -> datetime:
    """Parse RFC 3339 text. Raises Invalid."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(field, text, EXPECTED) from None
    return instant(found, field)


def ago(now: datetime, age: timedelta) -> datetime:
    """So long before now, and never after it. Raises Invalid for longer than there are years."""
    try:
        return now - max(age, timedelta(0))
    except OverflowError:
        raise Invalid("at", f"{age.days} days ago", "a time that a clock of these years could show") from None


def by_our_clock(ats: Sequence[datetime], age: timedelta, now: datetime) -> list[datetime]:
    """When each was, of things that came to pass in this order: the first `age` before now, the others after it as their clock shows.

    What that clock shows by itself is not believed, and where it went back or jumped, order and now are kept."""
    passed, found = timedelta(0), []
    for at in ats:
        passed = max(passed, min(at - ats[0], age))
        found.append(now - age + passed)
    return found
