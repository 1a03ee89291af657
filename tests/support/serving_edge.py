"""Fixtures: an edge that serves in this process, the folder it lies in, and a pod's namespace."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.edge import Edge
from tests.support.netns import Namespace, namespace


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fm-edge-") as name:
        yield Path(name)


@pytest.fixture
async def edge(directory: Path) -> AsyncIterator[Edge]:
    serving = Edge(directory)
    await serving.server.start()
    yield serving
    await serving.server.stop()


@pytest.fixture(scope="module")
def pod() -> Iterator[Namespace]:
    with namespace("edge") as made:
        yield made
