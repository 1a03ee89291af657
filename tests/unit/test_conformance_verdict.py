"""The bars that DMTF's suites are held to."""

import pytest

from tests.conformance.verdict import FAIL, MOST_NOT_TESTED, NOT_TESTED, WARN, Result, complaints, report


def found(suite: str, **counts: int) -> Result:
    result = Result(suite)
    for state, number in counts.items():
        for _ in range(number):
            result.add(state, "A_CHECK", "/redfish/v1/")
    return result


@pytest.mark.parametrize("suite", ["protocol", "sse", "service", "usecase", "interop"])
def test_a_suite_that_passes_meets_its_bar(suite: str) -> None:
    assert complaints(found(suite, PASS=3, NOT_TESTED=MOST_NOT_TESTED)) == []


@pytest.mark.parametrize("suite", ["protocol", "sse", "service", "usecase", "interop"])
def test_a_failure_misses_the_bar_of_every_suite(suite: str) -> None:
    assert complaints(found(suite, PASS=3, FAIL=1)) == [f"{suite}: 1 failures"]


def test_a_suite_that_looked_at_nothing_has_not_passed() -> None:
    assert complaints(found("sse")) == ["sse: nothing passed"]


def test_a_tool_that_ended_before_its_time_has_not_passed_whatever_it_found() -> None:
    result = found("usecase", PASS=3)
    result.trouble = "not done within 900 s"

    assert complaints(result) == ["usecase: not done within 900 s"]


def test_the_protocol_suite_may_neither_warn_nor_leave_more_untested_than_is_explained() -> None:
    result = found("protocol", PASS=3, WARN=1, NOT_TESTED=MOST_NOT_TESTED + 1)

    assert complaints(result) == ["protocol: 1 warnings", "protocol: 25 checks found nothing to test; 24 are explained"]


def test_a_warning_about_a_standard_page_is_let_through_and_one_about_ours_is_not() -> None:
    result = found("service", PASS=3)
    result.add(WARN, "Deprecated", "/redfish/v1/Fabrics/ethernet/Name", "an old value")
    assert complaints(result) == []

    result.add(WARN, "Type", "/redfish/v1/Fabrics/ethernet/AddressPools/pods/Oem/FabricMgr/Usage", "not a string")

    assert complaints(result) == ["service: 1 warnings about what is ours"]


def test_a_report_names_what_failed_and_not_what_was_left_out() -> None:
    result = found("sse", PASS=1)
    result.add(FAIL, "STREAM", "GET 500 /redfish/v1/SSE", "no\n  events")
    result.add(NOT_TESTED, "METRICS")

    told = report([result])

    assert "sse FAIL STREAM GET 500 /redfish/v1/SSE: no events" in told
    assert "METRICS" not in told
    assert told.endswith("missed: sse: 1 failures")
