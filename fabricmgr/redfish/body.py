"""Bodies of POST and PATCH: what a resource lets a client set, and how a wrong one is named (DSP0266, 7.6 and 7.9)."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from fabricmgr.domain.errors import (
    FabricError,
    Invalid,
    MalformedBody,
    MissingField,
    NothingToDo,
    NotInList,
    NotWritable,
    UnknownField,
    UnsupportedMediaType,
    WrongType,
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Text:
    """A string, one of `among` where that is given."""

    among: tuple[str, ...] = ()

    def check(self, where: str, value: object) -> None:
        if not isinstance(value, str):
            raise WrongType(where, value, "a string")
        if self.among and value not in self.among:
            raise NotInList(where, value, ", ".join(self.among))


@dataclass(frozen=True)
class Number:
    """A number; a whole one unless `real`."""

    real: bool = False

    def check(self, where: str, value: object) -> None:
        kinds: tuple[type, ...] = (int, float) if self.real else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise WrongType(where, value, "a number" if self.real else "a whole number")


@dataclass(frozen=True)
class Flag:
    def check(self, where: str, value: object) -> None:
        if not isinstance(value, bool):
            raise WrongType(where, value, "true or false")


@dataclass(frozen=True)
class Items:
    """An array of one kind. patched: null and {} may stand in it, which `patched` gives their meaning."""

    kind: "Kind"
    patched: bool = False

    def check(self, where: str, value: object) -> None:
        if not isinstance(value, list):
            raise WrongType(where, value, "an array")
        for index, item in enumerate(value):
            if self.patched and (item is None or item == {}):
                continue
            self.kind.check(f"{where}/{index}", item)


@dataclass(frozen=True)
class Object:
    """An object with these properties; `required` ones must be there when it is created."""

    fields: "Mapping[str, Kind]"
    required: tuple[str, ...] = ()

    def check(self, where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise WrongType(where, value, "an object")
        _check_fields(where, value, self, {})


@dataclass(frozen=True)
class Words:
    """An object whose names the client chooses. Values are strings; they are not shown, since they may be secrets."""

    def check(self, where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise WrongType(where, value, "an object")
        if not all(isinstance(each, str) for each in value.values()):
            raise WrongType(where, "(not shown)", "an object of strings")


_URI = re.compile(r"[A-Za-z0-9._~:@/\-]{1,1000}\Z")  # nothing of ours is percent-encoded


@dataclass(frozen=True)
class Link:
    """A reference to a resource below one of these URIs."""

    below: tuple[str, ...]

    def check(self, where: str, value: object) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("@odata.id"), str):
            raise WrongType(where, value, 'an object such as {"@odata.id": "..."}')
        link = value["@odata.id"]
        if not link.startswith(tuple(f"{uri}/" for uri in self.below)) or not _URI.match(link):
            raise Invalid(f"{where}/@odata.id", value["@odata.id"], f"the URI of a resource below {' or '.join(self.below)}")


Kind = Text | Number | Flag | Items | Object | Words | Link


def patched(old: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """An array after a PATCH: null removes an element, {} keeps it, and a shorter array drops the rest (DSP0266, 7.7.2)."""
    found: list[Any] = []
    for index, each in enumerate(given):
        if each == {}:
            found += old[index : index + 1]
        elif each is not None:
            found.append(each)
    return found


def parse(raw: bytes, content_type: str) -> Json:
    """The JSON object of a request. Raises UnsupportedMediaType, MalformedBody."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(content_type, "application/json")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedBody("the body", str(error)) from None
    if not isinstance(body, dict):
        raise MalformedBody("the body", "a JSON object is expected")
    return body


def checked(body: Json, shape: Object, shown: Mapping[str, Any], creating: bool) -> Json:
    """The body without annotations, all of it settable. shown: the resource as it is, so that what exists and is not settable is told from
    what does not exist. Raises what is wrong first."""
    given = {name: value for name, value in body.items() if "@" not in name}
    if not given and not creating:
        raise NothingToDo(", ".join(shape.fields))
    _check_fields("", given, shape, shown)
    if creating:
        _check_required("", given, shape)
    return given


def _check_fields(where: str, given: Json, shape: Object, shown: Mapping[str, Any]) -> None:
    for name, value in given.items():
        path = f"{where}/{name}" if where else name
        if name.startswith("@"):
            continue
        if name not in shape.fields:
            raise _unknown(path, name, shape, shown)
        kind = shape.fields[name]
        if isinstance(kind, Object) and isinstance(value, dict):
            inner = shown.get(name)
            _check_fields(path, value, kind, inner if isinstance(inner, dict) else {})
        else:
            kind.check(path, value)


def _check_required(where: str, given: Json, shape: Object) -> None:
    for name in shape.required:
        if name not in given:
            raise MissingField(f"{where}/{name}" if where else name, "a value, since the resource cannot be made without it")
    for name, kind in shape.fields.items():
        if isinstance(kind, Object) and isinstance(given.get(name), dict):
            _check_required(f"{where}/{name}" if where else name, given[name], kind)


def _unknown(path: str, name: str, shape: Object, shown: Mapping[str, Any]) -> FabricError:
    if name in shown:
        return NotWritable(path)
    near = get_close_matches(name, shape.fields, 1)
    return UnknownField(path, f"; {near[0]} was probably meant" if near else "", ", ".join(shape.fields) or "none")
