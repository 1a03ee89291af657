"""How a resource is declared, and the tree that finds it.

From one declaration follow: the routes, HEAD, Allow, ETag, the collection page with its paging, privileges, and the bodies of 404, 405,
412 and 501. `layer` does the following; nothing here answers a request."""

import re
from asyncio import Future
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from fabricmgr import dmtf
from fabricmgr.domain.errors import FabricError, Invalid
from fabricmgr.redfish.body import Flag, Items, Json, Kind, Number, Object, Text
from fabricmgr.redfish.filter import Scalar
from fabricmgr.redfish.streams import Streams
from fabricmgr.services.accounts import Gate
from fabricmgr.services.attachments import Desk
from fabricmgr.services.server_certificate import Here
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database
from fabricmgr.web.outbound import Outbound
from fabricmgr.web.responses import Answer, Headers
from fabricmgr.web.who import Principal, Who


@dataclass
class Kept:
    """What never changes while a process runs, once it was asked for. installation: the UUID that clients know the service by."""

    installation: UUID | None = None


# What ids are made of. Nothing else gets as far as a resource, least of all to a database that takes no NUL.
_ID = re.compile(r"[A-Za-z0-9._~:@\-]{1,300}\Z")


@dataclass(frozen=True)
class Site:
    """What resources are filled from. session_timeout: how long an unused session lasts."""

    database: Database
    gate: Gate
    who: Who
    session_timeout: timedelta
    desk: Desk
    sealer: Sealer
    outbound: Outbound
    streams: Streams
    here: Here
    kept: Kept = field(default_factory=Kept)


@dataclass(frozen=True)
class Ask:
    """A request that has found its resource: who asks, for what, at what time. params: what stood in the URI's braces.

    later: the client would rather not wait (Prefer: respond-async, RFC 7240).
    equals: what members must have at these paths, where the resource's `filters` names them."""

    site: Site
    principal: Principal
    uri: str
    params: Mapping[str, str]
    now: datetime
    source: str = ""
    later: bool = False
    equals: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        return self.site.database


def texts(ask: Ask) -> Mapping[str, str]:
    """What members must have at paths that hold text. Raises Invalid for a value that no page shows: another type, no text, or a NUL."""
    for path, value in ask.equals.items():
        if not isinstance(value, str) or not value or "\0" in value:
            raise Invalid(path, value, "a text that can be")
    return {path: str(value) for path, value in ask.equals.items()}


@dataclass(frozen=True)
class Made:
    """What a POST made. headers: beside Location. warned: of what the client has to mind next, in @Message.ExtendedInfo."""

    id: str
    entity: Any
    headers: Headers = ()
    warned: FabricError | None = None


@dataclass(frozen=True)
class Accepted:
    """What will be done later: the answer is 202. monitor: where its end is to be seen. shown: the task's page."""

    monitor: str
    shown: Json


Get = Callable[[Ask], Awaitable[Any]]
Body = Callable[[Any], Json]
Members = Callable[[Ask, int, int | None], Awaitable[tuple[Sequence[str], int]]]
Load = Callable[[Ask, Sequence[str]], Awaitable[Sequence[Any]]]
Patch = Callable[[Ask, Any, Json, int | None], Awaitable[Any]]
Delete = Callable[[Ask, Any, int | None], Awaitable[Accepted | None]]
Create = Callable[[Ask, Json], Awaitable[Made]]


@dataclass(frozen=True)
class Action:
    """name: `Type.Action`, as the target's last segment says it. run: gives what is shown (200), or None (204), or what was made (201).

    oem: it is ours, and lies below Actions/Oem. parameters: what the body may name (DSP0266, 7.10). described: by an ActionInfo beside."""

    name: str
    run: "Callable[[Ask, Any, Json], Awaitable[Json | Made | Accepted | None]]"
    parameters: Object = field(default_factory=lambda: Object({}))
    oem: bool = False
    described: bool = False

    def info(self, uri: str) -> str:
        """Where its ActionInfo is, for a resource at `uri`."""
        return f"{uri}/{self.name.rpartition('.')[2]}ActionInfo"

    def target(self, uri: str) -> str:
        """Where it is posted to, for a resource at `uri`."""
        return f"{uri}/Actions/{'Oem/' if self.oem else ''}{self.name}"


@dataclass(frozen=True)
class Opening:
    """What a client asked of a stream. headers: names in lower case. filter: its $filter, "" for none."""

    headers: Mapping[str, str]
    filter: str


Pieces = Callable[[Future[None]], AsyncGenerator[bytes]]


@dataclass(frozen=True)
class Stream:
    """An answer without an end. name: its last segment, below its resource. It is read by whoever may read the resource.

    open: gives what makes the pieces; they end when the future they are given is done, which says that the client has gone."""

    name: str
    media_type: str
    open: "Callable[[Ask, Any, Opening], Awaitable[Pieces]]"

    def uri(self, resource: str) -> str:
        """Where it is, for a resource at `resource`."""
        return f"{resource}/{self.name}"


@dataclass(frozen=True)
class Resource:
    """schema: the type's name; its version comes from dmtf. uri: in full, so that grep finds it; {name} takes one segment.

    get: the entity behind a URI, or NotFound. body: what it shows, without @odata. version: the row's, for the ETag.
    members: ids of the collection that the URI's last segment belongs to, from `skip`, at most `top`, with their total count.
    load: the entities of some ids at once, None for one that is gone, for $expand and $filter; one by one where it is absent.
    page_size: None: it comes whole.
    expanded: the collection shows its members in full, asked or not (OData.AutoExpand).
    filters: paths whose equality `members` itself looks for, by `ask.equals`; the rest of a $filter is tried on the pages.
    streams: answers without an end that lie below it.
    patch, delete, create: what a client may do; patchable and creatable say what it may name.
    below: the type of the resource it lies under, where the privilege registry asks something else there.
    needs_precondition: a write without If-Match is refused (428).
    answers: what a GET is answered with instead of a page, None for the page.
    own: whether a principal with ConfigureSelf alone may see and change this one. open_to_all: no credentials needed for GET."""

    schema: str
    uri: str
    get: Get
    body: Body
    version: Callable[[Any], int] | None = None
    members: Members | None = None
    load: Load | None = None
    page_size: int | None = None
    expanded: bool = False
    filters: frozenset[str] = frozenset()
    collection_name: str = ""
    patch: Patch | None = None
    patchable: Object = field(default_factory=lambda: Object({}))
    delete: Delete | None = None
    create: Create | None = None
    creatable: Object = field(default_factory=lambda: Object({}))
    actions: tuple[Action, ...] = ()
    streams: tuple[Stream, ...] = ()
    below: str = ""
    needs_precondition: bool = False
    own: Callable[[Principal, Any], bool] | None = None
    answers: "Callable[[Ask, Any], Answer | None] | None" = None
    open_to_all: bool = False
    login: bool = False

    @property
    def collection_uri(self) -> str:
        """Where its collection lives."""
        return self.uri.rpartition("/")[0]

    @property
    def methods(self) -> tuple[str, ...]:
        """What Allow names for a member."""
        return ("GET", "HEAD", *(("PATCH",) if self.patch else ()), *(("DELETE",) if self.delete else ()))

    @property
    def collection_methods(self) -> tuple[str, ...]:
        """What Allow names for the collection."""
        return ("GET", "HEAD", *(("POST",) if self.create else ()))


@dataclass(frozen=True)
class Place:
    """A URI that is there: a resource, a resource's collection, the target of one of its actions, or one of its streams."""

    resource: Resource
    collection: bool
    params: Mapping[str, str]
    action: Action | None = None
    stream: Stream | None = None

    @property
    def entity(self) -> str:
        """The type's name, as the privilege table knows it."""
        return f"{self.resource.schema}Collection" if self.collection else self.resource.schema

    @property
    def methods(self) -> tuple[str, ...]:
        if self.action is not None:
            return ("POST",)
        if self.stream is not None:
            return ("GET", "HEAD")
        return self.resource.collection_methods if self.collection else self.resource.methods

    @property
    def media_type(self) -> str:
        """What it answers with."""
        return "application/json" if self.stream is None else self.stream.media_type

    @property
    def odata_type(self) -> str:
        return dmtf.odata_type(self.entity)

    def asked(self, method: str) -> list[list[str]]:
        """What the privilege registry asks: any of the outer list, all of the inner one."""
        return dmtf.privileges(self.entity, method, self.resource.below)


def action_info(resource: Resource, action: Action) -> Resource:
    """The ActionInfo of an action: its parameters, as the body is checked by (DSP0266, 7.10.2)."""
    uri = action.info(resource.uri)
    parameters = [_parameter(name, kind, name in action.parameters.required) for name, kind in action.parameters.fields.items()]
    page = {"Id": uri.rpartition("/")[2], "Name": f"Parameters of {action.name}", "Parameters": parameters}
    return Resource("ActionInfo", uri, resource.get, lambda _: page)


def _parameter(name: str, kind: Kind, required: bool) -> Json:
    inner = kind.kind if isinstance(kind, Items) else kind
    among = list(inner.among) if isinstance(inner, Text) else []
    words: Mapping[type, str] = {Text: "String", Number: "Number", Flag: "Boolean"}
    data_type = words.get(type(inner), "Object") + ("Array" if isinstance(kind, Items) else "")
    return {"Name": name, "Required": required, "DataType": data_type, **({"AllowableValues": among} if among else {})}


@dataclass
class _Branch:
    literal: "dict[str, _Branch]" = field(default_factory=dict)
    any: "tuple[str, _Branch] | None" = None
    resource: Resource | None = None
    collection: Resource | None = None
    action: tuple[Resource, Action] | None = None
    stream: tuple[Resource, Stream] | None = None


class Tree:
    """All resources, found by the segments of their URI: one dictionary a segment, whatever their number."""

    def __init__(self) -> None:
        self._root = _Branch()
        self.resources: list[Resource] = []

    def add(self, resource: Resource) -> Resource:
        """Take a resource in. Gives it back, so that a declaration can be an assignment."""
        self.resources.append(resource)
        self._branch(resource.uri).resource = resource
        if resource.members is not None:
            self._branch(resource.collection_uri).collection = resource
        for action in resource.actions:
            self._branch(action.target(resource.uri)).action = (resource, action)
            if action.described:
                self.add(action_info(resource, action))
        for stream in resource.streams:
            self._branch(stream.uri(resource.uri)).stream = (resource, stream)
        return resource

    def find(self, path: str) -> Place | None:
        """What lies at a path. A trailing slash, and `/Members` of a collection, name the same (DSP0266, 7.2 and 7.5)."""
        params: dict[str, str] = {}
        branch = self._root
        segments = path.strip("/").split("/")
        for index, segment in enumerate(segments):
            last = index == len(segments) - 1
            if segment == "Members" and last and branch.collection is not None:
                break
            step = self._step(branch, segment, params)
            if step is None:
                return None
            branch = step
        if branch.action is not None:
            return Place(branch.action[0], False, params, branch.action[1])
        if branch.stream is not None:
            return Place(branch.stream[0], False, params, stream=branch.stream[1])
        if branch.resource is not None:
            return Place(branch.resource, False, params)
        return Place(branch.collection, True, params) if branch.collection is not None else None

    @staticmethod
    def _step(branch: _Branch, segment: str, params: dict[str, str]) -> _Branch | None:
        if segment in branch.literal:
            return branch.literal[segment]
        if branch.any is None or not _ID.match(segment):
            return None
        name, below = branch.any
        params[name] = segment
        return below

    def _branch(self, uri: str) -> _Branch:
        branch = self._root
        for segment in uri.strip("/").split("/"):
            if not segment.startswith("{"):
                branch = branch.literal.setdefault(segment, _Branch())
                continue
            if branch.any is None:
                branch.any = (segment.strip("{}"), _Branch())
            branch = branch.any[1]
        return branch
