"""Code under test inside a network namespace of its own: in a child process, so that the machine's network is never touched.

The fixtures give a node's namespace and a maker of pods' namespaces; names carry the run's id and are removed by those names.
"""

import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar, cast

import pytest

from fabricmgr.netlink import namespace as netns
from tests.support.netns import Namespace, namespace

T = TypeVar("T")


@dataclass(frozen=True)
class Failed(Exception):
    """What the child raised that cannot travel as it is."""

    said: str


def run_in(where: Namespace, action: Callable[[], T]) -> T:
    """Run the action in a child process inside the namespace; give what it gave, or raise what it raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_the_child(where, action, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise Failed("the child ended without an answer")
    worked, value, trace = pickle.loads(answer)
    if worked:
        given: T = value
        return given
    value.add_note(trace)
    raise value


class _Answer:
    """What became of the action: what it gave, or what it raised, with the trace."""

    def __init__(self) -> None:
        self.worked, self.value, self.trace = False, cast("object", None), ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None) -> bool:
        if raised is not None:
            self.worked, self.value = False, raised
            self.trace = "".join(traceback.format_exception(kind, raised, trace))
        return True

    def packed(self) -> bytes:
        try:
            data = pickle.dumps((self.worked, self.value, self.trace))
            pickle.loads(data)
        except (pickle.PicklingError, TypeError, AttributeError):
            return pickle.dumps((False, Failed(f"{self.value!r}\n{self.trace}"), ""))
        return data


def _be_the_child(where: Namespace, action: Callable[[], object], writing: int) -> None:
    with _Answer() as answer:
        enter(where)
        answer.value = action()
        answer.worked = True
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(answer.packed())
    os._exit(0)


def enter(where: Namespace) -> None:
    """Move the calling thread into a namespace, for good: only in a process of its own."""
    descriptor = netns.open_path(where.path)
    home = netns.open_own()
    netns._enter(descriptor)
    os.close(descriptor)
    os.close(home)


MakeNamespace = Callable[[str], Namespace]


@pytest.fixture
def make_ns() -> Iterator[MakeNamespace]:
    """Makes namespaces by role, as many as a test wants; all are gone afterwards."""
    with ExitStack() as stack:
        yield lambda role: stack.enter_context(namespace(role))


@pytest.fixture
def node_ns(make_ns: MakeNamespace) -> Namespace:
    """A node's network namespace."""
    return make_ns("node")


@pytest.fixture
def pod_ns(make_ns: MakeNamespace) -> Callable[[], Namespace]:
    """Makes pods' network namespaces."""
    return lambda: make_ns("pod")


def wire(left: Namespace, right: Namespace, left_address: str, right_address: str, name: str = "wire0") -> None:
    """Join two namespaces by a cable, with addresses (with prefix lengths) on both ends."""
    left.run("ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", right.name)
    for side in (left, right):
        # A cable that is just plugged in would else have no link-local address for a second, and no neighbour would answer.
        side.run("sysctl", "-q", "-w", f"net.ipv6.conf.{name}.accept_dad=0")
    for side, addresses in ((left, left_address), (right, right_address)):
        for address in addresses.split():
            side.run("ip", "address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
        side.run("ip", "link", "set", name, "up")
