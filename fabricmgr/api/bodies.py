"""Bodies of raw routes: read with a limit, decoded by msgspec, refused in our own words."""

import re
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from fabricmgr.domain.errors import (
    FabricError,
    Invalid,
    MalformedBody,
    MissingField,
    UnknownField,
    UnsupportedMediaType,
    WrongType,
)
from fabricmgr.web.asgi import Message, Receive, Scope, header

T = TypeVar("T")

_PLACE = re.compile(r"(?P<said>.*?)(?: - at `(?P<place>[^`]*)`)?\Z", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]*)`, got `(?P<got>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


def replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives a body that was read already, then whatever comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def check_media_type(scope: Scope, body: bytes) -> None:
    """JSON, or no body at all. Raises UnsupportedMediaType."""
    given = header(scope, b"content-type")
    kind = given.partition(";")[0].strip().lower()
    if body and kind != "application/json":
        raise UnsupportedMediaType(given[:100], "application/json")


def check_no_nul(body: bytes) -> None:
    """No field may hold NUL: the database has no such text. Raises MalformedBody."""
    if b"\\u0000" in body:
        raise MalformedBody("the body", "a string in it holds NUL, which no field may")


def check_strict(body: bytes) -> None:
    """JSON in UTF-8 as RFC 8259 has it, without NaN and halves of surrogate pairs, which the framework's reader lets through.

    Raises MalformedBody."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody("the body", str(error)) from None


def decode(body: bytes, kind: type[T]) -> T:
    """The body as a message of ours. Raises MalformedBody, MissingField, UnknownField, WrongType, Invalid."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), body, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody("the body", str(error)) from None


def _refusal(text: str, body: bytes, kind: type[Any]) -> FabricError:
    found = _PLACE.match(text)
    said, place = (found["said"], found["place"] or "$") if found else (text, "$")
    where = place.removeprefix("$").removeprefix(".")
    if missing := _MISSING.match(said):
        return MissingField(_join(where, missing["field"]), "a value")
    if unknown := _UNKNOWN.match(said):
        return unknown_field(unknown["field"], fields_of(kind), where)
    try:
        value = _value_at(body, place)
    except (msgspec.DecodeError, RecursionError) as error:
        return MalformedBody("the body", str(error))
    if wrong := _EXPECTED.match(said):
        return WrongType(where or "the body", value, wrong["expected"])
    # msgspec says "Invalid UUID" and the like: what it names is what it expected.
    return Invalid(where or "the body", value, f"a valid {said.removeprefix('Invalid ')}")


def unknown_field(name: str, known: list[str], where: str = "") -> UnknownField:
    """With the nearest of the known names."""
    close = get_close_matches(name, known, n=1)
    nearest = f"; did you mean {close[0]!r}?" if close else ""
    return UnknownField(_join(where, name), nearest, ", ".join(sorted(known)))


def fields_of(kind: type[Any]) -> list[str]:
    """Names of a struct's fields."""
    return list(getattr(kind, "__struct_fields__", ()))


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _value_at(body: bytes, place: str) -> object:
    value = msgspec.json.decode(body)
    for name, index in _STEP.findall(place):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            return None
    return value
