from pathlib import Path

import pytest

from tests.support.lanes import FAILED, MOST_AGAIN, OK, Record, are_tried_again, is_heading, lanes, merged, verdict
from tests.support.tiers import LANES, TIERS, Tally

BROKEN = 3  # pytest's own exit status for an error inside it


@pytest.mark.parametrize("arguments", [[], ["tests"]])
def test_all_tests_have_two_lanes_where_there_are_two_processors(arguments: list[str]) -> None:
    made = lanes(arguments, Path("here"), processors=2)

    assert tuple(lane.name for lane in made) == LANES
    assert all(lane.words()[-1] == "tests" for lane in made)
    assert len({lane.record_file for lane in made}) == len(LANES)


@pytest.mark.parametrize(("arguments", "processors"), [([], 1), (["tests/unit"], 2), (["tests", "-k", "burst"], 2)])
def test_chosen_tests_and_a_machine_with_one_processor_have_one_lane(arguments: list[str], processors: int) -> None:
    (made,) = lanes(arguments, Path("here"), processors)

    assert not any(word.startswith("--lane") for word in made.words())
    assert made.words()[-len(arguments or [""]) :] == (arguments or ["tests"])


def test_each_lane_has_tiers_and_each_tier_one_lane() -> None:
    assert {tier.lane for tier in TIERS} == set(LANES)


def test_pytests_summaries_begin_after_the_tests() -> None:
    assert not is_heading("============================= test session starts ==============================\n")
    assert not is_heading("tests/unit/test_lanes.py .....                                           [ 50%]\n")
    assert is_heading("=================================== FAILURES ===================================\n")
    assert is_heading("============================== 7 passed in 0.02s ===============================\n")


def test_records_of_both_lanes_make_one() -> None:
    nodes = Record({"namespaces": Tally(passed=3, failed=1)}, {}, ["a"])
    rest = Record({"unit": Tally(passed=2), "podman": Tally(skipped=1)}, {"podman": "no runc"}, ["b"])

    found = merged([nodes, rest])

    assert found.tallies == {"namespaces": Tally(passed=3, failed=1), "unit": Tally(passed=2), "podman": Tally(skipped=1)}
    assert found.why == {"podman": "no runc"}
    assert found.failed == ["a", "b"]


def test_the_gravest_exit_status_is_the_runs_and_a_tier_that_lacks_is_a_failure() -> None:
    assert verdict([OK, OK], []) == OK
    assert verdict([OK, FAILED], []) == FAILED
    assert verdict([BROKEN, FAILED], []) == BROKEN
    assert verdict([OK, OK], ["tier unit: no test ran"]) == FAILED


def test_a_few_failures_are_tried_again_and_many_or_graver_things_are_not() -> None:
    few, many = ["test"] * MOST_AGAIN, ["test"] * (MOST_AGAIN + 1)

    assert are_tried_again([OK, FAILED], few)
    assert not are_tried_again([OK, FAILED], many)
    assert not are_tried_again([BROKEN, FAILED], few)
    assert not are_tried_again([OK, FAILED], [])
    assert not are_tried_again([OK, OK], [])
