"""What `agent install` does to the runtime's folder, step by step: there is a list at every moment."""

from pathlib import Path

import pytest

from fabricmgr.agent import conflist, install


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """The runtime's folder, with an agent that was installed for the network `first` and has written its list."""
    put(tmp_path, "first")
    write(tmp_path)
    return tmp_path / "net.d"


def put(folder: Path, network: str) -> None:
    install.install(folder / "data", folder / "bin", folder / "net.d", network, static=False)


def write(folder: Path) -> None:
    """As the agent does once it can serve."""
    remembered = conflist.remembered(folder / "data")
    assert remembered is not None
    conflist.ensure(remembered)


def names(lists: Path) -> list[str]:
    return sorted(path.name for path in lists.iterdir())


def test_the_list_of_another_network_stands_until_the_new_one_does(lists: Path) -> None:
    put(lists.parent, "second")
    meanwhile = names(lists)
    write(lists.parent)

    assert meanwhile == ["05-fabricmgr-first.conflist"]
    assert names(lists) == ["05-fabricmgr-second.conflist"]


def test_of_several_installs_without_an_agent_the_list_that_stands_goes_with_the_last(lists: Path) -> None:
    put(lists.parent, "second")
    put(lists.parent, "third")
    write(lists.parent)

    assert names(lists) == ["05-fabricmgr-third.conflist"]


def test_back_to_the_network_whose_list_stands_keeps_it(lists: Path) -> None:
    put(lists.parent, "second")
    put(lists.parent, "first")
    write(lists.parent)

    assert names(lists) == ["05-fabricmgr-first.conflist"]


def test_uninstalled_before_the_agent_came_to_it_leaves_no_list(lists: Path) -> None:
    put(lists.parent, "second")

    removed = install.uninstall(lists.parent / "data")

    assert names(lists) == []
    assert lists / "05-fabricmgr-first.conflist" in removed
