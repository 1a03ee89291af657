"""Whatever is seen of a workload, in whatever order and however often: each turn is told once, and after it is mended it is said to be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fabricmgr.domain.events import DomainEvent
from fabricmgr.domain.workload import SETTLE, Memory, Obstacle, Place, Rollout, Seen, look

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLACE = Place("default", "Deployment", "shop", "web")
CPU = Obstacle("cpu", "Insufficient cpu")


@st.composite
def seen(draw: st.DrawFn) -> Seen:
    wanted = draw(st.integers(0, 4))
    return Seen(
        uid=draw(st.sampled_from(["u1", "u1", "u1", "u2"])),
        current=draw(st.sampled_from([True, True, True, False])),
        revision=draw(st.sampled_from(["", "1", "2"])),
        wanted=wanted,
        updated=draw(st.integers(0, 4)),
        available=draw(st.integers(0, 4)),
        old=draw(st.integers(0, 2)),
        spare=draw(st.integers(0, wanted)),
        paused=draw(st.booleans()),
        exceeded=draw(st.booleans()),
        failure=draw(st.sampled_from(["", "", "exceeded quota"])),
        obstacles=draw(st.sampled_from([{}, {CPU: 2}])),
    )


STEPS = st.lists(st.tuples(seen(), st.integers(0, 90)), max_size=25)


def walk(steps: list[tuple[Seen, int]], times: int) -> tuple[list[DomainEvent], Memory | None, datetime]:
    """Each step seen so many times, each time after a restart."""
    told: list[DomainEvent] = []
    memory, now = None, START
    for each, seconds in steps:
        now += timedelta(seconds=seconds)
        for _ in range(times):
            found = look(PLACE, memory, each, now)
            told += found.events
            memory = Memory.from_json(found.memory.to_json())
    return told, memory, now


def whats(told: list[DomainEvent]) -> list[str]:
    return [event.what for event in told]


@given(STEPS)
def test_seeing_the_same_again_tells_nothing(steps: list[tuple[Seen, int]]) -> None:
    memory, now = None, START
    for each, seconds in steps:
        now += timedelta(seconds=seconds)
        memory = look(PLACE, memory, each, now).memory
        again = look(PLACE, Memory.from_json(memory.to_json()), each, now)
        assert again.events == []
        assert again.memory == memory


@given(STEPS)
def test_degraded_and_available_take_turns(steps: list[tuple[Seen, int]]) -> None:
    """Of one workload that is never without replicas: no second alarm before the first one ended."""
    steady = [(replace(each, uid="u1", wanted=max(1, each.wanted)), seconds) for each, seconds in steps]
    told = [what for what in whats(walk(steady, 1)[0]) if what in ("WorkloadDegraded", "WorkloadAvailable")]

    assert all(one != other for one, other in pairwise(told))


@given(STEPS)
def test_what_is_well_at_last_is_remembered_as_well(steps: list[tuple[Seen, int]]) -> None:
    _, memory, now = walk(steps, 1)
    well = Seen(uid="u1", current=True, revision="9", wanted=3, updated=3, available=3)

    found = look(PLACE, memory, well, now + SETTLE * 2)

    assert whats([*found.events])[-1] == "WorkloadComplete"
    assert (found.memory.available, found.memory.rollout, found.memory.short_since) == (True, Rollout.COMPLETE, None)
    assert found.memory.met == {}
    assert found.again is None
