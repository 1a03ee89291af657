"""Nodes of the API: what happens to them is told once, and a deleted one alone is only suspect."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fabricmgr.domain.kube_node import Agent, Memory, Rules, Seen, look

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GRACE = timedelta(minutes=15)
READY = Seen("u1", ready=True)
UNREADY = Seen("u1", ready=False, reason="kubelet stopped posting node status")
Step = tuple[float, Seen | None, float | None]


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def run(
    steps: Iterable[Step], memory: Memory | None = None, *, grace: timedelta | None = GRACE, began: float = 0, given_up: bool = False
) -> tuple[list[str], Memory | None]:
    """steps: minutes since the start, what is seen, and when the agent was last heard; None: it has none."""
    told: list[str] = []
    for minutes, seen, heard in steps:
        agent = None if heard is None else Agent("w1", at(heard), given_up)
        for _ in range(2):  # seen twice, each time after a restart
            found = look("lab", "w1", memory, seen, agent, Rules(at(minutes), at(began), grace))
            told += [event.what.removeprefix("KubeNode") for event in found.events]
            memory = None if found.memory is None else Memory.from_json(found.memory.to_json())
    return told, memory


def test_a_node_joins_is_suspect_and_returns_once_each() -> None:
    steps: list[Step] = [(0, UNREADY, 0), (1, READY, 1), (2, UNREADY, 2), (3, UNREADY, 2), (4, READY, 4)]

    assert run(steps)[0] == ["Joined", "Suspect", "Returned"]


def test_a_moment_without_readiness_is_no_news() -> None:
    assert run([(0, READY, 0), (1, UNREADY, 1), (1.1, READY, 1), (2, UNREADY, 2), (2.1, READY, 2)])[0] == ["Joined"]


def test_a_deleted_node_whose_agent_still_speaks_is_only_suspect() -> None:
    told, memory = run([(0, READY, 0), (1, None, 1), (20, None, 20), (60, None, 60)])

    assert told == ["Joined", "Suspect"]
    assert run([(61, replace(READY, uid="u2"), 61)], memory)[0] == ["Returned"]


def test_a_deleted_node_with_a_silent_agent_is_gone_after_the_grace_period() -> None:
    assert run([(0, READY, 0), (1, None, 1), (10, None, 9), (23, None, 9), (24, None, 9)])[0] == ["Joined", "Suspect", "Gone"]


def test_silence_counts_from_when_somebody_listened() -> None:
    """A manager that was down heard nobody."""
    memory = run([(0, READY, 0), (1, None, 1)])[1]

    assert run([(60, None, 1), (70, None, 1)], memory, began=60)[0] == []
    assert run([(75, None, 1)], memory, began=60)[0] == ["Gone"]


def test_never_is_never_unless_somebody_gives_the_node_up() -> None:
    memory = run([(0, READY, 0), (1, None, 1)], grace=None)[1]

    assert run([(100000, None, 1)], memory, grace=None)[0] == []
    assert run([(100001, None, 1)], memory, grace=None, given_up=True)[0] == ["Gone"]


def test_a_node_without_an_agent_is_gone_after_the_grace_period_too() -> None:
    found = look("lab", "w1", Memory("u1", was_ready=True, suspect=True, deleted_at=START), None, None, Rules(at(16), START, GRACE))

    assert [event.what for event in found.events] == ["KubeNodeGone"]
    assert not found.gone


def test_what_was_there_before_anybody_looked_is_no_news_but_what_is_wrong_is() -> None:
    first = look("lab", "w1", None, UNREADY, None, Rules(START, START, GRACE, baseline=True))
    later = look("lab", "w1", first.memory, UNREADY, None, Rules(at(1), START, GRACE))

    assert first.events == []
    assert [event.what for event in later.events] == ["KubeNodeSuspect"]
