"""Services that go over to another address, or want none any more: they wait until nodes have spoken or fallen silent, all in one look."""

from collections.abc import Callable

from fabricmgr.controllers.cluster_view import ClusterView
from fabricmgr.controllers.waiting import Key
from fabricmgr.loop import Loop, Outcome
from fabricmgr.services import service_leaving

AGAIN = 0.1  # seconds between looks
RESYNC = 60.0  # between looks at nothing


class Leavers:
    """again: one of them need not wait any more."""

    def __init__(self, view: ClusterView, again: Callable[[Key], None]) -> None:
        self._view = view
        self._again = again
        self._keys: set[Key] = set()
        self._loop = Loop(f"leaving Services of {view.cluster}", self.look, RESYNC, view.chance)

    async def run(self) -> None:
        """Until cancelled."""
        await self._loop.run()

    def wait(self, key: Key, sentence: str) -> Outcome:
        """Of a look at a Service that found it waiting."""
        self._keys.add(key)
        self._loop.wake_within(AGAIN)
        return Outcome.blocked(sentence)

    async def look(self) -> Outcome:
        """One look at all of them."""
        if not self._keys:
            return Outcome.done("no Service lets go of an address")
        async with self._view.database.look() as tx:
            going = await service_leaving.going(tx, self._view.cluster_id, self._view.clock())
        for key in sorted(each for each in self._keys if going.get(each, True)):
            self._keys.discard(key)
            self._again(key)
        return Outcome.again(AGAIN, "Services let go of addresses")
