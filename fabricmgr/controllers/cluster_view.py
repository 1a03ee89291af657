"""What a part of following a cluster gets: the cluster, a client, a copy of each kind, and a word on whether the copies are whole."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol, TypeVar, cast

from fabricmgr.domain.errors import ApiRefused
from fabricmgr.kube.client import Client
from fabricmgr.kube.kube_events import KubeEvents
from fabricmgr.kube.objects import Kind, View
from fabricmgr.kube.reflector import Change, Reflector
from fabricmgr.store.api_rows import ApiRow
from fabricmgr.store.tx import Database

V = TypeVar("V", bound=View)

INSTANCE = "manager"  # of whoever says a KubeEvent
REFUSAL = 0.1  # seconds between looks whether a list is refused rather than under way


@dataclass(frozen=True)
class ClusterView:
    """One reign's view of a cluster. first: nobody ever followed it before, so that what is there is no news.

    began: when this reign began to listen; what it did not hear before then says nothing. settled: set once what was found at first was
    taken in. notes: what people should know, by part, though the cluster is followed."""

    api: ApiRow
    client: Client
    database: Database
    reflectors: Mapping[str, Reflector[Any]]
    clock: Callable[[], datetime]
    chance: Callable[[], float]
    began: datetime
    first: bool
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    notes: dict[str, str] = field(default_factory=dict)

    @cached_property
    def events(self) -> KubeEvents:
        """What `kubectl describe` shows of ours: counted over all parts."""
        return KubeEvents(self.client, INSTANCE, self.clock)

    @property
    def cluster_id(self) -> int:
        return self.api.cluster_id

    @property
    def cluster(self) -> str:
        return str(self.api.cluster)

    def copy(self, kind: Kind[V]) -> Reflector[V]:
        """Its `store` by uid, and `find` by name and namespace."""
        return cast(Reflector[V], self.reflectors[kind.name])

    def synced(self, *kinds: Kind[Any]) -> bool:
        """Whether the copies of these kinds have been whole once: until then, what is absent in them may be there all the same."""
        return all(self.reflectors[kind.name].synced.is_set() for kind in kinds)

    async def until_synced(self, *kinds: Kind[Any]) -> None:
        """For as long as it takes. Where we have no right to a kind this waits until somebody gives it."""
        for kind in kinds:
            await self.reflectors[kind.name].synced.wait()

    async def until_known(self, *kinds: Kind[Any]) -> None:
        """The same, but kinds that we have no right to are passed over: of what they hold nothing can be said."""
        for kind in kinds:
            found = self.reflectors[kind.name]
            while not isinstance(found.error, ApiRefused):
                try:
                    async with asyncio.timeout(REFUSAL):
                        await found.synced.wait()
                except TimeoutError:
                    continue
                break


class Part(Protocol):
    """One job done for a cluster. kinds: what it must be told changes of."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> Sequence[Kind[Any]]: ...

    def changed(self, kind: Kind[Any], change: Change[Any]) -> None:
        """After the copy has it. It must not wait and must not raise: it notes a key, and `run` does the work."""

    async def run(self) -> None:
        """Until cancelled. It waits by itself for the kinds it cannot do without."""


Parts = Callable[[ClusterView], Sequence[Part]]
