"""Who works on which attachment when."""

import asyncio

import pytest

from fabricmgr.agent.verbs import Turns

pytestmark = pytest.mark.anyio


async def test_who_works_alone_goes_on_at_once() -> None:
    turns = Turns()
    seen: list[str] = []
    asyncio.get_running_loop().call_soon(seen.append, "the loop turned")

    async with turns.of("a"):
        await turns.let_others_come()

    assert seen == []


async def test_those_who_work_at_once_go_step_by_step() -> None:
    turns = Turns()
    steps: list[str] = []

    async def work(key: str) -> None:
        async with turns.of(key):
            steps.append(f"{key} begins")
            await turns.let_others_come()
            steps.append(f"{key} ends")

    # The first finds nobody else, so a third, who only holds a turn, makes three of them.
    async with turns.of("c"):
        await asyncio.gather(work("a"), work("b"))

    assert steps == ["a begins", "b begins", "a ends", "b ends"]
