import os
import tempfile
from pathlib import Path

import pytest

from tests.support import scratch


@pytest.fixture(autouse=True)
def own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(scratch, "ROOM", 1)


def test_a_place_that_the_environment_names_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "mine"))

    scratch.use(tmp_path)

    assert os.environ["TMPDIR"] == str(tmp_path / "mine")


def test_memory_is_taken_where_it_has_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)

    scratch.use(tmp_path)

    assert os.environ.pop("TMPDIR") == str(tmp_path)


def test_memory_without_room_or_that_is_not_there_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(scratch, "ROOM", 1 << 60)

    scratch.use(tmp_path)
    scratch.use(tmp_path / "none")

    assert "TMPDIR" not in os.environ


def test_a_place_with_a_long_path_is_not_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/var/folders/of/somebody")
    long = scratch.short()
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")

    assert long == "/tmp"
    assert scratch.short() == "/dev/shm"
