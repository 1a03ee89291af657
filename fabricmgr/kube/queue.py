"""Work by key, level-triggered: a key says that something is to be looked at, not what happened to it.

However often a key is added while it waits, it is worked on once; one that is added while it is worked on comes again afterwards. A key is
never worked on twice at a time. Failures of a key wait longer and longer without holding up the others.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Generic, TypeVar

from fabricmgr.domain.errors import ApiTooMany, FabricError
from fabricmgr.loop import Outcome, State, attempt
from fabricmgr.metrics import LOOP_RUNS, LOOP_SECONDS
from fabricmgr.problems import sentence

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_PAUSE = 0.2  # seconds after a key's first failure
LONGEST_PAUSE = 60.0
RESYNC = 600.0  # seconds between two looks at everything


class Queue(Generic[K]):
    """reconcile: works on one key and says what came of it; what it raises of FabricError is a failure to be tried again.
    keys: all that there are, for the resync. blocked: what stands in the way of a key, in a sentence."""

    def __init__(
        self,
        name: str,
        reconcile: Callable[[K], Awaitable[Outcome]],
        *,
        chance: Callable[[], float],
        workers: int = 4,
        keys: Callable[[], Iterable[K]] = tuple,
        resync: float = RESYNC,
    ):
        self.name = name
        self._reconcile = reconcile
        self._chance = chance
        self._workers = workers
        self._keys = keys
        self._resync = resync
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._busy: set[K] = set()
        self._again: set[K] = set()
        self._alarms: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self.blocked: dict[K, str] = {}

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._waiting)

    def add(self, key: K) -> None:
        """Look at it now, or right after the look that runs."""
        if alarm := self._alarms.pop(key, None):
            alarm.cancel()
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_within(self, key: K, seconds: float) -> None:
        """Look at it so many seconds from now, unless it is added before."""
        if key not in self._waiting and key not in self._alarms:
            self._alarms[key] = asyncio.get_running_loop().call_later(seconds, self.add, key)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look_at_all(), name=f"{self.name} resync")
                for number in range(self._workers):
                    group.create_task(self._work(), name=f"{self.name} {number}")
        finally:
            for alarm in self._alarms.values():
                alarm.cancel()
            self._alarms.clear()

    async def _look_at_all(self) -> None:
        while True:
            await asyncio.sleep(self._resync * (0.9 + self._chance() / 5))
            for key in self._keys():
                self.add(key)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._busy.add(key)
            try:
                await self.step(key)
            finally:
                self._busy.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    async def step(self, key: K) -> Outcome:
        """One look at a key."""
        with LOOP_SECONDS.labels(self.name).time():
            outcome = await self._guarded(key)
        LOOP_RUNS.labels(self.name, outcome.state.value).inc()
        self._remember(key, outcome)
        if outcome.after is not None:
            self._later(key, outcome.after)
        return outcome

    async def _guarded(self, key: K) -> Outcome:
        outcome = await attempt(self.name, lambda: self._told(key))
        if outcome.state is State.FAILED:
            return Outcome(State.FAILED, outcome.sentence, self._backoff(key))
        self._failures.pop(key, None)
        return outcome

    async def _told(self, key: K) -> Outcome:
        try:
            return await self._reconcile(key)
        except ApiTooMany as busy:
            return Outcome.again(busy.retry_after * (1 + self._chance() / 5), sentence(busy))
        except FabricError as error:
            return Outcome(State.FAILED, sentence(error))

    def _later(self, key: K, seconds: float) -> None:
        """After a look: one that was asked for meanwhile comes first."""
        if key not in self._again:
            self.add_within(key, seconds)

    def _backoff(self, key: K) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
        return pause * (0.5 + self._chance() / 2)

    def _remember(self, key: K, outcome: Outcome) -> None:
        """What stands in the way of a key, said once as long as it stays the same."""
        if outcome.state is State.DONE:
            self.blocked.pop(key, None)
            return
        if self.blocked.get(key) != outcome.sentence:
            log.info("queue", extra={"queue": self.name, "key": str(key), "state": outcome.state.value, "outcome": outcome.sentence})
        self.blocked[key] = outcome.sentence
