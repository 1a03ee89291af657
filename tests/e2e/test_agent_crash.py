"""The agent is killed after every journal record and every netlink datagram of ADD and DEL; then comes what containerd sends."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.support.bursts import all_at_once
from tests.support.namespaces import make_ns, node_ns, pod_ns
from tests.support.netns import Namespace
from tests.support.node_agent import Node, Process, addresses, node, wait_for

__all__ = ["make_ns", "node_ns", "pod_ns"]

MakePod = Callable[[], Namespace]


@pytest.fixture
def here(node_ns: Namespace) -> Iterator[Node]:
    with node(node_ns) as made:
        yield made


class Fused:
    """Runs the node's agent with a fuse in it."""

    def __init__(self, here: Node, kind: str):
        self.here = here
        self.file = here.directory / "fuse"
        words = here.ns.command(sys.executable, "-m", "tests.support.agent_crash", kind, str(self.file), *here.flags)
        self.process = Process(words, here.directory / "agent.log")

    def start(self) -> None:
        self.here.agent, self.plain = self.process, self.here.agent
        self.here.start_agent()
        self.here.ready()
        self.here.settled()

    def light(self, count: int) -> None:
        self.file.write_text(str(count))

    def burnt(self) -> bool:
        """Whether the agent has ended itself; if not it is ended now, and the plain one takes over either way."""
        running = self.process.running
        assert running is not None
        with suppress(subprocess.TimeoutExpired):
            running.wait(0.5)
        ended = running.poll() is not None
        self.process.kill()
        self.file.unlink()
        self.here.agent = self.plain
        return ended


def nothing_is_left(here: Node) -> None:
    """No link, no record, and the manager's copy says the same."""
    wait_for("no link is left", lambda: not here.links())
    wait_for("the journal is empty", lambda: not here.state().attachments)
    wait_for("the manager knows", lambda: not here.copy().held)


def only_is_left(here: Node, container: str) -> None:
    wait_for("one attachment is left", lambda: [key[1] for key in here.state().attachments] == [container])
    wait_for("the manager knows", lambda: set(here.copy().held) == {f"podnet/{container}/eth0"})


@pytest.mark.parametrize("kind", ["journal", "netlink"])
def test_killed_anywhere_in_add_nothing_is_lost_or_doubled(here: Node, pod_ns: MakePod, kind: str) -> None:
    for step in range(1, 40):
        pod, fused = pod_ns(), Fused(here, kind)
        fused.start()

        fused.light(step)
        printed = here.add(f"a{step}", pod)
        ended = fused.burnt()
        here.start_agent()

        if not ended:
            assert step > 2
            assert printed.exit == 0
        else:
            assert printed.exit in (0, 1)
        assert here.delete(f"a{step}", pod).exit == 0
        nothing_is_left(here)
        assert here.add(f"b{step}", pod).exit == 0
        assert pod.ping("169.254.1.1")
        assert here.delete(f"b{step}").exit == 0
        nothing_is_left(here)
        here.agent.kill()
        if not ended:
            return
    raise AssertionError("ADD never came to its end")


@pytest.mark.parametrize("kind", ["journal", "netlink"])
def test_killed_anywhere_in_a_burst_of_adds_nothing_is_lost_or_doubled(here: Node, pod_ns: MakePod, kind: str) -> None:
    for step in range(1, 40):
        pods = {f"a{step}-{number}": pod_ns() for number in range(2)}
        fused = Fused(here, kind)
        fused.start()

        fused.light(step)
        printed = all_at_once(here, [here.prepared("ADD", container, pod) for container, pod in pods.items()])
        ended = fused.burnt()
        here.start_agent()

        told = {container: addresses(each) for container, each in zip(pods, printed, strict=True) if each.exit == 0}
        assert ended or len(told) == 2
        kept = here.state().attachments
        # One that was done when it ended stays, though nobody was told: a DEL will come.
        assert {key[1] for key in kept} >= set(told)
        assert all({a.address for a in kept["podnet", each, "eth0"].place.owned.addresses} == plain(told[each]) for each in told)
        assert len(here.links()) == len(kept)
        assert all(pods[container].ping("169.254.1.1") for _, container, _ in kept)
        assert [here.delete(container, pod).exit for container, pod in pods.items()] == [0, 0]
        nothing_is_left(here)
        here.agent.kill()
        if not ended:
            assert step > 4
            return
    raise AssertionError("the burst never came to its end")


def plain(given: list[str]) -> set[str]:
    """Addresses without their lengths."""
    return {address.partition("/")[0] for address in given}


@pytest.mark.parametrize("kind", ["journal", "netlink"])
def test_killed_anywhere_in_del_the_pod_goes_all_the_same(here: Node, pod_ns: MakePod, kind: str) -> None:
    for step in range(1, 40):
        pod, other, fused = pod_ns(), pod_ns(), Fused(here, kind)
        fused.start()
        kept = addresses(here.add(f"k{step}", other))
        assert here.add(f"a{step}", pod).exit == 0
        here.settled()

        fused.light(step)
        assert here.delete(f"a{step}", pod).exit == 0
        ended = fused.burnt()
        here.start_agent()

        assert here.delete(f"a{step}").exit == 0
        wait_for("one link is left", lambda: len(here.links()) == 1)
        only_is_left(here, f"k{step}")
        assert other.ping("169.254.1.1")
        assert [f"{a.address}" for a in here.state().attachments["podnet", f"k{step}", "eth0"].place.owned.addresses] == [
            address.partition("/")[0] for address in kept
        ]
        assert here.delete(f"k{step}", other).exit == 0
        nothing_is_left(here)
        here.agent.kill()
        if not ended:
            return
    raise AssertionError("DEL never came to its end")
