"""Where a path leads."""

import pytest

from fabricmgr.api.table import RouteTable
from fabricmgr.domain.errors import MethodNotAllowed, NotFound

TABLE = RouteTable(
    [
        ("GET", "/v1/pools", "list"),
        ("POST", "/v1/pools", "create"),
        ("GET", "/v1/pools/{pool}", "show"),
        ("GET", "/v1/pools/{pool}/usage", "usage"),
        ("DELETE", "/v1/pools/{pool}/prefixes/{address}/{length}", "remove"),
        ("GET", "/v1/nodes/self", "self"),
    ]
)


def test_segments_are_decoded_and_a_slash_within_one_stays_there() -> None:
    found = TABLE.find("DELETE", b"/v1/pools/a%2Fb/prefixes/2001%3Adb8%3A%3A/64")

    assert (found.target, dict(found.params)) == ("remove", {"pool": "a/b", "address": "2001:db8::", "length": "64"})
    assert found.template == "/v1/pools/{pool}/prefixes/{address}/{length}"


@pytest.mark.parametrize(
    "path", [b"/", b"", b"/v1", b"/v1/pools//usage", b"/v1/pools/a/b", b"/v1/pools/a/usage/x", b"/v2/pools", b"/v1/nodes/x"]
)
def test_a_path_that_leads_nowhere_is_not_found(path: bytes) -> None:
    with pytest.raises(NotFound):
        TABLE.find("GET", path)


def test_a_slash_at_the_end_means_nothing_and_head_is_get() -> None:
    assert TABLE.find("HEAD", b"/v1/pools/").target == "list"


def test_a_method_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        TABLE.find("PATCH", b"/v1/pools")

    assert refused.value.allowed == "GET, HEAD, POST"


def test_two_templates_for_one_place_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="clashes"):
        RouteTable([("GET", "/a/{x}", 1), ("PUT", "/a/{y}", 2)])
