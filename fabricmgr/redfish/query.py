"""Query parameters (DSP0266, 7.3): read once, checked, and applied to what a resource shows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from fabricmgr.domain.errors import QueryInvalid, QueryUnsupported
from fabricmgr.redfish.filter import Filter, parse

Json = dict[str, Any]

SUPPORTED = ("only", "$expand", "$filter", "$select", "$skip", "$top")
MAX_LEVELS = 3
LONGEST_NUMBER = 9  # digits
# As the service root announces it; what is announced works on every resource, the rest is answered with 501.
FEATURES: Json = {
    "DeepOperations": {"DeepPATCH": False, "DeepPOST": False},
    "ExcerptQuery": False,
    "ExpandQuery": {"ExpandAll": True, "Levels": True, "Links": True, "MaxLevels": MAX_LEVELS, "NoLinks": True},
    "FilterQuery": True,
    "OnlyMemberQuery": True,
    "SelectQuery": True,
    "TopSkipQuery": True,
}
_EXPAND = re.compile(r"(?P<what>[*.~])(?:\(\$levels=(?P<levels>\d{1,3})\))?\Z")
_ALWAYS = ("@odata.id", "@odata.type", "@odata.context", "@odata.etag")


@dataclass(frozen=True)
class Expand:
    """subordinate: references outside Links are filled in. linked: those inside. levels: how deep, 1 to MAX_LEVELS."""

    subordinate: bool
    linked: bool
    levels: int = 1


@dataclass(frozen=True)
class Query:
    """only: a collection of one shows its member. select: paths of the properties wanted, empty for all. top: None for all.

    raw: the parameters as they came, for the link to the next page."""

    only: bool = False
    filter: Filter | None = None
    expand: Expand | None = None
    raw: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    select: tuple[tuple[str, ...], ...] = ()
    top: int | None = None
    skip: int = 0


def read(raw: bytes, collection: bool) -> Query:
    """Parse the query string for a collection or a single resource. Raises QueryUnsupported (501), QueryInvalid (400)."""
    given = dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True))
    for name in given:
        if name.startswith("$") and name not in SUPPORTED:
            raise QueryUnsupported(name, ", ".join(SUPPORTED))
    if not collection:
        _refuse_on_single(given)
    if given.get("only"):
        raise QueryInvalid("only", given["only"], "no value")
    select = tuple(tuple(path.split("/")) for path in given["$select"].split(",")) if "$select" in given else ()
    if select and not all(part for path in select for part in path):
        raise QueryInvalid("$select", given["$select"], "property names separated by commas, with '/' into objects")
    return Query(
        only="only" in given,
        filter=parse(given["$filter"]) if "$filter" in given else None,
        expand=_expand(given["$expand"]) if "$expand" in given else None,
        raw=tuple(given.items()),
        select=select,
        top=_whole("$top", given) if "$top" in given else None,
        skip=_whole("$skip", given) if "$skip" in given else 0,
    )


def of_stream(raw: bytes) -> str:
    """The $filter of a stream, "" for none. Raises QueryUnsupported (501) for other parameters that begin with $."""
    given = dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True))
    for name in given:
        if name.startswith("$") and name != "$filter":
            raise QueryUnsupported(name, "$filter")
    return given.get("$filter", "")


def _expand(text: str) -> Expand:
    found = _EXPAND.match(text)
    if found is None or not 1 <= int(found["levels"] or 1) <= MAX_LEVELS:
        raise QueryInvalid("$expand", text, f"*, . or ~, and ($levels=1) to ($levels={MAX_LEVELS}) behind it")
    return Expand(found["what"] in "*.", found["what"] in "*~", int(found["levels"] or 1))


def _refuse_on_single(given: Mapping[str, str]) -> None:
    for name in ("only", "$filter", "$top", "$skip"):
        if name in given:
            raise QueryInvalid(name, given[name], "a collection: this is a single resource")


def _whole(name: str, given: Mapping[str, str]) -> int:
    text = given[name]
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise QueryInvalid(name, text, f"a whole number, 0 or above, of at most {LONGEST_NUMBER} digits")
    return int(text)


def select(page: Json, paths: tuple[tuple[str, ...], ...]) -> Json:
    """The page with these properties alone, and what every resource shows of itself."""
    if not paths:
        return page
    kept = {name: page[name] for name in _ALWAYS if name in page}
    for path in paths:
        _copy(page, kept, path)
    return kept


def _copy(source: Json, target: Json, path: tuple[str, ...]) -> None:
    name, rest = path[0], path[1:]
    if name not in source:
        return
    value = source[name]
    if rest and isinstance(value, dict):
        inner = target.setdefault(name, {})
        if isinstance(inner, dict):
            _copy(value, inner, rest)
        return
    target[name] = value
