"""A copy of all objects of a kind, and every change of it: once each, whatever happens to the connection or the server.

The rules are those of the Kubernetes reference, "API concepts": a list in pages, then watches from its version on, each from the version
that the last one brought. Only a version that the server no longer knows makes a new list. That is compared with the copy: what vanished
in between is said to be deleted.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Generic, NoReturn, Protocol, TypeVar

from fabricmgr.domain.errors import ApiAbsent, ApiRefused, ApiTooMany, ApiUntrusted, FabricError
from fabricmgr.kube.client import Expired, Listed, WatchEvent
from fabricmgr.kube.objects import Kind, View
from fabricmgr.metrics import KUBE_CHANGES, KUBE_LISTS
from fabricmgr.problems import sentence

log = logging.getLogger(__name__)

V = TypeVar("V", bound=View)

SHORTEST_WATCH, LONGEST_WATCH = 20, 25  # seconds after which a server ends a watch, so that they do not all end at once
SPARE = 5.0  # seconds that a watch may be silent beyond that: then its connection is dead
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds after failures in a row
REFUSED_PAUSE = 60.0  # seconds after what people must mend: a missing right, a missing kind, a foreign certificate
STEADY = 5.0  # seconds after which a watch that brought nothing counts as a success too


class Happened(Enum):
    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


@dataclass(frozen=True)
class Change(Generic[V]):
    """old: as it was, None for a new one. new: as it is, None for a deleted one. object: the later of the two."""

    kind: Happened
    old: V | None
    new: V | None
    object: V


class Source(Protocol):
    """What a Reflector needs of a Client."""

    async def list_page(self, kind: Kind[V], *, more: str = "") -> Listed[V]: ...

    def watch(
        self, kind: Kind[V], version: str, *, seconds: int, silence: float
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent[V]]]: ...


class Reflector(Generic[V]):
    """on: told each change after the copy has it. It must not wait and must not raise.
    synced: set when the copy is whole for the first time; until then an absence in it means nothing.
    progressed_at: when the server last said anything. error: what is in the way now. absent: the server has no such kind."""

    def __init__(
        self,
        source: Source,
        kind: Kind[V],
        on: Callable[[Change[V]], None],
        *,
        clock: Callable[[], datetime],
        chance: Callable[[], float],
    ):
        self.kind = kind
        self.synced = asyncio.Event()
        self.progressed_at: datetime | None = None
        self.error: FabricError | None = None
        self.absent = False
        self._source = source
        self._on = on
        self._clock = clock
        self._chance = chance
        self._objects: dict[str, V] = {}
        self._uids: dict[tuple[str, str], str] = {}
        self._version = ""
        self._failures = 0

    @property
    def store(self) -> Mapping[str, V]:
        """By uid. It changes under whoever holds it, but only while he awaits."""
        return MappingProxyType(self._objects)

    def find(self, name: str, namespace: str = "") -> V | None:
        uid = self._uids.get((namespace, name))
        return self._objects.get(uid) if uid is not None else None

    async def run(self) -> NoReturn:
        """Until cancelled. Nothing that a server or a network does ends it."""
        while True:
            pause = await self.step()
            await asyncio.sleep(pause)

    async def step(self) -> float:
        """One list where it is due, and one watch to its end. Gives back the seconds to wait before the next."""
        try:
            if not self._version:
                await self._list()
            return await self._watch()
        except Expired:
            return self._expired()
        except ApiAbsent as error:
            return self._no_kind(error)
        except FabricError as error:
            return self._failed(error)

    # --- list and watch ---

    async def _list(self) -> None:
        """Page by page, so that no second copy is ever whole in memory. All pages are of one moment."""
        KUBE_LISTS.labels(self.kind.plural).inc()
        seen: set[str] = set()
        more = ""
        while True:
            page = await self._source.list_page(self.kind, more=more)
            self._progress()
            for found in page.items:
                seen.add(found.uid)
                self._put(found)
            if not (more := page.more):
                break
        for uid in [uid for uid in self._objects if uid not in seen]:
            self._drop(uid)
        self._version = page.version
        self.absent = False
        self.synced.set()

    async def _watch(self) -> float:
        seconds = SHORTEST_WATCH + int(self._chance() * (LONGEST_WATCH - SHORTEST_WATCH + 1))
        began = asyncio.get_running_loop().time()
        try:
            async with self._source.watch(self.kind, self._version, seconds=seconds, silence=seconds + SPARE) as events:
                self._progress()
                async for event in events:
                    self._take(event)
        finally:
            if asyncio.get_running_loop().time() - began >= STEADY:
                self._failures = 0
        # A server that ends every watch at once is not asked in a tight loop.
        return self._pause() if asyncio.get_running_loop().time() - began < 1.0 else 0.0

    def _take(self, event: WatchEvent[V]) -> None:
        self._failures = 0
        self._progress()
        if event.kind in ("ADDED", "MODIFIED"):
            self._put(event.object)
        elif event.kind == "DELETED":
            self._drop(event.object.uid, event.object)
        if event.object.metadata.resource_version:
            self._version = event.object.metadata.resource_version

    # --- the copy ---

    def _put(self, new: V) -> None:
        former = self._uids.get(new.key)
        if former is not None and former != new.uid:
            # Another one of the same name: the first one's end was not seen.
            self._drop(former)
        old = self._objects.get(new.uid)
        if old is not None and old.metadata.resource_version == new.metadata.resource_version:
            return
        self._objects[new.uid] = new
        self._uids[new.key] = new.uid
        self._tell(Change(Happened.ADDED if old is None else Happened.MODIFIED, old, new, new))

    def _drop(self, uid: str, last: V | None = None) -> None:
        """last: as the server saw it at its end."""
        old = self._objects.pop(uid, None)
        if old is None:
            return
        if self._uids.get(old.key) == uid:
            del self._uids[old.key]
        self._tell(Change(Happened.DELETED, old, None, last or old))

    def _tell(self, change: Change[V]) -> None:
        KUBE_CHANGES.labels(self.kind.plural, change.kind.value).inc()
        self._on(change)

    # --- what went wrong ---

    def _progress(self) -> None:
        self.progressed_at = self._clock()
        self.error = None

    def _expired(self) -> float:
        """At once the first time; a server that forgets as fast as it lists is given time."""
        self._version = ""
        pause = self._pause()
        return 0.0 if self._failures == 1 else pause

    def _no_kind(self, error: ApiAbsent) -> float:
        """Nobody has objects of a kind that is not there: a copy of an optional one is whole, and empty."""
        self._version = ""
        if not self.kind.optional:
            return self._failed(error)
        for uid in list(self._objects):
            self._drop(uid)
        self._progress()
        self.absent = True
        self.synced.set()
        return REFUSED_PAUSE

    def _failed(self, error: FabricError) -> float:
        if self.error is None or sentence(self.error) != sentence(error):
            log.warning("watch", extra={"kind": self.kind.plural, "error": type(error).__name__, "outcome": sentence(error)})
        self.error = error
        if isinstance(error, ApiTooMany):
            return error.retry_after * (1 + self._chance() / 5)
        if isinstance(error, ApiRefused | ApiUntrusted | ApiAbsent):
            return REFUSED_PAUSE * (1 + self._chance() / 5)
        return self._pause()

    def _pause(self) -> float:
        self._failures += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 16))
        return pause * (0.5 + self._chance() / 2)
