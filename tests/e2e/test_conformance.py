"""DMTF's own suites against a real manager whose tree is filled, held to bars: the same as `make conformance`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import runner, tree
from tests.conformance.verdict import complaints, report
from tests.support.serve_process import ServeProcess

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def served() -> Iterator[ServeProcess]:
    with tree.manager() as manager:
        yield manager


@pytest.mark.timeout(runner.LONGEST)
@pytest.mark.parametrize("suite", runner.SUITES)
def test_a_suite_of_dmtf_meets_its_bar(served: ServeProcess, suite: str, tmp_path: Path) -> None:
    schemas = runner.bundle(os.environ["REDFISH_SCHEMAS"])

    (result,) = runner.run(tree.target(served), schemas, tmp_path, [suite])

    assert not complaints(result), report([result])
