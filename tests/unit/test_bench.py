import pytest

from bench.figures import paired_ratio, percentile, table


def test_a_ratio_compares_within_rounds_so_that_a_slow_moment_of_the_machine_drops_out() -> None:
    theirs = [10.0, 100.0, 10.0]
    ours = [2.0, 20.0, 2.0]

    assert paired_ratio(theirs, ours) == 5.0


def test_rounds_that_miss_a_partner_give_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio([1.0, 2.0], [1.0])


def test_the_95th_percentile_of_few_samples_is_a_sample() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.95) == 3.0
    assert percentile(list(range(100)), 0.95) == 95

    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)


def test_a_table_aligns_numbers_to_the_right() -> None:
    assert table([["name", "ms"], ["a", "10.5"]]) == "name    ms\na     10.5"
