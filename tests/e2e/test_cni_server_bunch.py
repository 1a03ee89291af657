"""Callers that reach the agent's CNI edge in one moment: they connect and send before its loop turns."""

import asyncio
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from fabricmgr.agent import server
from fabricmgr.agent.frame import Frame, encode_frame, parse_answer
from fabricmgr.agent.request import CniRequest
from tests.support.edge import CONFIG, Edge
from tests.support.netns import Namespace
from tests.support.serving_edge import directory, edge, pod

__all__ = ["directory", "edge", "pod"]

pytestmark = pytest.mark.anyio

MANY = 2 * server.BUNCH + 3


@pytest.fixture
def callers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def sent(callers: ExitStack, edge: Edge, pod: Namespace, container: str, command: str = "ADD") -> socket.socket:
    """A caller that has connected and sent its whole call, and that nobody has heard yet."""
    caller = callers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
    caller.connect(str(edge.path))
    frame = encode_frame(Frame("fabricmgr-cni", command, container, pod.path, "eth0", "", "/opt", stdin=CONFIG))
    descriptor = os.open(pod.path, os.O_RDONLY)
    assert socket.send_fds(caller, [frame], [descriptor]) == len(frame)
    os.close(descriptor)
    return caller


async def exits(callers: list[socket.socket]) -> list[int]:
    """What each was answered, closing as a shim does."""
    answered = []
    for caller in callers:
        async with asyncio.timeout(10):
            data = await asyncio.get_running_loop().sock_recv(caller, 65536)
        caller.close()
        answered.append(parse_answer(data).exit)
    return answered


async def test_a_bunch_is_received_before_the_first_of_it_is_worked_on(edge: Edge, pod: Namespace, callers: ExitStack) -> None:
    names = [f"c{number}" for number in range(MANY)]
    in_hand: list[int] = []

    async def look(_: CniRequest) -> None:
        await edge.turns.let_others_come()
        in_hand.append(sum(edge.turns.busy(("podnet", name, "eth0")) for name in names))

    edge.verbs.during = look
    waiting = [sent(callers, edge, pod, name) for name in names]

    assert await exits(waiting) == [0] * MANY
    assert edge.verbs.done == [f"add {name}" for name in names]
    # The first finds nobody else at work, and goes on.
    assert in_hand[0] == 1
    assert in_hand[1] >= server.BUNCH - 1
    await edge.settle(lambda: not any(edge.turns.busy(("podnet", name, "eth0")) for name in names))


async def test_one_of_a_bunch_that_fails_is_told_alone(edge: Edge, pod: Namespace, callers: ExitStack) -> None:
    async def fail(request: CniRequest) -> None:
        if request.container in ("c2", "c5"):
            raise RuntimeError("a bug")

    edge.verbs.during = fail
    waiting = [sent(callers, edge, pod, f"c{number}") for number in range(8)]

    assert await exits(waiting) == [0, 0, 1, 0, 0, 1, 0, 0]
    assert edge.verbs.done == [f"add c{number}" for number in (0, 1, 3, 4, 6, 7)]


async def test_one_of_a_bunch_that_sends_no_call_holds_up_nobody(edge: Edge, pod: Namespace, callers: ExitStack) -> None:
    silent = callers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    silent.connect(str(edge.path))
    broken = callers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    broken.connect(str(edge.path))
    broken.send(b"\xff\xff\xff\xff")
    waiting = [sent(callers, edge, pod, f"c{number}") for number in range(4)]

    assert await exits(waiting) == [0] * 4


async def test_one_cut_off_in_the_middle_of_a_bunch_takes_nobody_along(edge: Edge, pod: Namespace, callers: ExitStack) -> None:
    """As by the agent's end: each call is a task of its own."""
    ready = asyncio.Event()

    async def wait(request: CniRequest) -> None:
        if request.container == "c1":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await ready.wait()

    edge.verbs.during = wait
    waiting = [sent(callers, edge, pod, f"c{number}") for number in range(3)]
    await edge.settle(lambda: len(edge.verbs.requests) == 3)
    ready.set()

    assert await exits([waiting[0], waiting[2]]) == [0, 0]
    assert edge.verbs.done == ["add c0", "add c2"]
    assert not edge.turns.busy(("podnet", "c1", "eth0"))


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """No more than so many can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open("/dev/null", os.O_RDONLY)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_where_descriptors_run_out_within_a_bunch_those_taken_are_served_and_the_rest_later(
    edge: Edge, pod: Namespace, callers: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = [sent(callers, edge, pod, f"c{number}", "DEL") for number in range(6)]

    with descriptors(3):
        served = await exits(waiting[:1])
    rest = await exits(waiting[1:])

    assert served + rest == [0] * 6
    assert "cannot accept a CNI call" in caplog.text
    assert sorted(edge.verbs.done) == [f"delete c{number}" for number in range(6)]


async def test_a_lull_is_when_the_calls_of_now_have_ended(edge: Edge, pod: Namespace, callers: ExitStack) -> None:
    go_on = asyncio.Event()

    async def wait(_: CniRequest) -> None:
        await go_on.wait()

    edge.verbs.during = wait
    waiting = [sent(callers, edge, pod, f"c{number}") for number in range(3)]
    await edge.settle(lambda: len(edge.verbs.requests) == 3)
    lull = asyncio.create_task(edge.server.lull(10.0))
    await asyncio.sleep(0)
    assert not lull.done()

    go_on.set()
    answered = await exits(waiting)
    await asyncio.wait_for(lull, 5)

    assert answered == [0] * 3


async def test_a_lull_is_not_waited_for_longer_than_was_said(edge: Edge, pod: Namespace, callers: ExitStack) -> None:
    go_on = asyncio.Event()

    async def wait(_: CniRequest) -> None:
        await go_on.wait()

    edge.verbs.during = wait
    waiting = [sent(callers, edge, pod, "c1")]
    await edge.settle(lambda: len(edge.verbs.requests) == 1)
    began = time.monotonic()

    await edge.server.lull(0.05)

    assert 0.04 < time.monotonic() - began < 5
    go_on.set()
    assert await exits(waiting) == [0]


async def test_where_nobody_calls_there_is_a_lull_at_once(edge: Edge) -> None:
    began = asyncio.get_running_loop().time()

    await edge.server.lull(10.0)

    assert asyncio.get_running_loop().time() - began < 5
