from pathlib import Path

import pytest

from fabricmgr.store.pgmemory import LEAST, MOST, cache, memory

HERE = memory(Path("/nowhere"))
GIB = 1 << 30


def limit(root: Path, file: str, said: str) -> None:
    made = root / "sys/fs/cgroup" / file
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(said + "\n")


def groups(root: Path, said: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(said)
    return root


@pytest.mark.parametrize(
    ("machine", "pages"), [(GIB // 2, LEAST), (2 * GIB, LEAST), (4 * GIB, GIB // 4), (16 * GIB, MOST), (512 * GIB, MOST)]
)
def test_pages_get_a_sixteenth_of_the_memory_within_bounds(machine: int, pages: int) -> None:
    assert cache(machine) == pages


def test_without_control_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    assert memory(tmp_path) == HERE > 0


@pytest.mark.parametrize(("path", "limited"), [("/kubepods/pod1", "kubepods/pod1"), ("/kubepods/pod1", "kubepods"), ("/", ".")])
def test_the_limit_of_a_control_group_or_of_one_above_it_counts(tmp_path: Path, path: str, limited: str) -> None:
    root = groups(tmp_path, f"1:name=systemd:/\n0::{path}\n")
    limit(root, f"{limited}/memory.max", "268435456")

    assert memory(root) == 268435456


def test_of_several_limits_the_smallest_counts(tmp_path: Path) -> None:
    root = groups(tmp_path, "0::/kubepods/pod1\n")
    limit(root, "kubepods/memory.max", "536870912")
    limit(root, "kubepods/pod1/memory.max", "268435456")

    assert memory(root) == 268435456


def test_a_group_without_a_limit_leaves_the_machine(tmp_path: Path) -> None:
    root = groups(tmp_path, "0::/a\n")
    limit(root, "a/memory.max", "max")

    assert memory(root) == HERE


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    root = groups(tmp_path, "5:devices:/x\n4:hugetlb,memory:/docker/a\n")
    limit(root, "memory/docker/a/memory.limit_in_bytes", "268435456")

    assert memory(root) == 268435456


def test_a_container_that_sees_its_group_by_the_hosts_path_has_the_limit_at_the_top(tmp_path: Path) -> None:
    root = groups(tmp_path, "4:memory:/docker/of-the-host\n")
    limit(root, "memory/memory.limit_in_bytes", "268435456")

    assert memory(root) == 268435456
