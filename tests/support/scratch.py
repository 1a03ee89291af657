"""Where tests put their files: into memory where the machine has room there.

On a disk each of a thousand databases, and each node's containerd, waits for it to write; nothing here outlives the machine.
"""

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
DISK = Path("/tmp")
ROOM = 6 << 30  # bytes: several times what all tests in two lanes were seen to take (1.3 GB)
UNFIT = os.ST_RDONLY | os.ST_NOEXEC | os.ST_NODEV  # tests build programs and containers there


def use(memory: Path = MEMORY) -> None:
    """For this process and its children, unless TMPDIR says another place."""
    if "TMPDIR" not in os.environ and fits(memory):
        os.environ["TMPDIR"] = str(memory)
        tempfile.tempdir = None


def fits(memory: Path) -> bool:
    """Whether programs may be put there and run, and both it and the machine's memory have room."""
    try:
        found = os.statvfs(memory)
    except OSError:
        return False
    return os.access(memory, os.W_OK) and not found.f_flag & UNFIT and min(found.f_bavail * found.f_frsize, available()) >= ROOM


def available() -> int:
    """Bytes of memory that the kernel could give (proc(5), meminfo)."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) << 10


def short() -> str:
    """The place for folders in which sockets lie: their paths have 107 bytes at most (unix(7))."""
    found = tempfile.gettempdir()
    return found if len(found) <= len(str(MEMORY)) else str(DISK)
