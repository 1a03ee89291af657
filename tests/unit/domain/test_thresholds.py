"""Thresholds of pools."""

import pytest

from fabricmgr.domain.addresses import Family
from fabricmgr.domain.pool import Usage
from fabricmgr.domain.thresholds import Crossings, crossings, percent_used


def usage(*, held: int, reserved: int = 0, idle: int = 0) -> Usage:
    """Of a hundred addresses beside the reserved ones."""
    return Usage(Family.IPV4, 100 + reserved, held, reserved, 0, idle, 100 - held - idle)


@pytest.mark.parametrize(
    ("held", "standing", "raised", "cleared"),
    [
        (79, set(), (), ()),
        (80, set(), (80,), ()),
        (96, set(), (80, 95), ()),
        (100, {80, 95}, (100,), ()),
        (99, {80, 95, 100}, (), (100,)),
        (90, {80, 95}, (), ()),
        (89, {80, 95}, (), (95,)),
        (75, {80}, (), ()),
        (74, {80}, (), (80,)),
        (0, {80, 95, 100}, (), (80, 95, 100)),
    ],
)
def test_a_mark_is_raised_at_its_threshold_and_cleared_five_points_below(
    held: int, standing: set[int], raised: tuple[int, ...], cleared: tuple[int, ...]
) -> None:
    assert crossings(usage(held=held), frozenset(standing)) == Crossings(raised, cleared)


def test_what_is_kept_out_counts_for_nothing() -> None:
    assert percent_used(usage(held=80, reserved=900)) == 80


def test_a_pool_whose_last_addresses_idle_in_nodes_blocks_is_exhausted_for_all_others() -> None:
    assert crossings(usage(held=10, idle=90), frozenset()) == Crossings((100,), ())


def test_a_pool_of_nothing_is_full() -> None:
    assert percent_used(Usage(Family.IPV6, 4, 0, 4, 0, 0, 0)) == 100


@pytest.mark.parametrize(
    ("standing", "raised", "cleared"), [((), (40,), ()), ((80,), (40,), (80,)), ((40,), (), ()), ((40, 95, 100), (), (95, 100))]
)
def test_a_mark_that_is_no_threshold_any_more_is_cleared(
    standing: tuple[int, ...], raised: tuple[int, ...], cleared: tuple[int, ...]
) -> None:
    assert crossings(usage(held=50), frozenset(standing), (40, 60)) == Crossings(raised, cleared)
