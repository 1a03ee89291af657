"""Transitions of workloads: each told once, from counts before conditions."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fabricmgr.domain.events import DomainEvent
from fabricmgr.domain.workload import GATHER, SETTLE, Memory, Obstacle, Place, Seen, look, obstacles, obstacles_of

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLACE = Place("default", "Deployment", "shop", "web")
WHOLE = Seen(uid="u1", current=True, revision="1", wanted=3, updated=3, available=3)
NEW = replace(WHOLE, updated=0, available=0)
CPU = Obstacle("cpu", "Insufficient cpu")


def run(steps: Iterable[tuple[float, Seen]], memory: Memory | None = None, *, again: bool = False) -> tuple[list[str], Memory | None]:
    """Names of what is told. steps: seconds since the start, and what is seen. again: each is seen thrice, after a restart each."""
    told: list[DomainEvent] = []
    for seconds, seen in steps:
        for _ in range(3 if again else 1):
            found = look(PLACE, memory, seen, START + timedelta(seconds=seconds))
            told += found.events
            memory = Memory.from_json(found.memory.to_json()) if again else found.memory
    return [event.what.removeprefix("Workload") for event in told], memory


def settled() -> Memory:
    """Of a finished rollout."""
    memory = run([(0, NEW), (5, WHOLE)])[1]
    assert memory is not None
    return memory


ROLLED_OUT = [(0, NEW), (1, replace(NEW, updated=3)), (4, replace(WHOLE, available=2)), (5, WHOLE), (9, WHOLE)]


def test_a_new_workload_progresses_is_available_and_complete_once_each() -> None:
    told, _ = run(ROLLED_OUT)

    assert told == ["Progressing", "Available", "Complete"]


def test_a_workload_that_was_complete_when_it_was_seen_first_is_told_in_the_same_order() -> None:
    assert run([(0, WHOLE)])[0] == ["Progressing", "Available", "Complete"]


def test_scaling_to_nothing_and_back_is_no_alarm() -> None:
    """F054 (a)."""
    none = replace(WHOLE, wanted=0, updated=0, available=0)
    back = replace(WHOLE, updated=3, available=0)

    told, _ = run([(10, none), (500, none), (600, back), (603, replace(back, available=2)), (606, WHOLE), (900, WHOLE)], settled())

    assert told == ["Available"]


def test_a_paused_workload_with_a_waiting_change_is_only_paused() -> None:
    """F054 (b): past its deadline, the counts say that nothing is updated."""
    paused = replace(WHOLE, paused=True, updated=0, old=3, exceeded=True)

    told, memory = run([(10, paused), (700, paused), (5000, paused)], settled())

    assert told == ["Paused"]
    assert run([(5001, replace(WHOLE, revision="2", updated=1, old=3)), (5010, replace(WHOLE, revision="2"))], memory)[0] == [
        "Progressing",
        "Complete",
    ]


def test_a_finished_rollout_that_loses_pods_is_degraded_until_it_is_mended() -> None:
    """F054 (c): Progressing stays True; the count tells."""
    short = replace(WHOLE, available=1)

    told, _ = run([(10, short), (20, short), (10 + SETTLE.total_seconds(), short), (1200, short), (1210, WHOLE), (1300, WHOLE)], settled())

    assert told == ["Degraded", "Available"]


def test_a_workload_made_with_no_replicas_and_a_broken_image_is_degraded_once_scaled_up() -> None:
    """F054 (d): its rollout counts as complete before it has a pod."""
    empty = Seen(uid="u1", current=True, revision="1", wanted=0, updated=0, available=0)
    broken = replace(empty, wanted=1, updated=1)

    told, _ = run([(0, empty), (60, broken), (80, broken), (91, broken), (600, broken), (700, replace(broken, available=1))])

    assert told == ["Degraded", "Available"]


def test_a_short_absence_is_no_news() -> None:
    told, _ = run([(10, replace(WHOLE, available=2)), (25, WHOLE), (30, replace(WHOLE, available=2)), (55, WHOLE)], settled())

    assert told == []


def test_a_rollout_may_be_short_of_what_its_author_allows() -> None:
    """F054: maxUnavailable."""
    rolling = replace(WHOLE, revision="2", updated=1, old=2, available=2, spare=1)

    told, memory = run([(10, rolling), (200, rolling)], settled())

    assert told == ["Progressing"]
    assert run([(210, replace(rolling, available=1)), (250, replace(rolling, available=1))], memory)[0] == ["Degraded"]


def test_a_status_about_an_older_specification_states_nothing() -> None:
    """F054: observedGeneration behind generation."""
    behind = replace(WHOLE, current=False, wanted=9, available=0, updated=0)

    assert run([(10, behind), (500, behind)], settled())[0] == []


def test_a_rollout_past_its_deadline_is_stalled_once_and_complete_when_it_ends() -> None:
    stuck = replace(WHOLE, revision="2", updated=1, old=3, exceeded=True)
    rolling = replace(stuck, exceeded=False)

    told, _ = run(
        [(10, rolling), (610, stuck), (700, stuck), (710, rolling), (1310, stuck), (1320, replace(WHOLE, revision="2"))], settled()
    )

    assert told == ["Progressing", "Stalled", "Progressing", "Stalled", "Complete"]


def test_a_first_rollout_that_never_works_is_stalled_and_degraded() -> None:
    stuck = replace(NEW, updated=3)

    told, _ = run([(0, stuck), (300, stuck), (600, replace(stuck, exceeded=True)), (900, replace(stuck, exceeded=True))])

    assert told == ["Progressing", "Stalled", "Degraded"]


def test_replicas_that_cannot_be_made_are_told_at_once_with_the_reason() -> None:
    failing = replace(WHOLE, wanted=5, updated=3, failure="exceeded quota")

    found = look(PLACE, settled(), failing, START)

    assert [vars(event)["reason"] for event in found.events] == ["exceeded quota"]


def test_what_was_there_before_anybody_looked_is_no_news_but_what_is_wrong_with_it_is() -> None:
    quiet = look(PLACE, None, WHOLE, START, baseline=True)
    short = look(PLACE, None, replace(WHOLE, available=1), START, baseline=True)

    assert (quiet.events, quiet.again) == ([], None)
    assert (short.events, short.again) == ([], START + SETTLE)
    assert [event.what for event in look(PLACE, short.memory, replace(WHOLE, available=1), START + SETTLE).events] == ["WorkloadDegraded"]


def test_a_namesake_is_another_workload_and_the_end_of_the_first_is_told() -> None:
    assert run([(10, replace(WHOLE, uid="u2"))], settled())[0] == ["Deleted", "Progressing", "Available", "Complete"]


def test_pods_without_a_node_are_told_once_for_a_workload_and_reason() -> None:
    waits = replace(WHOLE, wanted=40, updated=40, available=3, obstacles={CPU: 37})
    gather = GATHER.total_seconds()

    first = look(PLACE, settled(), replace(waits, obstacles={CPU: 1}), START)
    told, memory = run([(gather, waits), (9, waits), (12, replace(waits, obstacles={})), (15, waits)], first.memory)

    assert (first.events, first.again) == ([], START + GATHER)
    assert told == ["Unschedulable"]
    assert "Unschedulable" in run([(100, replace(waits, obstacles={})), (200, waits), (210, waits)], memory)[0]


@pytest.mark.parametrize(
    "steps",
    [
        ROLLED_OUT,
        [(0, NEW), (5, WHOLE), (10, replace(WHOLE, available=0)), (41, replace(WHOLE, available=0)), (50, WHOLE)],
        [(0, replace(NEW, paused=True, revision="")), (9, NEW), (10, replace(WHOLE, obstacles={CPU: 2})), (20, WHOLE)],
    ],
)
def test_what_is_seen_twice_and_after_restarts_is_told_once(steps: list[tuple[float, Seen]]) -> None:
    assert run(steps, again=True)[0] == run(steps)[0]


@pytest.mark.parametrize(
    ("message", "resources"),
    [
        ("0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims.", ["cpu"]),
        ("0/3 nodes are available: 1 Insufficient memory, 2 Insufficient nvidia.com/gpu.", ["memory", "nvidia.com/gpu"]),
        ("0/2 nodes are available: 2 node(s) had untolerated taint {fabricmgr.io/no-addresses: }.", ["fabricmgr.io/addresses"]),
        (
            "0/2 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint(s) {node.kubernetes.io/not-ready: }. no new claims",
            ["pods"],
        ),
        ("0/2 nodes are available: 2 node(s) had untolerated taint {gpu: yes}.", ["nodes without taint gpu"]),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: x", ["nodes"]),
        ("", ["nodes"]),
    ],
)
def test_what_the_scheduler_says_names_what_is_missing(message: str, resources: list[str]) -> None:
    assert [each.resource for each in obstacles_of(message)] == resources


def test_pods_that_wait_for_the_same_are_one_number_whatever_the_number_of_nodes() -> None:
    found = obstacles(["0/2 nodes are available: 2 Insufficient cpu.", "0/3 nodes are available: 3 Insufficient cpu."])

    assert found == {CPU: 2}
