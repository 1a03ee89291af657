"""An API server in memory, for what reads copies of it: lists and watches, and objects put and taken away by a test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import msgspec

from fabricmgr.controllers.cluster_view import ClusterView, Parts
from fabricmgr.kube.client import Client, Listed, WatchEvent
from fabricmgr.kube.kubeconfig import Access
from fabricmgr.kube.objects import Kind, View
from fabricmgr.kube.reflector import Change, Reflector
from fabricmgr.kube.views import KINDS
from fabricmgr.store.api_rows import ApiRow
from fabricmgr.store.tx import Database
from tests.support.database import NOW

V = TypeVar("V", bound=View)


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class KubeSource:
    """A Source. Objects are JSON, as the API has them; refused: errors by plural that every request of the kind meets."""

    version: int = 1
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, Exception] = field(default_factory=dict)
    _watchers: dict[str, list[asyncio.Queue[WatchEvent[Any]]]] = field(default_factory=dict)

    def put(self, kind: Kind[Any], name: str, namespace: str = "", *, uid: str = "", **parts: Any) -> str:
        """Make or change one. Gives back its uid. metadata: what is given beside name, namespace and uid."""
        self.version += 1
        key = f"{namespace}/{name}"
        kept = self.objects.setdefault(kind.plural, {})
        metadata = {"name": name, "namespace": namespace, "uid": uid or f"{kind.plural}-{key}", "resourceVersion": str(self.version)}
        metadata |= parts.pop("metadata", {})
        found = msgspec.convert({"metadata": metadata, **parts}, kind.view)
        known = key in kept and kept[key].uid == found.uid
        kept[key] = found
        self._tell(kind, WatchEvent("MODIFIED" if known else "ADDED", found))
        return str(found.uid)

    def drop(self, kind: Kind[Any], name: str, namespace: str = "") -> None:
        self.version += 1
        self._tell(kind, WatchEvent("DELETED", self.objects[kind.plural].pop(f"{namespace}/{name}")))

    def _tell(self, kind: Kind[Any], event: WatchEvent[Any]) -> None:
        for each in self._watchers.get(kind.plural, []):
            each.put_nowait(event)

    async def list_page(self, kind: Kind[V], *, more: str = "") -> Listed[V]:
        del more
        if error := self.refused.get(kind.plural):
            raise error
        return Listed([*self.objects.get(kind.plural, {}).values()], str(self.version), "")

    @asynccontextmanager
    async def watch(self, kind: Kind[V], version: str, *, seconds: int, silence: float) -> AsyncIterator[AsyncIterator[WatchEvent[V]]]:
        del version, seconds, silence
        queue: asyncio.Queue[WatchEvent[Any]] = asyncio.Queue()
        self._watchers.setdefault(kind.plural, []).append(queue)

        async def events() -> AsyncIterator[WatchEvent[V]]:
            while True:
                yield await queue.get()

        yield events()


async def _nowhere(host: str, port: int) -> Any:
    raise OSError(f"{host}:{port} is not there")


@asynccontextmanager
async def following(
    source: KubeSource,
    database: Database,
    api: ApiRow,
    parts: Parts,
    clock: Callable[[], datetime],
    *,
    first: bool = False,
    writer: Client | None = None,
) -> AsyncIterator[ClusterView]:
    """Parts at work on what the source has, until the block ends. first: nobody followed it before. writer: without one, writing fails."""
    made: list[Any] = []
    reflectors: dict[str, Reflector[Any]] = {}

    def told(kind: Kind[Any], change: Change[Any]) -> None:
        for part in made:
            if kind in part.kinds:
                part.changed(kind, change)

    for kind in KINDS.values():
        reflectors[kind.name] = Reflector(source, kind, partial(told, kind), clock=clock, chance=lambda: 0.0)
    client = writer or Client(Access(server="https://api.invalid", token=lambda: "t"), _nowhere)
    view = ClusterView(api, client, database, reflectors, clock, lambda: 0.0, clock(), first)
    made += parts(view)
    tasks = [asyncio.create_task(each.run()) for each in [*made, *reflectors.values()]]
    try:
        yield view
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
