"""Events as messages, read and put into words once for all who follow in one process."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from fabricmgr.redfish.messages import Message, messages_of
from fabricmgr.services import events
from fabricmgr.store.tx import Database

KEPT = 4000  # positions held in memory, about a kilobyte each
READ = 1000  # events of one question


@dataclass(frozen=True)
class Happened:
    """One position, as it is told."""

    position: int
    at: datetime
    messages: tuple[Message, ...]


class Feed:
    """The newest events are in memory; whoever is further behind reads the log."""

    def __init__(self, database: Database, kept: int = KEPT) -> None:
        self._database = database
        self._recent: deque[Happened] = deque(maxlen=kept)
        self._turn = asyncio.Lock()

    @property
    def newest(self) -> int:
        """The newest position that was read; 0 before the first look."""
        return self._recent[-1].position if self._recent else 0

    async def refresh(self) -> int:
        """Take in what happened since the last look. Gives back the newest position. Raises DatabaseUnavailable."""
        async with self._turn:
            if not self._recent:
                await self._begin()
            while found := await self._read(self.newest, READ):
                self._recent.extend(found)
                if len(found) < READ:
                    break
                await self._skip()
        return self.newest

    async def after(self, position: int, limit: int) -> Sequence[Happened]:
        """Those behind a position, as far as `refresh` has come; the first is not the next one where the log is kept no longer."""
        if not self._recent or position >= self.newest:
            return ()
        first = self._recent[0].position
        if position >= first - 1:
            begin = position - first + 1
            return tuple(islice(self._recent, begin, begin + limit))
        return await self._read(position, min(limit, READ))

    async def _skip(self) -> None:
        """Begin anew where nobody looked for so long that memory could not hold what happened since."""
        async with self._database.read() as tx:
            newest = await events.newest(tx)
        if newest - self.newest > (self._recent.maxlen or KEPT):
            self._recent.clear()
            await self._begin()

    async def _begin(self) -> None:
        async with self._database.read() as tx:
            newest = await events.newest(tx)
        self._recent.extend(await self._read(max(newest - 1, 0), 1))

    async def _read(self, position: int, limit: int) -> list[Happened]:
        async with self._database.read() as tx:
            found = await events.after(tx, position, limit)
        return [Happened(each.position, each.at, messages_of(each)) for each in found]
