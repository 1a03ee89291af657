"""The one ASGI layer that owns every answer below /redfish.

Order of the checks, for every route alike: who is asking (401), whether a password must be changed (403), OData-Version (412), the
route (404), the method (501, 405), the privilege (403), the precondition (304, 412), then query and body. A check that comes later never
answers before one that comes first, so that nothing is learnt without the right to it (DSP0266, 6, 7, 8 and 13)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from fabricmgr import dmtf
from fabricmgr.domain.errors import (
    FabricError,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    MethodUnknown,
    NotAcceptable,
    NotFound,
    PasswordChangeRequired,
    PreconditionRequired,
    ProtocolVersionRefused,
    Unauthenticated,
    VersionConflict,
)
from fabricmgr.redfish import query as queries
from fabricmgr.redfish.body import checked, parse
from fabricmgr.redfish.errors import rendered
from fabricmgr.redfish.pages import EVERYTHING, Pages, allowed, etag_of, may_set
from fabricmgr.redfish.resource import Accepted, Action, Ask, Made, Opening, Pieces, Place, Site, Stream, Tree
from fabricmgr.web.asgi import Receive, Scope, Send
from fabricmgr.web.edge import context, identify
from fabricmgr.web.receiving import read_body
from fabricmgr.web.responses import Answer, Headers, encode, ok, presentable, problem_headers, send_answer
from fabricmgr.web.who import Anonymous, Principal, source

METHODS = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE")
MAX_BODY = 1 << 20
Read = Callable[[], Awaitable[bytes]]
_EVERY: Headers = ((b"odata-version", b"4.0"), (b"cache-control", b"no-cache"))


@dataclass(frozen=True)
class Document:
    """A page that is no resource: `/redfish`, odata, $metadata. open: to all; else to whoever may log in."""

    media_type: str
    render: Callable[[], bytes]
    open: bool = True


@dataclass(frozen=True)
class Heard:
    """A request as it came."""

    method: str
    path: str
    query: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Flow:
    """An answer that has begun and has no end yet."""

    media_type: str
    headers: Headers
    pieces: Pieces


class Layer:
    """Answers every request below /redfish. Errors go up to `web.edge`, which has `refused` render them."""

    def __init__(
        self,
        tree: Tree,
        documents: Mapping[str, Document],
        site: Site,
        clock: Callable[[], datetime],
    ) -> None:
        self._tree = tree
        self._pages = Pages(tree)
        self._documents = documents
        self._site = site
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        heard = Heard(scope["method"], _path(scope), scope["query_string"], _headers(scope))
        place = self._tree.find(heard.path)
        context(scope).route = _route(place, heard.path if heard.path in self._documents else "")
        answer = await self._answer(scope, heard, place, receive)
        if isinstance(answer, Flow):
            await _flow(answer, receive, send)
            return
        await send_answer(send, answer, head=heard.method == "HEAD", more=_EVERY)

    async def _answer(self, scope: Scope, heard: Heard, place: Place | None, receive: Receive) -> Answer | Flow:
        document = self._documents.get(heard.path)
        principal = await self._who(scope, heard, place, document)
        if heard.headers.get("odata-version", "4.0") != "4.0":
            raise ProtocolVersionRefused("OData-Version", heard.headers["odata-version"], "4.0")
        if document is not None:
            if not document.open and "Login" not in principal.privileges:
                raise Forbidden(principal.name, "Login")
            return _document(document, heard)
        if place is None:
            raise NotFound("resource", heard.path)
        _check_method(heard.method, place.methods)
        _check_accept(heard, place.media_type)
        later = "respond-async" in heard.headers.get("prefer", "")
        ask = Ask(self._site, principal, _canonical(heard.path, place), place.params, self._clock(), source(scope), later)
        return await self._of_place(heard, place, ask, partial(read_body, scope, receive, MAX_BODY))

    async def _who(self, scope: Scope, heard: Heard, place: Place | None, document: Document | None) -> Principal:
        reads_open = (document is not None and document.open) or (place is not None and place.resource.open_to_all and not place.collection)
        logs_in = place is not None and place.collection and place.resource.login and heard.method == "POST"
        if logs_in:
            return Principal.anonymous()
        if reads_open and heard.method in ("GET", "HEAD"):
            return await self._anybody(scope)
        principal = await identify(self._site.who, scope)
        if isinstance(principal, Anonymous):
            raise Unauthenticated("no credentials were sent")
        if principal.must_change_password and not _while_changing(heard, place, principal):
            raise PasswordChangeRequired(principal.name)
        return principal

    async def _anybody(self, scope: Scope) -> Principal:
        """Who reads an open page: somebody where the credentials count, else nobody. They decide what $expand fills in."""
        try:
            return await identify(self._site.who, scope)
        except FabricError:
            return Principal.anonymous()

    async def _of_place(self, heard: Heard, place: Place, ask: Ask, read: Read) -> Answer | Flow:
        if place.collection:
            return await self._of_collection(heard, place, ask, read)
        # The entity is looked up before the privilege is decided only where owning it may be the privilege.
        if place.resource.own is None:
            _check_privilege(place, heard.method, ask.principal, own=False)
        entity = await _found(place, ask)
        if place.resource.own is not None:
            _check_privilege(place, heard.method, ask.principal, own=place.resource.own(ask.principal, entity))
        if place.stream is not None:
            return await self._begun(place.stream, heard, ask, entity)
        quoted = _precondition(heard, place, entity)
        if isinstance(quoted, Answer):
            return quoted
        if place.action is not None:
            return await self._act(place.action, heard, place, ask, entity, read)
        query = queries.read(heard.query, collection=False)
        if heard.method == "DELETE" and place.resource.delete is not None:
            promised = await place.resource.delete(ask, entity, quoted)
            return Answer(204) if promised is None else _accepted(promised)
        if heard.method == "PATCH" and place.resource.patch is not None:
            raw = parse(await read(), heard.headers.get("content-type", ""))
            body = checked(raw, place.resource.patchable, place.resource.body(entity), creating=False)
            _check_properties(place, body, ask.principal, place.resource.own is not None and place.resource.own(ask.principal, entity))
            entity = await place.resource.patch(ask, entity, body, quoted)
        answer = None if place.resource.answers is None else place.resource.answers(ask, entity)
        return await self._shown(place, ask, entity, query) if answer is None else answer

    async def _begun(self, stream: Stream, heard: Heard, ask: Ask, entity: Any) -> Answer | Flow:
        opening = Opening(heard.headers, queries.of_stream(heard.query))
        headers: Headers = ((b"allow", b"GET, HEAD"),)
        if heard.method == "HEAD":
            return Answer(200, b"", headers, stream.media_type)
        return Flow(stream.media_type, headers, await stream.open(ask, entity, opening))

    async def _of_collection(self, heard: Heard, place: Place, ask: Ask, read: Read) -> Answer:
        if not (heard.method == "POST" and place.resource.login):
            _check_privilege(place, heard.method, ask.principal, own=False)
        query = queries.read(heard.query, collection=True)
        if heard.method == "POST":
            return await self._create(heard, place, ask, read)
        return ok(await self._pages.collection(place, ask, query), headers=_describes(place))

    async def _act(self, action: Action, heard: Heard, place: Place, ask: Ask, entity: Any, read: Read) -> Answer:
        raw = await read()
        body = checked(parse(raw, heard.headers.get("content-type", "")) if raw else {}, action.parameters, {}, creating=True)
        done = await action.run(ask, entity, body)
        if isinstance(done, Accepted):
            return _accepted(done)
        if isinstance(done, Made):
            return Answer(201, encode(done.entity), ((b"location", done.id.encode()), *done.headers))
        return Answer(204) if done is None else ok(done)

    async def _create(self, heard: Heard, place: Place, ask: Ask, read: Read) -> Answer:
        create = place.resource.create
        if create is None:
            raise MethodNotAllowed(heard.method, ", ".join(place.methods))
        body = checked(parse(await read(), heard.headers.get("content-type", "")), place.resource.creatable, {}, creating=True)
        made = await create(ask, body)
        uri = f"{ask.uri}/{made.id}"
        found = Place(place.resource, False, {})
        page = await self._pages.resource(found, replace(ask, uri=uri), made.entity, EVERYTHING)
        if made.warned is not None:
            page["@Message.ExtendedInfo"] = rendered(made.warned, uri)[1]["error"]["@Message.ExtendedInfo"]
        headers = (*_of_entity(found, made.entity), (b"location", uri.encode()), *made.headers)
        return ok(page, 201, headers)

    async def _shown(self, place: Place, ask: Ask, entity: Any, query: queries.Query) -> Answer:
        return ok(await self._pages.resource(place, ask, entity, query), headers=_of_entity(place, entity))


async def _flow(flow: Flow, receive: Receive, send: Send) -> None:
    """Send piece by piece until the pieces end. They are told when the client has gone."""
    headers = [*flow.headers, *_EVERY, (b"content-type", flow.media_type.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.create_task(_gone(receive))
    try:
        async with aclosing(flow.pieces(gone)) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _found(place: Place, ask: Ask) -> Any:
    """The entity. An id that cannot be is one that is not there. Raises NotFound."""
    try:
        return await place.resource.get(ask)
    except Invalid:
        raise NotFound("resource", ask.uri) from None


def _accepted(promised: Accepted) -> Answer:
    """202: the monitor tells how it ended (DSP0266, 12.2)."""
    headers: Headers = ((b"location", promised.monitor.encode()), (b"retry-after", b"1"), (b"preference-applied", b"respond-async"))
    return Answer(202, encode(promised.shown), headers)


def _precondition(heard: Heard, place: Place, entity: Any) -> int | Answer | None:
    """The version a write must find, None for any; or the answer where nothing is left to do. Raises VersionConflict."""
    etag = etag_of(place.resource, entity)
    if etag is None:
        return None
    if heard.method in ("GET", "HEAD"):
        same = etag in _tags(heard.headers.get("if-none-match", ""))
        return Answer(304, headers=((b"etag", etag.encode()),)) if same else None
    given = heard.headers.get("if-match")
    if given is None and place.resource.needs_precondition:
        raise PreconditionRequired(heard.path)
    if given is None or given.strip() == "*":
        return None
    if etag not in _tags(given):
        raise VersionConflict(place.resource.schema, heard.path, given, etag)
    return int(etag.strip('"'))


def _tags(header: str) -> list[str]:
    return [tag.strip() for tag in header.split(",")]


def _check_method(method: str, allowed: tuple[str, ...]) -> None:
    if method not in METHODS:
        raise MethodUnknown(method)
    if method not in allowed:
        raise MethodNotAllowed(method, ", ".join(allowed))


def _check_privilege(place: Place, method: str, principal: Principal, own: bool) -> None:
    if not allowed(place, method, principal, own):
        raise Forbidden(principal.name, " or ".join(" and ".join(needed) for needed in place.asked(method)))


def _check_properties(place: Place, body: Mapping[str, Any], principal: Principal, own: bool) -> None:
    refused = [name for name in body if not may_set(place, "PATCH", name, principal, own)]
    if refused:
        raise Forbidden(principal.name, f"to set {', '.join(refused)}")


def _check_accept(heard: Heard, offered: str) -> None:
    given = heard.headers.get("accept", "*/*") or "*/*"
    kinds = [part.partition(";")[0].strip().lower() for part in given.split(",")]
    major = offered.partition("/")[0]
    if not any(kind in ("*/*", f"{major}/*", offered) for kind in kinds):
        raise NotAcceptable(given, offered)


def _while_changing(heard: Heard, place: Place | None, principal: Principal) -> bool:
    """What an account that must change its password may do: see and patch itself, and log out."""
    if heard.path == f"/redfish/v1/AccountService/Accounts/{principal.name}":
        return heard.method in ("GET", "HEAD", "PATCH")
    return place is not None and place.resource.login and not place.collection and heard.method == "DELETE"


def _document(document: Document, heard: Heard) -> Answer:
    _check_method(heard.method, ("GET", "HEAD"))
    _check_accept(heard, document.media_type)
    return Answer(200, document.render(), ((b"allow", b"GET, HEAD"),), document.media_type)


def _describes(place: Place) -> Headers:
    link = f"<{dmtf.schema_uri(place.entity)}>; rel=describedby"
    return ((b"allow", ", ".join(place.methods).encode()), (b"link", link.encode()))


def _of_entity(place: Place, entity: Any) -> Headers:
    etag = etag_of(place.resource, entity)
    return _describes(place) if etag is None else (*_describes(place), (b"etag", etag.encode()))


def refused(error: FabricError | None, path: str) -> Answer:
    """An error as Redfish says it, for whoever catches it; None stands for a bug of ours."""
    shown = None if error is None else presentable(error)
    status, body = rendered(shown, path)
    headers = () if shown is None else problem_headers(shown)
    return Answer(status, encode(body), (*headers, *_EVERY))


def _route(place: Place | None, document: str) -> str:
    if place is None:
        return document
    if place.stream is not None:
        return place.stream.uri(place.resource.uri)
    return place.resource.collection_uri if place.collection else place.resource.uri


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path if path == "/redfish/v1/" else path.rstrip("/")


def _canonical(path: str, place: Place) -> str:
    if place.resource.uri == "/redfish/v1/":
        return place.resource.uri
    if place.action is not None:
        return path.partition("/Actions/")[0]
    if place.stream is not None:
        return path.rpartition("/")[0]
    return path.removesuffix("/Members") if place.collection else path


def _headers(scope: Scope) -> dict[str, str]:
    """Names in lower case; a header that comes twice is one list (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
