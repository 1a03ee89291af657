"""Postgres processes on one data directory: which there are, and how they end.

A process id says little: numbers are used again, and a pid file outlives a boot. A process is believed only when its program is Postgres
and its working directory is the data directory, which every process of a server shares.
"""

import contextlib
import ctypes
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Orphans of our descendants become our children, so that we see them end (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def on(cluster: Path) -> list[int]:
    """All Postgres processes on this data directory."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if is_postgres_on(pid, cluster)]


def is_postgres_on(pid: int, cluster: Path) -> bool:
    """Whether this process is a Postgres whose working directory is the data directory."""
    process = Path("/proc") / str(pid)
    try:
        program = (process / "exe").readlink().name.removesuffix(" (deleted)")
        return program == "postgres" and Path(process / "cwd").samefile(cluster)
    except PermissionError:
        return _says_so(process, cluster)
    except OSError:
        return False


def _says_so(process: Path, cluster: Path) -> bool:
    """By command line, where another user's links can't be read: only the postmaster's names its directory."""
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return Path(os.fsdecode(words[0])).name == "postgres" and os.fsencode(cluster) in words[1:]


@contextmanager
def _handle(pid: int, cluster: Path) -> Iterator[int | None]:
    """A pidfd of a process that was looked at *after* the descriptor was open, so that the number can't change hands in between."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor if is_postgres_on(pid, cluster) else None
    finally:
        os.close(descriptor)


def end(pid: int, cluster: Path, steps: tuple[tuple[signal.Signals, float], ...]) -> bool:
    """Send signals, each with its patience in seconds, until the process ends. Gives False if it is none of this directory's."""
    with _handle(pid, cluster) as descriptor:
        if descriptor is None:
            return False
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        for number, patience in steps:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if waiting.poll(patience * 1000):
                break
        reap(pid)
        return True


def reap(pid: int) -> None:
    """Take the exit status of a child that has ended; a process that is no child of ours has its own parent for that."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def end_all(cluster: Path, patience: float = 5.0) -> int:
    """Kill every Postgres process left on a data directory whose postmaster is dead; gives their number.

    Nothing is lost: what was committed is in the log, and shared memory is rebuilt from it. A busy backend would hold that memory until
    its statement ends, and a new server would refuse to start.
    """
    pids = on(cluster)
    for pid in pids:
        with _handle(pid, cluster) as descriptor, contextlib.suppress(ProcessLookupError):
            if descriptor is not None:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    for pid in pids:
        end(pid, cluster, ((signal.SIGKILL, patience),))
        reap(pid)
    return len(pids)
