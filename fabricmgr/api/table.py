"""Where a path leads: one look per segment, whatever the number of routes, and 404 and 405 from the same table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import unquote

from fabricmgr.domain.errors import MethodNotAllowed, NotFound

T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    """template: as in the privilege table. params: what stood in its braces, decoded."""

    template: str
    params: Mapping[str, str]
    target: T


@dataclass
class _Place(Generic[T]):
    literal: "dict[str, _Place[T]]" = field(default_factory=dict)
    any: "_Place[T] | None" = None
    template: str = ""
    names: tuple[str, ...] = ()
    methods: dict[str, T] = field(default_factory=dict)


class RouteTable(Generic[T]):
    """All routes by method and template; `{name}` takes one segment."""

    def __init__(self, routes: Iterable[tuple[str, str, T]]) -> None:
        self._root: _Place[T] = _Place()
        for method, template, target in routes:
            self._add(method, template, target)

    def find(self, method: str, raw_path: bytes) -> Found[T]:
        """Raises NotFound and MethodNotAllowed. HEAD goes where GET goes. A slash at the end means nothing."""
        place, values = self._root, []
        segments = raw_path.decode("latin-1").strip("/").split("/")
        for segment in segments:
            step = place.literal.get(segment)
            if step is None:
                if place.any is None or not segment:
                    raise NotFound("resource", _shown(raw_path))
                step = place.any
                values.append(_decoded(segment, raw_path))
            place = step
        if not place.methods:
            raise NotFound("resource", _shown(raw_path))
        target = place.methods.get("GET" if method == "HEAD" else method)
        if target is None:
            raise MethodNotAllowed(method, ", ".join(allowed(place.methods)))
        return Found(place.template, dict(zip(place.names, values, strict=True)), target)

    def _add(self, method: str, template: str, target: T) -> None:
        place, names = self._root, []
        for segment in template.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment.strip("{}"))
                place.any = place.any or _Place()
                place = place.any
            else:
                place = place.literal.setdefault(segment, _Place())
        if place.template not in ("", template) or method in place.methods:
            raise ValueError(f"{method} {template} clashes with {place.template}")
        place.template, place.names = template, tuple(names)
        place.methods[method] = target


def allowed(methods: Iterable[str]) -> list[str]:
    """What Allow names."""
    found = set(methods)
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def _shown(raw_path: bytes) -> str:
    return unquote(raw_path.decode("latin-1"))[:200]


def _decoded(segment: str, raw_path: bytes) -> str:
    text = unquote(segment)
    if "\x00" in text:
        raise NotFound("resource", _shown(raw_path))
    return text
