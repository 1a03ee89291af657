"""Long polls of agents for their desired state.

What a node is to announce comes by itself and at once: looks at a large cluster are spaced by seconds, and a failover has not so long.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.services.announcing import Told
from fabricmgr.services.desired import View, Views, told_version
from fabricmgr.store.listen import Listener
from fabricmgr.store.wake import ANNOUNCE_CHANNEL, OUTBOX_CHANNEL

# Wakes are gathered for so long before a node's document is made anew, so that a burst of changes costs one look.
GATHER = 0.2


@dataclass(frozen=True)
class Polls:
    """listener: of both channels. stopping: this process ends."""

    listener: Listener
    views: Views
    told: Told
    stopping: asyncio.Event

    async def wait(self, node: NodePrincipal, version: str, seconds: float) -> wire.Desired | None:
        """The node's document when it is another one than `version`; None when it is not within so many seconds, or when we stop.

        Raises NotFound, DatabaseUnavailable."""
        poll = Poll(self, node, version, asyncio.get_running_loop().time() + seconds)
        try:
            return await poll.run()
        finally:
            poll.cancel()


class Poll:
    """One of them. A look at the cluster runs beside the wait for announcements."""

    def __init__(self, polls: Polls, node: NodePrincipal, version: str, ends: float) -> None:
        self._polls, self._node, self._ends = polls, node, ends
        self._version, dot, told = version.partition(".")
        self._told = dot + told
        self._clock = asyncio.get_running_loop().time
        self._outbox = polls.listener.ticket(OUTBOX_CHANNEL)
        self._looking: asyncio.Task[View] | None = self._begin(0.0)
        self._stops = asyncio.create_task(polls.stopping.wait())

    def cancel(self) -> None:
        for task in (self._looking, self._stops):
            if task is not None:
                task.cancel()

    async def run(self) -> wire.Desired | None:
        while True:
            announced = self._polls.listener.ticket(ANNOUNCE_CHANNEL)
            found = self._found(await self._polls.told.of(self._node.node_id))
            # A thousand last looks would keep us from ending; who has no more time has had its look all the same.
            if found is not None or self._polls.stopping.is_set() or (self._looking is None and self._clock() >= self._ends):
                return found
            await self._woken(announced)

    def _found(self, told: Sequence[wire.Announce]) -> wire.Desired | None:
        """A whole look counts; one of before does where the agent has acted on it, so that nothing but announcements changes."""
        if self._looking is not None and self._looking.done():
            view: View | None = self._looking.result()
            self._looking = None
        else:
            view = self._polls.views.last(self._node.cluster)
            if view is None or view.version(self._node.node_id) != self._version:
                return None
        if view is None or (view.version(self._node.node_id) == self._version and told_version(told) == self._told):
            return None
        return view.document(self._node.node_id, told)

    def _begin(self, pause: float) -> "asyncio.Task[View]":
        task = asyncio.create_task(self._look(pause))
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())  # who asked may have gone
        return task

    async def _look(self, pause: float) -> View:
        await asyncio.sleep(pause)
        self._outbox = self._polls.listener.ticket(OUTBOX_CHANNEL)
        return await self._polls.views.get(self._node.cluster)

    async def _woken(self, announced: "asyncio.Future[None]") -> None:
        """Until something is there to look at."""
        left = self._ends - self._clock()
        waits: list[asyncio.Future[Any]] = [announced, self._stops, self._outbox if self._looking is None else self._looking]
        await asyncio.wait(waits, timeout=None if self._looking is not None else max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
        if self._looking is None and (self._outbox.done() or self._clock() >= self._ends):
            self._looking = self._begin(max(0.0, min(GATHER, self._ends - self._clock())))


async def first_of(ticket: "asyncio.Future[None]", stopping: asyncio.Event, limit: float) -> None:
    """Wait for a wake, for the end of this process, or for `limit` seconds."""
    ends = asyncio.create_task(stopping.wait())
    try:
        waits: list[asyncio.Future[Any]] = [ticket, ends]
        await asyncio.wait(waits, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ends.cancel()
