"""$filter expressions."""

import pytest

from fabricmgr.domain.errors import QueryInvalid
from fabricmgr.redfish.filter import parse

PAGE = {"Id": "a", "Size": 5, "On": True, "Nested": {"Name": "O'Hara"}, "List": [1]}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("Id eq 'a'", True),
        ("Id ne 'a'", False),
        ("Size gt 4.5 and Size le 5", True),
        ("Size lt 5 or On eq true", True),
        ("not (Size lt 5 or On eq true)", False),
        ("Nested/Name eq 'O''Hara'", True),
        ("Missing eq null", True),
        ("Missing gt 3", False),
        ("Id gt 3", False),
        ("Id ne 3", True),
        ("List eq 1", False),
        ("Id eq 'a' and not On eq false", True),
    ],
)
def test_an_expression_holds_for_what_it_describes(text: str, holds: bool) -> None:
    assert parse(text)(PAGE) is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Id",
        "Id eq",
        "Id eq foo",
        "(Id eq 1",
        "Id eq 1)",
        "Id xx 1",
        "'a' eq Id",
        'Id eq "a"',
        "(" * 900,
        "not " * 400 + "Id eq 1",
        "a" * 3000,
    ],
)
def test_an_expression_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(QueryInvalid):
        parse(text)


@pytest.mark.parametrize(
    ("text", "equals", "exact"),
    [
        ("A eq 'x'", {"A": "x"}, True),
        ("A eq 'x' and B/C eq 3", {"A": "x", "B/C": 3}, True),
        ("A eq 'x' and B ne 3", {"A": "x"}, False),
        ("(A eq 'x') and (B eq null)", {"A": "x", "B": None}, True),
        ("A eq 'x' or B eq 'y'", {}, False),
        ("A eq 'x' and (B eq 'y' or C eq 'z')", {"A": "x"}, False),
        ("not A eq 'x'", {}, False),
        ("A eq 'x' and A eq 'y'", {"A": "x"}, False),
        ("A gt 3", {}, False),
    ],
)
def test_what_must_be_equal_is_told_to_whoever_can_look_for_it(text: str, equals: dict[str, object], exact: bool) -> None:
    found = parse(text)

    assert (dict(found.equals), found.exact) == (equals, exact)
