"""What the routes work with, and what each framework route is given of its request."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request, Response

from fabricmgr.api.dispatch import etag, quoted_version
from fabricmgr.api.framework import Asker, View, response
from fabricmgr.domain.page import DEFAULT_LIMIT, Page
from fabricmgr.services.accounts import Gate
from fabricmgr.services.cluster_apis import ClusterApis
from fabricmgr.services.passwords import Passwords
from fabricmgr.settings import ManagerSettings
from fabricmgr.store.listen import Listener
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database, Tx
from fabricmgr.web.responses import Answer
from fabricmgr.web.who import Principal, Who, source

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """One set for each process."""

    database: Database
    who: Who
    gate: Gate
    passwords: Passwords
    sealer: Sealer
    apis: ClusterApis
    listener: Listener
    stopping: asyncio.Event
    settings: ManagerSettings
    clock: Callable[[], datetime]


@dataclass(frozen=True)
class Call:
    """A request as a framework route sees it."""

    parts: Parts
    principal: Principal
    request: Request

    @property
    def by(self) -> str:
        """Who asks, for history and audit."""
        return self.principal.actor

    @property
    def now(self) -> datetime:
        return self.parts.clock()

    @property
    def source(self) -> str:
        """Where the request came from."""
        return source(self.request.scope)

    def version(self, kind: str, name: str) -> int | None:
        """What If-Match quotes. Raises VersionConflict for what cannot be current."""
        return quoted_version(self.request.scope, kind, name)

    async def run(self, use_case: Callable[[Tx], Awaitable[T]]) -> T:
        """A change, in one transaction."""
        return await self.parts.database.run(use_case)

    async def read(self, use_case: Callable[[Tx], Awaitable[T]]) -> T:
        """A look, in one transaction."""
        async with self.parts.database.read() as tx:
            return await use_case(tx)

    def shown(self, view: View, version: int | None = None, *, location: str = "", status: int = 200) -> Response:
        """A view as the answer: with its ETag, 304 where the caller has it, 201 where it was made."""
        headers = [] if version is None else [etag(version)]
        if version is not None and self.request.method in ("GET", "HEAD") and self._has(version):
            return response(Answer(304, headers=tuple(headers)))
        if location:
            headers.append((b"location", location.encode()))
        return response(Answer(201 if location else status, view.model_dump_json().encode(), tuple(headers)))

    def _has(self, version: int) -> bool:
        given = self.request.headers.get("if-none-match", "")
        return f'"{version}"' in [each.strip().removeprefix("W/") for each in given.split(",")]


def _call(request: Request, asker: Asker) -> Call:
    parts: Parts = request.app.state.parts
    return Call(parts, asker, request)


def _page(
    limit: Annotated[int, Query(description="items of a page, 1 to 1000")] = DEFAULT_LIMIT,
    after: Annotated[str | None, Query(description="the `next` of the page before")] = None,
) -> Page:
    return Page(limit, after)


Called = Annotated[Call, Depends(_call)]
Paging = Annotated[Page, Depends(_page)]


def gone() -> Response:
    """What a DELETE answers."""
    return Response(status_code=204)
