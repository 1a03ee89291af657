"""One way in for every route of ours: path, method, who asks, privilege, query, body, in this order, for raw routes and FastAPI's alike."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from fabricmgr.api import bodies
from fabricmgr.api.table import RouteTable
from fabricmgr.domain.errors import Invalid, VersionConflict
from fabricmgr.web import privileges
from fabricmgr.web.asgi import App, Receive, Scope, Send, header
from fabricmgr.web.edge import context, identify
from fabricmgr.web.receiving import read_body
from fabricmgr.web.responses import Answer, send_answer
from fabricmgr.web.who import Principal, Who

BODIES = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True)
class Ask:
    """A request to a raw route that has passed every check before its body. source: where it came from."""

    principal: Principal
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    now: datetime
    source: str


@dataclass(frozen=True)
class RawRoute:
    """A route answered without the framework. takes, gives: message types, for OpenAPI; the answer's code is `status`.

    large: its body may be as large as a report. counted: one of many in the audit log. quiet: in the log only where it went wrong."""

    method: str
    template: str
    run: Callable[[Ask], Awaitable[Answer]]
    summary: str
    takes: type[Any] | None = None
    gives: type[Any] | None = None
    status: int = 200
    query: Mapping[str, str] = field(default_factory=dict)
    large: bool = False
    counted: bool = False
    quiet: bool = False
    optional_body: bool = False
    media_type: str = "application/json"


@dataclass(frozen=True)
class FrameworkRoute:
    """A route of FastAPI's: its method, template, and the names of its query parameters."""

    method: str
    template: str
    query: frozenset[str]


Route = RawRoute | FrameworkRoute


@dataclass(frozen=True)
class Limits:
    """Of bodies, in bytes."""

    body: int
    report: int


class Dispatch:
    """Every path that is not Redfish's."""

    def __init__(self, routes: Sequence[Route], framework: App, who: Who, limits: Limits, clock: Callable[[], datetime]) -> None:
        self._table: RouteTable[Route] = RouteTable((route.method, route.template, route) for route in routes)
        self._needs = {(route.method, route.template): privileges.requirement(route.method, route.template) for route in routes}
        self._framework = framework
        self._who = who
        self._limits = limits
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises what the edge turns into an answer."""
        method = scope["method"]
        found = self._table.find(method, scope["raw_path"])
        route = found.target
        seen = context(scope)
        seen.route = found.template
        need = self._needs[route.method, route.template]
        principal = Principal.anonymous() if need.open_to_all else await identify(self._who, scope)
        privileges.check(need, principal, found.params)
        query = read_query(scope["query_string"], route.query)
        body = await self._body(scope, receive, route)
        if isinstance(route, FrameworkRoute):
            # The framework knows no HEAD; the server below leaves the body of its answer out.
            asked = {**scope, "method": route.method, "fabricmgr.principal": principal}
            await self._framework(asked, bodies.replay(body, receive), send)
            return
        seen.counted, seen.quiet = route.counted, route.quiet
        answer = await route.run(Ask(principal, found.params, query, body, self._clock(), seen.source))
        await send_answer(send, answer, head=method == "HEAD")

    async def _body(self, scope: Scope, receive: Receive, route: Route) -> bytes:
        if route.method not in BODIES:
            return b""
        large = isinstance(route, RawRoute) and route.large
        body = await read_body(scope, receive, self._limits.report if large else self._limits.body)
        bodies.check_media_type(scope, body)
        bodies.check_no_nul(body)
        if body and isinstance(route, FrameworkRoute):
            bodies.check_strict(body)
        return body


def read_query(raw: bytes, known: Mapping[str, str] | frozenset[str]) -> dict[str, str]:
    """Query parameters by name. An unknown one, or one given twice, is refused: it would be ignored in silence otherwise."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            raise bodies.unknown_field(name[:100], list(known))
        if name in found:
            raise Invalid(name, value, "the parameter once")
        if "\x00" in value:
            raise Invalid(name, value, "text without NUL")
        found[name] = value
    return found


def quoted_version(scope: Scope, kind: str, name: str) -> int | None:
    """The version in If-Match, None for any (RFC 9110, section 13.1.1). One that cannot be a version of ours matches nothing."""
    given = header(scope, b"if-match").strip()
    if given in ("", "*"):
        return None
    text = given.removeprefix("W/").strip('"')
    if not text.isdigit() or len(text) > 18:
        raise VersionConflict(kind, name, given[:100], "another")
    return int(text)


def etag(version: int) -> tuple[bytes, bytes]:
    """The header that carries a version."""
    return b"etag", f'"{version}"'.encode()
