"""The agent's process on a real kernel."""

import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabricmgr.agent.process import LARGE, use_large_pages
from tests.support.namespaces import make_ns, node_ns
from tests.support.netns import Namespace
from tests.support.node_agent import Node, node

__all__ = ["make_ns", "node_ns"]


@pytest.fixture
def here(node_ns: Namespace) -> Iterator[Node]:
    with node(node_ns) as made:
        yield made


def large_kb(process: str = "self") -> int:
    """On large pages now, as proc(5) says."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))


def test_what_is_in_memory_stays_the_same_on_large_pages() -> None:
    content = bytes(range(256)) * (8 * LARGE // 256)
    with mmap.mmap(-1, len(content), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.write(content)

        got = use_large_pages()

        if not got:
            pytest.skip("this kernel puts nothing on large pages when asked (MADV_COLLAPSE: Linux 6.1)")
        # Not all: the kernel may have no large page free at the moment.
        assert large_kb() >= LARGE // 1024
        assert area[:] == content


def test_a_serving_agent_lies_on_large_pages(here: Node) -> None:
    here.start_agent()

    if not use_large_pages():
        pytest.skip("this kernel puts nothing on large pages when asked (MADV_COLLAPSE: Linux 6.1)")
    assert here.agent.running is not None
    assert large_kb(str(here.agent.running.pid)) >= LARGE // 1024
