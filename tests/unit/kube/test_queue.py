"""A queue of keys: each looked at by one worker, again after failures, and never forgotten."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from fabricmgr.domain.errors import ApiTooMany, ApiUnreachable
from fabricmgr.kube.queue import Queue
from fabricmgr.loop import Outcome, State

Reconcile = Callable[[str], Awaitable[Outcome]]


def queue(reconcile: Reconcile, keys: Callable[[], Iterator[str]] = lambda: iter(()), resync: float = 600.0) -> Queue[str]:
    return Queue("test", reconcile, chance=lambda: 1.0, keys=keys, resync=resync)


async def until(made: Queue[str], done: asyncio.Event) -> None:
    running = asyncio.create_task(made.run())
    await asyncio.wait_for(done.wait(), 5)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_key_added_often_is_looked_at_once() -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def look(key: str) -> Outcome:
        seen.append(key)
        if key == "last":
            done.set()
        return Outcome.done("seen")

    made = queue(look)
    for key in ("a", "a", "a", "last"):
        made.add(key)
    await until(made, done)

    assert seen == ["a", "last"]


async def test_a_key_added_while_it_is_looked_at_comes_again_and_never_twice_at_a_time() -> None:
    running, most, looks = 0, 0, 0
    done = asyncio.Event()

    async def look(key: str) -> Outcome:
        nonlocal running, most, looks
        running, looks = running + 1, looks + 1
        most = max(most, running)
        if looks == 1:
            made.add(key)
            made.add(key)
        await asyncio.sleep(0)
        running -= 1
        if looks == 2:
            done.set()
        return Outcome.done("seen")

    made = queue(look)
    made.add("a")
    await until(made, done)

    assert (looks, most) == (2, 1)


async def test_a_failing_key_waits_longer_each_time_and_holds_up_no_other() -> None:
    async def look(key: str) -> Outcome:
        if key == "bad":
            raise ApiUnreachable("https://api.test", "away")
        return Outcome.done("seen")

    made = queue(look)
    pauses = [(await made.step("bad")).after for _ in range(12)]

    assert pauses[0] == pytest.approx(0.2)
    assert pauses == sorted(pause or 0.0 for pause in pauses)
    assert pauses[-1] == 60.0
    assert "away" in made.blocked["bad"]
    assert (await made.step("good")).state is State.DONE


async def test_a_bug_in_one_look_is_a_failure_of_that_key(caplog: pytest.LogCaptureFixture) -> None:
    async def look(key: str) -> Outcome:
        raise KeyError(key)

    outcome = await queue(look).step("a")

    assert outcome.state is State.FAILED
    assert outcome.after is not None
    assert "KeyError" in outcome.sentence
    assert "loop failed" in caplog.text


async def test_a_success_forgets_the_failures_before() -> None:
    fails = True

    async def look(key: str) -> Outcome:
        if fails:
            raise ApiUnreachable("https://api.test", key)
        return Outcome.done("seen")

    made = queue(look)
    for _ in range(5):
        await made.step("a")
    fails = False
    await made.step("a")
    assert made.blocked == {}
    fails = True

    assert (await made.step("a")).after == pytest.approx(0.2)


async def test_a_busy_server_is_waited_for_as_it_says() -> None:
    async def look(key: str) -> Outcome:
        raise ApiTooMany(key, 7)

    after = (await queue(look).step("a")).after

    assert after is not None
    assert 7.0 <= after <= 8.4


async def test_all_keys_are_looked_at_again() -> None:
    done = asyncio.Event()

    async def look(key: str) -> Outcome:
        if key == "forgotten":
            done.set()
        return Outcome.done("seen")

    await until(queue(look, keys=lambda: iter(["forgotten"]), resync=0.01), done)


async def test_a_key_for_later_is_looked_at_when_its_time_has_come() -> None:
    done = asyncio.Event()

    async def look(key: str) -> Outcome:
        done.set()
        return Outcome.done(key)

    made = queue(look)
    made.add_within("a", 0.01)
    assert len(made) == 0

    await until(made, done)
