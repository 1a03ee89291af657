"""An API server's store with a memory of its changes, that can be told to fail: for what a Reflector makes of any sequence of faults."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fabricmgr.domain.errors import ApiUnreachable
from fabricmgr.kube.client import Expired, Listed, WatchEvent
from fabricmgr.kube.objects import Kind, Meta, View
from fabricmgr.kube.views import Pod

CUT = ApiUnreachable("https://api.test", "the connection was reset")


def pod(name: str, uid: str, version: int) -> Pod:
    return Pod(metadata=Meta(name=name, namespace="default", uid=uid, resource_version=str(version)))


@dataclass
class History:
    """A Source. script: what happens between two of its answers: changes, and faults that the next answer meets. page: objects of a list's.

    live: what is there now, by name. made, ended: uids, ever."""

    script: Iterator[Callable[["History"], None]]
    page: int = 2
    version: int = 1
    forgotten: int = 0
    live: dict[str, Pod] = field(default_factory=dict)
    events: list[tuple[int, WatchEvent[Any]]] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=dict)
    faults: list[Exception] = field(default_factory=list)
    snapshots: dict[int, list[Pod]] = field(default_factory=dict)
    lists: int = 0

    # --- what a script does ---

    def create(self, name: str) -> None:
        """A new one, unless one of the name is there."""
        if name not in self.live:
            self.version += 1
            uid = f"{name}-{self.version}"
            self.made[uid] = self.version
            self._changed("ADDED", pod(name, uid, self.version))

    def modify(self, name: str) -> None:
        if name in self.live:
            self.version += 1
            self._changed("MODIFIED", pod(name, self.live[name].uid, self.version))

    def delete(self, name: str) -> None:
        if name in self.live:
            self.version += 1
            self._changed("DELETED", pod(name, self.live[name].uid, self.version))

    def replace(self, name: str) -> None:
        """Another one of the same name."""
        self.delete(name)
        self.create(name)

    def bookmark(self) -> None:
        self.events.append((self.version, WatchEvent("BOOKMARK", Pod(metadata=Meta(resource_version=str(self.version))))))

    def forget(self) -> None:
        """As etcd does when it compacts: pages and versions from before are unknown."""
        self.forgotten = self.version
        self.snapshots.clear()
        self.events.clear()

    def fail(self, error: Exception) -> None:
        self.faults.append(error)

    def _changed(self, kind: str, found: Pod) -> None:
        if kind == "DELETED":
            del self.live[found.name]
        else:
            self.live[found.name] = found
        self.events.append((self.version, WatchEvent(kind, found)))

    # --- what a Reflector asks ---

    def _goes_on(self) -> None:
        """The next thing of the script happens."""
        if (happens := next(self.script, None)) is not None:
            happens(self)
        if self.faults:
            raise self.faults.pop()

    async def list_page(self, kind: Kind[Any], *, more: str = "") -> Listed[Any]:
        self._goes_on()
        if not more:
            self.lists += 1
            self.snapshots[self.version] = sorted(self.live.values(), key=lambda each: each.name)
            more = f"{self.version}/0"
        version, _, start = more.partition("/")
        if int(version) not in self.snapshots:
            raise Expired
        items = self.snapshots[int(version)]
        end = int(start) + self.page
        return Listed(items[int(start) : end], version, f"{version}/{end}" if end < len(items) else "")

    @asynccontextmanager
    async def watch(self, kind: Kind[Any], version: str, *, seconds: int, silence: float) -> AsyncIterator[AsyncIterator[WatchEvent[Any]]]:
        self._goes_on()
        yield self._from(int(version))

    async def _from(self, version: int) -> AsyncIterator[WatchEvent[View]]:
        """A server that forgot the version says so inside the stream."""
        if version < self.forgotten:
            raise Expired
        sent = version
        while True:
            due = next((each for each in self.events if each[0] > sent), None)
            if due is None:
                return
            sent = due[0]
            yield due[1]
            self._goes_on()
            if sent < self.forgotten:
                raise Expired
