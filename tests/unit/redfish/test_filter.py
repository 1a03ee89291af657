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
