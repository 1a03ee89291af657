"""Times from outside."""

from datetime import UTC, datetime

import pytest

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.times import parse_instant


def test_an_offset_is_taken_into_account() -> None:
    assert parse_instant("2026-01-01T02:00:00+02:00") == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00", "yesterday", "", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_instant(text)
