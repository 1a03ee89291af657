"""How a loop runs: it does a pass, says in a sentence what came of it, and waits for its period, a wake-up, or its back-off."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from fabricmgr.domain.errors import FabricError
from fabricmgr.metrics import LOOP_RUNS, LOOP_SECONDS

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0


class State(Enum):
    DONE = "done"
    AGAIN = "again"
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What a pass came to. after: seconds until the next pass; None: the loop's own period."""

    state: State
    sentence: str
    after: float | None = None

    @classmethod
    def done(cls, sentence: str) -> "Outcome":
        return cls(State.DONE, sentence)

    @classmethod
    def again(cls, after: float, sentence: str) -> "Outcome":
        return cls(State.AGAIN, sentence, after)

    @classmethod
    def blocked(cls, sentence: str) -> "Outcome":
        return cls(State.BLOCKED, sentence)


async def attempt(name: str, once: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """One pass of something that must outlive what it meets. FabricError is for the caller, who knows what it means; the rest is logged."""
    try:
        return await once()
    except FabricError:
        raise
    except Exception as error:
        log.exception("loop failed", extra={"loop": name})
        return Outcome(State.FAILED, f"{type(error).__name__}: {error}")


class Loop:
    """Runs `once` for ever. A pass that raises is logged and tried again with growing pauses; `wake` starts the next pass at once."""

    def __init__(self, name: str, once: Callable[[], Awaitable[Outcome]], period: float, chance: Callable[[], float] = random.random):
        self.name = name
        self.last = Outcome.done("not yet run")
        self._once = once
        self._period = period
        self._chance = chance
        self._woken = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._failures = 0

    def wake(self) -> None:
        """Do a pass now, or right after the one that runs."""
        self._woken.set()

    def wake_within(self, seconds: float) -> None:
        """Do a pass so many seconds from now: it is for all that happens until then."""
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.wake()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._woken.clear()
            pause = await self.step()
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def step(self) -> float:
        """One pass. Gives back the seconds to wait for the next."""
        with LOOP_SECONDS.labels(self.name).time():
            outcome = await self._guarded()
        LOOP_RUNS.labels(self.name, outcome.state.value).inc()
        if (outcome.state, outcome.sentence) != (self.last.state, self.last.sentence):
            log.info("loop", extra={"loop": self.name, "state": outcome.state.value, "outcome": outcome.sentence})
        self.last = outcome
        return self._period if outcome.after is None else outcome.after

    async def _guarded(self) -> Outcome:
        try:
            outcome = await self._once()
        except Exception as error:  # a loop outlives whatever one pass meets
            self._failures += 1
            log.exception("loop failed", extra={"loop": self.name})
            return Outcome(State.FAILED, f"{type(error).__name__}: {error}", self._backoff())
        self._failures = 0
        return outcome

    def _backoff(self) -> float:
        pause = min(LONGEST_PAUSE, float(2 ** min(self._failures, 6)) / 2)
        return pause * (0.5 + self._chance() / 2)
