"""Chooses, for each address of a Service, the node that announces it: looks when something changed and when a silence would count."""

import time
from collections.abc import Callable

from fabricmgr.loop import Loop, Outcome
from fabricmgr.services import elections
from fabricmgr.store.leadership import Leading
from fabricmgr.store.tx import Database
from fabricmgr.store.wake import VOICE_CHANNEL


class Announcers:
    """A duty of the leader. label: whether the label that excludes nodes from load balancers counts."""

    name = "announcers"

    def __init__(self, database: Database, leading: Leading, label: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._leading = leading
        self._label = label
        self._clock = clock
        self._began = clock()
        self._loop = Loop(self.name, self.look, elections.PERIOD)

    async def run(self) -> None:
        """Until cancelled."""
        self._began = self._clock()
        await self._leading.listen(VOICE_CHANNEL, self._loop.wake)
        await self._loop.run()

    async def look(self) -> Outcome:
        """One pass."""
        looked = await elections.look(self._database, self._clock() - self._began, self._label)
        return Outcome.again(looked.due, f"{looked.spoken} of {looked.addresses} addresses are announced")
