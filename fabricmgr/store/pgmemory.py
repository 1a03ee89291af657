"""How much memory the embedded server keeps pages in.

Owners' keys are random, so each address changes a leaf of two indexes, anywhere in them. Where those leaves (90 MB for 1,000,000 addresses)
have no room beside all that is written in order, the backend that a caller waits for reads, checks and writes pages for each address.
"""

import os
from collections.abc import Iterator
from pathlib import Path

LEAST, MOST = 128 << 20, 1 << 30  # bytes
# Of the machine's memory. The rest is the manager's own, and the kernel's cache of the same files.
SHARE = 16


def cache(memory: int) -> int:
    """Bytes for pages, on a machine that has so many for everything: PostgreSQL's shared_buffers. It takes them as it fills them."""
    return min(max(memory // SHARE, LEAST), MOST)


def memory(root: Path = Path("/")) -> int:
    """Bytes this process may have: the machine's, or fewer where a control group says so (cgroups(7), of either version)."""
    return min([_machine(), *_limits(root)])


def _machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limits(root: Path) -> Iterator[int]:
    """Each group's above ours too: it holds all that is below."""
    for folder, name in _groups(root):
        for group in (folder, *folder.parents):
            if group == root / "sys/fs":
                break
            limit = _number(group / name)
            if limit is not None:
                yield limit


def _groups(root: Path) -> Iterator[tuple[Path, str]]:
    """Our group's folder and the file of its limit. A container may see its group's path as the host does: then only the top is there."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield root / "sys/fs/cgroup" / path.lstrip("/"), "memory.max"
        elif "memory" in controllers.split(","):
            yield root / "sys/fs/cgroup/memory" / path.lstrip("/"), "memory.limit_in_bytes"


def _number(file: Path) -> int | None:
    """None: there is no such group, or it has no limit ("max")."""
    try:
        said = file.read_text().strip()
    except OSError:
        return None
    return int(said) if said.isdecimal() else None
