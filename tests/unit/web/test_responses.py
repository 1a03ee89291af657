"""A problem as a response."""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from fabricmgr.domain.errors import Busy, Invalid, LockedOut, MethodNotAllowed, PoolExhausted, Unauthenticated, WrongType
from fabricmgr.problems import PROBLEMS
from fabricmgr.web.responses import encode, problem

SAMPLES: dict[str, Any] = {"int": 3, "datetime": datetime(2026, 1, 1, tzinfo=UTC), "object": "x"}


def inner(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body)["error"]
    return found


@pytest.mark.parametrize("kind", PROBLEMS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_sentence_a_code_and_its_fields(kind: Any) -> None:
    error = kind(**{each.name: SAMPLES.get(str(getattr(each.type, "__name__", each.type)), "text") for each in fields(kind)})

    answer = problem(error)

    assert answer.status == PROBLEMS[kind].http
    told = inner(answer.body)
    assert told["code"] == kind.__name__
    assert told["message"]
    assert "{" not in told["message"]
    assert set(told["fields"]) == {each.name for each in fields(kind)}


def test_a_bug_shows_nothing_of_itself() -> None:
    answer = problem(None)

    assert answer.status == 500
    assert inner(answer.body)["code"] == "InternalError"


def test_headers_say_what_http_wants() -> None:
    assert (b"allow", b"GET, HEAD") in problem(MethodNotAllowed("PUT", "GET, HEAD")).headers
    assert (b"www-authenticate", b'Basic realm="fabricmgr"') in problem(Unauthenticated("x")).headers
    assert (b"www-authenticate", b'Basic realm="fabricmgr"') in problem(LockedOut("a", datetime.now(UTC))).headers
    assert (b"retry-after", b"7") in problem(Busy("x", 7)).headers
    assert (b"retry-after", b"1") in problem(PoolExhausted("p", "IPv4", "h")).headers


@pytest.mark.parametrize("field", ["password", "token", "accounts[0].Password", "private_key"])
def test_values_of_secret_fields_are_not_shown(field: str) -> None:
    for error in (Invalid(field, "hush-hush", "another"), WrongType(field, "hush-hush", "another")):
        assert b"hush-hush" not in problem(error).body


def test_a_long_value_is_cut() -> None:
    answer = problem(Invalid("name", "x" * 100_000, "less"))

    assert len(answer.body) < 1000


def test_values_become_json() -> None:
    found = json.loads(encode({"a": ip_address("::1"), "n": ip_network("10.0.0.0/8"), "t": timedelta(minutes=1)}))

    assert found == {"a": "::1", "n": "10.0.0.0/8", "t": "PT60S"}
