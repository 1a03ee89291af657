"""Streams of events: server-sent events (WHATWG HTML, section 9.2; DSP0266, 8.3), each with a subscription of its own while it is open.

One task of a process reads what happened and wakes all its streams; one look a second finds those whose subscription was deleted."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from fabricmgr.domain.errors import DatabaseUnavailable
from fabricmgr.loop import Loop, Outcome
from fabricmgr.redfish.feed import Feed, Happened
from fabricmgr.redfish.messages import Message, lost, payload
from fabricmgr.store import subscription_rows
from fabricmgr.store.listen import Listener
from fabricmgr.store.tx import Database, Tx
from fabricmgr.store.wake import EVENT_CHANNEL
from fabricmgr.web.responses import encode

PING = 5.0  # seconds between comments: clients take silence for a dead stream
LOOK = 1.0  # seconds between looks whether streams are wanted still
TOUCH = timedelta(seconds=20)  # how often an open stream says so
UNSEEN = timedelta(seconds=60)  # a stream that did not say so for this long has ended
AT_ONCE = 100  # positions in one write

Wants = Callable[[Message], bool]


@dataclass
class _Open:
    id: UUID
    wants: Wants
    context: str
    position: int
    ended: bool = False


@dataclass
class Streams:
    """All streams of one process. listener: of EVENT_CHANNEL. stopping: set when the process is to end."""

    database: Database
    feed: Feed
    listener: Listener
    stopping: asyncio.Event
    clock: Callable[[], datetime]
    _open: dict[UUID, _Open] = field(default_factory=dict)
    _closed: set[UUID] = field(default_factory=set)
    _news: "asyncio.Future[None] | None" = None
    _touched: datetime | None = None

    def __len__(self) -> int:
        return len(self._open)

    async def run(self) -> None:
        """Until cancelled; then no subscription of a closed stream is left."""
        loops = [Loop("streams", self._follow, 0.0), Loop("open streams", self.look, LOOK)]
        try:
            async with asyncio.TaskGroup() as group:
                for loop in loops:
                    group.create_task(loop.run())
                group.create_task(self._end())
        finally:
            await self.close()

    async def follow(self, id_: UUID, wants: Wants, context: str, position: int, gone: "asyncio.Future[None]") -> AsyncGenerator[bytes]:
        """What a stream says from behind a position on, until it is deleted, `gone` is done, or the process is to end."""
        stream = self._open[id_] = _Open(id_, wants, context, position)
        try:
            yield b": this is a stream of events\n\n"
            await self.feed.refresh()
            while not (stream.ended or gone.done() or self.stopping.is_set()):
                news = self._future()
                found = await self.feed.after(stream.position, AT_ONCE)
                if found:
                    text = said(found, stream.position, wants, context)
                    stream.position = found[-1].position
                    if text:
                        yield text
                    continue
                done, _ = await asyncio.wait([news, gone], timeout=PING, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    yield b": ping\n\n"
        finally:
            del self._open[id_]
            self._closed.add(id_)

    async def look(self) -> Outcome:
        """One pass: forget subscriptions of streams that closed, say that the others are open, end those that were deleted."""
        closed, open_ = set(self._closed), set(self._open)
        if not closed and not open_:
            return Outcome.done("no stream is open")
        now = self.clock()
        touches = self._touched is None or now - self._touched >= TOUCH

        async def use(tx: Tx) -> set[UUID]:
            if closed:
                await subscription_rows.remove(tx, closed)
            if not (await subscription_rows.settings(tx)).enabled:
                return set()
            return await (subscription_rows.touch(tx, open_, now) if touches else subscription_rows.known(tx, open_))

        kept = await self.database.run(use)
        if touches:
            self._touched = now
        self._closed -= closed
        for each in open_ - kept:
            if each in self._open:
                self._open[each].ended = True
        if open_ - kept:
            self._wake()
        return Outcome.done("streams are looked after")

    async def close(self) -> None:
        """After the last answer."""
        if self._closed:
            with contextlib.suppress(DatabaseUnavailable):
                await self.look()

    async def _follow(self) -> Outcome:
        """Wait for news, take them in, wake everybody. Without a stream nothing is read."""
        ticket = self.listener.ticket(EVENT_CHANNEL)
        if self._open and await self._has_news():
            self._wake()
        await self.listener.wait(ticket, PING)
        return Outcome.done("streams are told what happens")

    async def _has_news(self) -> bool:
        before = self.feed.newest
        return await self.feed.refresh() != before

    async def _end(self) -> None:
        await self.stopping.wait()
        self._wake()

    def _future(self) -> "asyncio.Future[None]":
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def said(found: Sequence[Happened], position: int, wants: Wants, context: str) -> bytes:
    """Positions as events of the stream, each with its own id, so that a client resumes behind it."""
    pieces = []
    if found[0].position > position + 1:
        gap = lost(found[0].position - 1, found[0].at)
        pieces.append(_event(found[0].position - 1, context, [gap]))
    for each in found:
        wanted = [message for message in each.messages if wants(message)]
        if wanted:
            pieces.append(_event(each.position, context, wanted))
    return b"".join(pieces)


def _event(position: int, context: str, messages: list[Message]) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (position, encode(payload(str(position), context, messages)))
