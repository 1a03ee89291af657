"""Query parameters (DSP0266, 7.3): read once, checked, and applied to what a resource shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fabricmgr.domain.errors import QueryInvalid, QueryUnsupported

Json = dict[str, Any]

SUPPORTED = ("only", "$select", "$top", "$skip")
# As the service root announces it; what is announced works on every resource, the rest is answered with 501.
FEATURES: Json = {
    "DeepOperations": {"DeepPATCH": False, "DeepPOST": False},
    "ExcerptQuery": False,
    "ExpandQuery": {"ExpandAll": False, "Levels": False, "Links": False, "NoLinks": False},
    "FilterQuery": False,
    "OnlyMemberQuery": True,
    "SelectQuery": True,
    "TopSkipQuery": True,
}
_ALWAYS = ("@odata.id", "@odata.type", "@odata.context", "@odata.etag")


@dataclass(frozen=True)
class Query:
    """only: a collection of one shows its member. select: paths of the properties wanted, empty for all. top: None for all."""

    only: bool = False
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
    top = _whole("$top", given) if "$top" in given else None
    return Query("only" in given, select, top, _whole("$skip", given) if "$skip" in given else 0)


def _refuse_on_single(given: Mapping[str, str]) -> None:
    for name in ("only", "$top", "$skip"):
        if name in given:
            raise QueryInvalid(name, given[name], "a collection: this is a single resource")


def _whole(name: str, given: Mapping[str, str]) -> int:
    text = given[name]
    if not (text.isascii() and text.isdigit()):
        raise QueryInvalid(name, text, "a whole number, 0 or above")
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
