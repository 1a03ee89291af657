"""Gives events their positions, woken by whoever wrote one."""

import asyncio

from fabricmgr.loop import Loop, Outcome
from fabricmgr.metrics import EVENTS_POSITIONED
from fabricmgr.store.leadership import Leading
from fabricmgr.store.positions import move
from fabricmgr.store.wake import OUTBOX_CHANNEL

PERIOD = 1.0  # seconds; also how soon a leader whose session is silent finds out that it leads no more


def positioning(leading: Leading) -> Loop:
    """The loop of one reign."""
    listening = False

    async def once() -> Outcome:
        nonlocal listening
        if not listening:
            await leading.listen(OUTBOX_CHANNEL, loop.wake)
            listening = True
        moved = await move(leading)
        EVENTS_POSITIONED.inc(moved.count)
        while moved.more:
            await asyncio.sleep(0)
            moved = await move(leading)
            EVENTS_POSITIONED.inc(moved.count)
        # No number in the sentence: a loop's outcome is logged when it changes, and this one runs at every change of anything.
        return Outcome.done("every event has its position")

    loop = Loop("outbox", once, PERIOD)
    return loop
