"""Requests to one API server. Each is a call with a type; a watch is a stream of typed events.

The API's rules are those of the Kubernetes reference, "API concepts": chunked lists, watches with bookmarks, 410 for a version that the
server no longer knows, server-side apply.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from fabricmgr.domain.errors import ApiAbsent, ApiUnreachable
from fabricmgr.kube.answers import Expired, Status, in_stream, refusal
from fabricmgr.kube.discovery import Discovery, ServerVersion, fields_of
from fabricmgr.kube.kubeconfig import Access
from fabricmgr.kube.objects import Kind, View
from fabricmgr.kube.transport import Dial, Request, Transport

__all__ = ["Client", "Expired", "Listed", "WatchEvent"]

V = TypeVar("V", bound=View)
T = TypeVar("T")
Json = Mapping[str, Any]

FIELD_MANAGER = "fabricmgr"
PAGE = 500  # objects of a list's page; what kubectl asks for
_JSON, _JSON_PATCH, _MERGE_PATCH, _APPLY = (
    "application/json", "application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml",
)  # fmt: skip


@dataclass(frozen=True)
class Listed(Generic[V]):
    """A page. version: of the whole list. more: token of the next page, empty at the end."""

    items: Sequence[V]
    version: str
    more: str


@dataclass(frozen=True)
class WatchEvent(Generic[V]):
    """kind: ADDED, MODIFIED, DELETED or BOOKMARK; of the last one's object only metadata.resourceVersion counts."""

    kind: str
    object: V


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class Client:
    """dial: turns a host and port into the address to connect to, or refuses it. Every call raises the Api... errors of the domain,
    besides what it says itself; one that ran out of time is ApiUnreachable."""

    def __init__(self, access: Access, dial: Dial):
        self.access = access
        self.server = access.server
        self._transport = Transport(access, dial)
        self._decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}

    async def close(self) -> None:
        await self._transport.close()

    @property
    def closed(self) -> bool:
        """No call can be made any more."""
        return self._transport.closed

    # --- reading ---

    async def get(self, kind: Kind[V], namespace: str, name: str) -> V | None:
        """None where there is no such object."""
        try:
            content = await self._call(Request("GET", kind.path(namespace, name)), "get", kind.resource, name)
        except ApiAbsent:
            return None
        return self._decode(content, kind.view)

    async def list_page(self, kind: Kind[V], *, more: str = "", namespace: str = "", limit: int = PAGE, selector: str = "") -> Listed[V]:
        """more: the token of the page before. selector: of labels. Raises Expired when the token is too old: then the list starts again."""
        query = {"limit": str(limit), "continue": more, "labelSelector": selector}
        request = Request("GET", kind.path(namespace), {name: value for name, value in query.items() if value})
        page = self._decode(await self._call(request, "list", kind.resource), _List)
        if not page.metadata.resource_version:
            raise ApiUnreachable(self.server, f"its list of {kind.resource} has no version")
        items = [self._decode(item, kind.view) for item in page.items or ()]
        return Listed(items, page.metadata.resource_version, page.metadata.continue_)

    async def list_all(self, kind: Kind[V], *, namespace: str = "", selector: str = "") -> Sequence[V]:
        """Every page, at once. For small lists; a Reflector is for large ones. Raises Expired."""
        items: list[V] = []
        more = ""
        while True:
            page = await self.list_page(kind, more=more, namespace=namespace, selector=selector)
            items += page.items
            if not (more := page.more):
                return items

    @asynccontextmanager
    async def watch(self, kind: Kind[V], version: str, *, seconds: int, silence: float) -> AsyncIterator[AsyncIterator[WatchEvent[V]]]:
        """What happens after a version, until the server ends it after about so many seconds. silence: seconds without a byte that mean a
        dead connection. Raises Expired when the server no longer knows the version."""
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        async with self._transport.lines(Request("GET", kind.path(), query), silence) as (answer, lines):
            if answer.status_code != 200:
                status = Status.read(await self._transport.body(answer))
                raise refusal(answer.status_code, answer.headers, status, self.server, "watch", kind.resource, "")
            yield self._events(kind, lines)

    async def _events(self, kind: Kind[V], lines: AsyncIterator[bytes]) -> AsyncIterator[WatchEvent[V]]:
        async for text in lines:
            line = self._decode(text, _Line)
            if line.type == "ERROR":
                raise in_stream(Status.read(line.object), self.server, kind.resource)
            yield WatchEvent(line.type, self._decode(line.object, kind.view))

    # --- writing ---

    async def apply(self, kind: Kind[V], namespace: str, name: str, body: Json, *, subresource: str = "", force: bool = False) -> V:
        """Server-side apply as `fabricmgr`: afterwards we own the fields that the body names, and no others of those we had.

        force: take fields over that another manager owns; else ApiConflict. apiVersion, kind and name are put in."""
        whole = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        whole["metadata"] = {"name": name, **({"namespace": namespace} if namespace else {}), **body.get("metadata", {})}
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        return await self._patch(kind, namespace, name, subresource, whole, query, _APPLY)

    async def apply_status(self, kind: Kind[V], namespace: str, name: str, status: Json, *, force: bool = False) -> V:
        """The same for its status alone."""
        return await self.apply(kind, namespace, name, {"status": status}, subresource="status", force=force)

    async def patch(self, kind: Kind[V], namespace: str, name: str, operations: Sequence[Json], *, subresource: str = "") -> V:
        """JSON Patch (RFC 6902). A `test` that fails is an ApiRejected."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self._patch(kind, namespace, name, subresource, operations, query, _JSON_PATCH)

    async def merge(self, kind: Kind[V], namespace: str, name: str, body: Json, *, subresource: str = "") -> V:
        """JSON Merge Patch (RFC 7386)."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self._patch(kind, namespace, name, subresource, body, query, _MERGE_PATCH)

    async def create(self, kind: Kind[V], namespace: str, body: Json) -> V:
        """Raises ApiConflict where the name is taken."""
        whole = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        request = Request("POST", kind.path(namespace), {"fieldManager": FIELD_MANAGER}, msgspec.json.encode(whole))
        name = str(body.get("metadata", {}).get("name", ""))
        return self._decode(await self._call(request, "create", kind.resource, name), kind.view)

    async def delete(self, kind: Kind[V], namespace: str, name: str, *, uid: str = "", grace: int | None = None) -> None:
        """uid: only if it is still this one (else ApiConflict). grace: seconds. One that is gone is fine."""
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        body |= {"preconditions": {"uid": uid}} if uid else {}
        body |= {"gracePeriodSeconds": grace} if grace is not None else {}
        request = Request("DELETE", kind.path(namespace, name), content=msgspec.json.encode(body))
        try:
            await self._call(request, "delete", kind.resource, name)
        except ApiAbsent:
            return

    # --- the server itself ---

    async def version(self) -> ServerVersion:
        return self._decode(await self._call(Request("GET", "/version"), "get", "version"), ServerVersion)

    async def discovery(self) -> Discovery:
        """Which kinds the server has, in which versions."""

        async def get(path: str, accept: str) -> bytes:
            return await self._call(Request("GET", path, accept=accept), "get", path)

        try:
            return await Discovery.ask(get)
        except msgspec.MsgspecError as error:
            raise ApiUnreachable(self.server, f"its discovery cannot be read: {error}") from None

    async def fields(self, kind: Kind[Any], schema: str) -> frozenset[str]:
        """The field names that the server knows of a schema, such as io.k8s.api.core.v1.LoadBalancerIngress (OpenAPI v3, since 1.24).

        Empty where the server doesn't say."""
        path = f"/openapi/v3/apis/{kind.group}/{kind.version}" if kind.group else f"/openapi/v3/api/{kind.version}"
        try:
            content = await self._call(Request("GET", path), "get", path)
        except ApiAbsent:
            return frozenset()
        try:
            return fields_of(content, schema)
        except msgspec.MsgspecError as error:
            raise ApiUnreachable(self.server, f"its OpenAPI document cannot be read: {error}") from None

    # --- how it travels ---

    async def _patch(self, kind: Kind[V], namespace: str, name: str, sub: str, body: object, query: Mapping[str, str], media: str) -> V:
        request = Request("PATCH", kind.path(namespace, name, sub), query, msgspec.json.encode(body), media)
        resource = f"{kind.resource}/{sub}" if sub else kind.resource
        return self._decode(await self._call(request, "patch", resource, name), kind.view)

    async def _call(self, request: Request, verb: str, resource: str, name: str = "") -> bytes:
        answer, body = await self._transport.call(request)
        if answer.status_code in (200, 201, 202):
            return body
        raise refusal(answer.status_code, answer.headers, Status.read(body), self.server, verb, resource, name)

    def _decode(self, content: bytes | msgspec.Raw, kind: type[T]) -> T:
        try:
            return self._decoder(kind).decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ApiUnreachable(self.server, f"its answer cannot be read as {kind.__name__}: {error}") from None

    def _decoder(self, kind: type[T]) -> msgspec.json.Decoder[T]:
        if kind not in self._decoders:
            self._decoders[kind] = msgspec.json.Decoder(kind)
        found: msgspec.json.Decoder[T] = self._decoders[kind]
        return found
