"""Times from outside."""

from datetime import UTC, datetime, timedelta

import pytest

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.times import ago, by_our_clock, parse_instant


def test_an_offset_is_taken_into_account() -> None:
    assert parse_instant("2026-01-01T02:00:00+02:00") == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00", "yesterday", "", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_instant(text)


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        ((0, 5, 20), (-60, -55, -40)),
        ((0, -30, 10), (-60, -60, -50)),  # it was set back
        ((0, 3600, 10), (-60, 0, 0)),  # it jumped
        ((), ()),
    ],
)
@pytest.mark.parametrize("wrong_by", [timedelta(0), timedelta(days=-400), timedelta(hours=7)])
def test_a_clock_that_is_wrong_shows_how_much_later_something_was_and_no_more(
    seconds: tuple[int, ...], found: tuple[int, ...], wrong_by: timedelta
) -> None:
    ats = [NOW + wrong_by + timedelta(seconds=each) for each in seconds]

    assert by_our_clock(ats, timedelta(seconds=60), NOW) == [NOW + timedelta(seconds=each) for each in found]


def test_no_clock_shows_anything_too_far_off_to_be_told() -> None:
    ats = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]

    assert by_our_clock(ats, timedelta(seconds=1), NOW) == [NOW - timedelta(seconds=1), NOW]


def test_what_was_long_ago_was_then_and_what_is_to_come_is_now() -> None:
    assert [ago(NOW, timedelta(hours=each)) for each in (3, -3)] == [NOW - timedelta(hours=3), NOW]


def test_longer_ago_than_there_are_years_is_refused_by_name() -> None:
    with pytest.raises(Invalid) as refused:
        ago(NOW, timedelta.max)

    assert refused.value.field == "at"
