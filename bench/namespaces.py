"""Network namespaces for benchmarks, made before and removed after the timed part."""

import ctypes
import os
import socket
import subprocess
import time
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


@contextmanager
def witness() -> Iterator[str]:
    """A namespace that `until_gone` looks from."""
    with namespaces("witness") as (name,):
        yield name


def until_gone(witness: str, seconds: float = 30.0) -> None:
    """Wait until the kernel has taken down every namespace that was removed before. TimeoutError when that takes too long.

    It does so after `ip` has returned, in the order of removal, holding the lock that every change of links needs. One more namespace is
    removed, then, with one end of a pair of links in it: when the other end is gone, it has come so far."""
    name = f"fmb-{RUN_ID}-last"
    lines = f"netns add {name}\nlink add last netns {witness} type veth peer name last netns {name}\nnetns del {name}\n"
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
    ends = time.monotonic() + seconds
    with inside(witness):
        while _is_there("last"):
            if time.monotonic() > ends:
                raise TimeoutError(f"removed namespaces were not gone after {seconds} s")
            time.sleep(0.005)


def _is_there(link: str) -> bool:
    try:
        return socket.if_nametoindex(link) > 0
    except OSError:
        return False


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
