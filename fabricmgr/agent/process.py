"""What the agent's process asks of its machine."""

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

LARGE = 2 << 20
"""Bytes of a large page; what other processors have is a multiple, and is refused by the kernel."""

_COLLAPSE = 25  # madvise(2), MADV_COLLAPSE: Linux 6.1, whatever the policy for large pages is
_AREA = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 +(\[heap\])?$")
_FIELD = re.compile(r"(Size|Rss): +(\d+) kB$")


def use_large_pages() -> int:
    """Put what this process has in memory by now on large pages. How many it got: none where the kernel has none or cannot.

    A call touches some thousand small objects all over the heap, and after a pause their addresses have left the processor's tables, to be
    looked up anew page by page; in a virtual machine each of these is two."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    areas = list(full_areas(Path("/proc/self/smaps").read_text()))
    return sum(libc.madvise(at, LARGE, _COLLAPSE) == 0 for area in areas for at in area)


def full_areas(smaps: str) -> Iterator[range]:
    """Where large pages may lie in memory of the process' own that is nearly all in use: in a half empty one, such as a thread's stack,
    they would take more than there is now. smaps: proc(5)."""
    area: range | None = None
    size = 0
    for line in smaps.splitlines():
        if (field := _FIELD.match(line)) is None:
            area = _large_pages(line) if "-" in line else area
        elif field[1] == "Size":
            size = int(field[2])
        elif area and int(field[2]) * 8 >= size * 7:
            yield area


def _large_pages(line: str) -> range | None:
    """Addresses of the large pages that fit into an area, by its heading."""
    found = _AREA.match(line)
    if found is None:
        return None
    start, end = int(found[1], 16), int(found[2], 16)
    return range(-(-start // LARGE) * LARGE, end // LARGE * LARGE, LARGE)
