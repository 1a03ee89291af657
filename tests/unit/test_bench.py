from typing import Any

import pytest

from bench.events import Write, arrived
from bench.figures import paired_ratio, percentile, table
from tests.support.kube.subscriber import Heard, Subscriber


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


def heard(at: float, message: str, *args: str) -> Heard:
    record: dict[str, Any] = {"EventTimestamp": "1970-01-01T00:00:10.5+00:00", "MessageId": f"FabricMgr.1.2.{message}", "MessageArgs": args}
    return Heard(1, at, record)


def test_a_write_is_matched_with_the_first_event_of_its_kind_that_names_it() -> None:
    events = Subscriber()
    events.heard += [
        heard(10.1, "ServiceAddressAssigned", "default/service-12", "default"),
        heard(10.75, "ServiceAddressAssigned", "default/service-1", "default"),
        heard(11.0, "ServiceAddressAssigned", "default/service-1", "default"),
    ]

    (found,) = arrived([Write("Service", "service-1", sent=10.0, answered=10.25, shown=10.125)], events)

    assert (found.answered, found.shown, found.decided, found.heard) == (0.25, 0.125, 0.5, 0.75)


def test_a_write_without_an_event_gives_no_figures() -> None:
    with pytest.raises(AssertionError, match="no event"):
        arrived([Write("Node", "node-1", sent=1.0, answered=1.0, shown=1.0)], Subscriber())
