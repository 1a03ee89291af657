"""Network namespaces for benchmarks, made before and removed after the timed part."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

RUN_ID = uuid4().hex[:6]
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def path_of(name: str) -> str:
    return f"/run/netns/{name}"


@contextmanager
def namespaces(*roles: str) -> Iterator[list[str]]:
    """Fresh namespaces, one a role, by name; gone afterwards."""
    names = [f"fmb-{RUN_ID}-{role}" for role in roles]
    try:
        _all("add", names)
        yield names
    finally:
        _all("del", [name for name in names if Path(path_of(name)).exists()])


def _all(verb: str, names: list[str]) -> None:
    """In one process: a thousand would take a minute."""
    lines = "".join(f"netns {verb} {name}\n" for name in names)
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread, and what it starts, stands in a namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(path_of(name), os.O_RDONLY | os.O_CLOEXEC)
    enter(there)
    try:
        yield
    finally:
        enter(home)
        os.close(home)
        os.close(there)


def enter(descriptor: int) -> None:
    # By the C library: os.setns came with Python 3.12.
    if LIBC.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
