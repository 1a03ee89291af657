"""A child that keeps dying is started with growing pauses; one that lived is started at once. Real processes, a clock of our own."""

import signal
from collections.abc import Iterator

import pytest

from fabricmgr.app.child import STEADY, Child
from fabricmgr.app.messages import Configure, Order


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def child(clock: Clock) -> Iterator[Child]:
    """One whose module waits for a line and ends."""

    def orders() -> list[Order]:
        return [Configure("test", 1, [])]

    made = Child("test", "this", orders, clock)  # a module of the standard library that prints and ends
    yield made
    made.signal(signal.SIGKILL)
    while not made.ended():
        pass


def die(child: Child) -> None:
    child.start()
    while not child.dead:
        list(child.heard())
    child.bury()


def test_the_first_death_costs_no_pause_and_the_next_ones_ever_longer(child: Child, clock: Clock) -> None:
    pauses = []
    for _ in range(9):
        die(child)
        began = clock.now
        while not child.due:
            clock.now += 0.25
        pauses.append(clock.now - began)

    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_a_child_that_lived_for_long_is_started_at_once(child: Child, clock: Clock) -> None:
    for _ in range(3):
        die(child)
        clock.now += 10
    child.start()
    clock.now += STEADY
    while not child.dead:
        list(child.heard())
    child.bury()

    assert child.due


def test_what_a_library_prints_is_no_report_and_breaks_nothing(child: Child) -> None:
    child.start()
    heard = []
    while not child.dead:
        heard += list(child.heard())
    heard += list(child.heard())

    assert heard == []
    assert child.bury() == 0
    assert child.pid is None
