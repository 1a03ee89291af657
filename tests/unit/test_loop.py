"""A loop: that it ends when it is told to."""

import asyncio

import pytest

from fabricmgr.loop import Loop, Outcome


@pytest.mark.parametrize("turns", range(4))
async def test_a_loop_that_is_woken_shortly_before_its_cancellation_ends(turns: int) -> None:
    async def once() -> Outcome:
        return Outcome.done("ok")

    loop = Loop("test", once, 60.0)
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(0)

    loop.wake()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    _, unfinished = await asyncio.wait([running], timeout=1)

    assert not unfinished
