"""What a GET shows: a resource, a collection, and what $filter, $expand and $select make of them (DSP0266, 7.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from fabricmgr import dmtf
from fabricmgr.domain.errors import FabricError, NotFound
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.filter import Filter
from fabricmgr.redfish.query import Expand, Query, select
from fabricmgr.redfish.resource import Action, Ask, Place, Resource, Tree
from fabricmgr.web.who import Lookups, Principal

EVERYTHING = Query()


def etag_of(resource: Resource, entity: Any) -> str | None:
    """The row's version, quoted; None for what nobody changes."""
    return None if resource.version is None else f'"{resource.version(entity)}"'


def page_of(resource: Resource, uri: str, entity: Any) -> Json:
    """A resource's page, all of it."""
    page = {"@odata.id": uri, "@odata.type": dmtf.odata_type(resource.schema), **resource.body(entity)}
    if resource.actions:
        page["Actions"] = _actions(resource, uri)
    etag = etag_of(resource, entity)
    return page if etag is None else {**page, "@odata.etag": etag}


def _actions(resource: Resource, uri: str) -> Json:
    shown: Json = {f"#{each.name}": _action(each, uri) for each in resource.actions if not each.oem}
    own = {f"#{each.name}": _action(each, uri) for each in resource.actions if each.oem}
    return {**shown, "Oem": own} if own else shown


def _action(action: Action, uri: str) -> Json:
    info = {"@Redfish.ActionInfo": action.info(uri)} if action.described else {}
    return {"target": action.target(uri), **info}


def may_read(place: Place, principal: Principal, own: bool) -> bool:
    """Whether the privilege registry lets a principal GET this."""
    return allowed(place, "GET", principal, own)


def allowed(place: Place, method: str, principal: Principal, own: bool) -> bool:
    """Whether it lets it do `method`, on one property at least. own: the resource is the principal's, so that ConfigureSelf counts."""
    tables = [place.asked(method), *dmtf.property_privileges(place.entity, method).values()]
    return any(_held(table, principal, own) for table in tables)


def may_set(place: Place, method: str, name: str, principal: Principal, own: bool) -> bool:
    """Whether it lets it set a property."""
    return _held(dmtf.property_privileges(place.entity, method).get(name, place.asked(method)), principal, own)


def _held(table: list[list[str]], principal: Principal, own: bool) -> bool:
    held = principal.privileges if own else principal.privileges - {"ConfigureSelf"}
    return any(set(needed) <= held or needed == ["NoAuth"] for needed in table)


@dataclass(frozen=True)
class _Question:
    """Which members a collection has. Whoever may see the collection sees the same, so who asks is no part of it."""

    uri: str
    skip: int
    limit: int | None
    equals: tuple[tuple[str, object], ...]
    ask: Ask = field(compare=False)
    resource: Resource = field(compare=False)


Ids = tuple[Sequence[str], int]


class Pages:
    """Pages of a tree, as one principal may see them."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._shared: Lookups[_Question, Ids] = Lookups(_asked, kept=0)

    async def resource(self, place: Place, ask: Ask, entity: Any, query: Query) -> Json:
        """A resource's page as the query wants it."""
        page = page_of(place.resource, ask.uri, entity)
        if query.expand is not None:
            page = await self._expanded(page, ask, query.expand, query.expand.levels)
        return select(page, query.select)

    async def collection(self, place: Place, ask: Ask, query: Query) -> Json:
        """A collection's page; with `only`, the member of a collection of one."""
        full = place.resource.expanded or (query.expand is not None and query.expand.subordinate)
        if query.filter is not None or full:
            pages, total = await self._member_pages(place.resource, ask, query)
            members = pages if full else [_reference(page["@odata.id"]) for page in pages]
        else:
            ids, total = await self._members(place.resource, ask, query.skip, query.top)
            members = [_reference(f"{ask.uri}/{each}") for each in ids]
        if query.only and total == 1 and members:
            return await self._at(members[0]["@odata.id"], ask, query)
        return select(_collection_page(place, ask.uri, members, total, query), query.select)

    async def _member_pages(self, resource: Resource, ask: Ask, query: Query) -> tuple[list[Json], int]:
        if query.filter is None:
            pages, total = await self._some(resource, ask, query.skip, query.top)
        else:
            pages, total = await self._matching(resource, ask, query, query.filter)
        if query.expand is not None and query.expand.subordinate and query.expand.levels > 1:
            pages = [await self._expanded(page, ask, query.expand, query.expand.levels - 1) for page in pages]
        return pages, total

    async def _some(self, resource: Resource, ask: Ask, skip: int, top: int | None) -> tuple[list[Json], int]:
        ids, total = await self._members(resource, ask, skip, top)
        entities = await self._load(resource, ask, ids)
        # A member that was removed since its id was read is not there: the collection is as it is now.
        there = [(each, entity) for each, entity in zip(ids, entities, strict=True) if entity is not None]
        pages = [page_of(resource, f"{ask.uri}/{each}", entity) for each, entity in there]
        return pages, total - (len(ids) - len(pages))

    async def _matching(self, resource: Resource, ask: Ask, query: Query, wanted: Filter) -> tuple[list[Json], int]:
        """What the resource looks for itself comes from there; all else is tried on each page, a slice of the collection at a time."""
        ask = replace(ask, equals={path: value for path, value in wanted.equals.items() if path in resource.filters})
        if wanted.exact and set(wanted.equals) <= resource.filters:
            return await self._some(resource, ask, query.skip, query.top)
        limit = _limit(resource, query.top)
        kept: list[Json] = []
        found = seen = 0
        while True:
            pages, total = await self._some(resource, ask, seen, resource.page_size)
            seen += len(pages)
            for page in filter(wanted, pages):
                found += 1
                if found > query.skip and (limit is None or len(kept) < limit):
                    kept.append(page)
            if seen >= total or not pages:
                return kept, found

    async def _members(self, resource: Resource, ask: Ask, skip: int, top: int | None) -> Ids:
        """Callers that wait for the same at once share one look at the database; it begins after each of them came."""
        equals = tuple(sorted(ask.equals.items()))
        return await self._shared.get(_Question(ask.uri, skip, _limit(resource, top), equals, ask, resource), fresh=True)

    async def _load(self, resource: Resource, ask: Ask, ids: Sequence[str]) -> Sequence[Any]:
        """Their entities, None for one that was removed meanwhile."""
        if resource.load is not None:
            return await resource.load(ask, ids)
        found = []
        for each in ids:
            uri = f"{ask.uri}/{each}"
            try:
                found.append(await resource.get(replace(ask, uri=uri, params=self._found(uri).params)))
            except NotFound:
                found.append(None)
        return found

    async def _expanded(self, value: Any, ask: Ask, expand: Expand, levels: int, inside_links: bool = False) -> Any:
        """The value with its references filled in, as deep as asked for. What the principal may not see stays a reference."""
        if isinstance(value, list):
            return [await self._expanded(each, ask, expand, levels, inside_links) for each in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"@odata.id"}:
            wanted = expand.linked if inside_links else expand.subordinate
            return await self._filled(value, ask, expand, levels) if wanted else value
        return {name: await self._expanded(each, ask, expand, levels, inside_links or name == "Links") for name, each in value.items()}

    async def _filled(self, reference: Json, ask: Ask, expand: Expand, levels: int) -> Json:
        try:
            page = await self._at(reference["@odata.id"], ask, EVERYTHING)
        except FabricError:
            return reference
        return page if levels == 1 else await self._expanded(page, ask, expand, levels - 1)

    async def _at(self, uri: str, ask: Ask, query: Query) -> Json:
        """The page of another URI, for the same principal."""
        place = self._found(uri)
        there = replace(ask, uri=uri, params=place.params)
        if place.collection:
            if not may_read(place, ask.principal, own=False):
                raise NotFound("resource", uri)
            return await self.collection(place, there, EVERYTHING)
        entity = await place.resource.get(there)
        own = place.resource.own is not None and place.resource.own(ask.principal, entity)
        if not may_read(place, ask.principal, own):
            raise NotFound("resource", uri)
        return await self.resource(place, there, entity, replace(query, only=False))

    def _found(self, uri: str) -> Place:
        place = self._tree.find(uri)
        if place is None:
            raise NotFound("resource", uri)
        return place


async def _asked(question: _Question) -> Ids:
    if question.resource.members is None:
        raise NotFound("resource", question.uri)
    return await question.resource.members(question.ask, question.skip, question.limit)


def _limit(resource: Resource, top: int | None) -> int | None:
    """How many members a page has at most; None: all."""
    if resource.page_size is None or top is None:
        return top if resource.page_size is None else resource.page_size
    return min(top, resource.page_size)


def _reference(uri: str) -> Json:
    return {"@odata.id": uri}


def _collection_page(place: Place, uri: str, members: list[Json], total: int, query: Query) -> Json:
    page: Json = {
        "@odata.id": uri,
        "@odata.type": place.odata_type,
        "Name": place.resource.collection_name,
        "Members": members,
        "Members@odata.count": total,
    }
    reached = query.skip + len(members)
    if reached < total and members:
        others = [(name, value) for name, value in query.raw if name != "$skip"]
        page["Members@odata.nextLink"] = f"{uri}?{urlencode([*others, ('$skip', str(reached))], safe='$/,.*~()')}"
    return page
