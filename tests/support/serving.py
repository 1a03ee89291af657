"""Managers that tests start as a person does."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.serve_process import CHECKOUT, Managers, ServeProcess, environment, managers

POLLS = 1000
POOL = {"name": "pods", "purpose": "Pod", "prefixes": [{"prefix": "10.0.0.0/16", "central": True}]}


@pytest.fixture
def serve() -> Iterator[Managers]:
    """Starts managers, which end with the test."""
    with managers() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[ServeProcess]:
    """One manager for those that only ask."""
    with managers() as made:
        yield made.start(made.folder / "data", "--metrics-listen", "127.0.0.1:0").ready()


def command(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of ours to its end."""
    return subprocess.run(
        [sys.executable, "-m", "fabricmgr", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(variables),
        cwd=CHECKOUT,
    )
