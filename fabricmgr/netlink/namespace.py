"""Network namespaces, by descriptor: what one is, and doing something inside.

`setns` is per thread. A thread that cannot come back must not live: whatever it did next would happen in a pod.
"""

import ctypes
import fcntl
import os
from collections.abc import Callable
from errno import EINVAL, ENOTTY
from typing import TypeVar

from fabricmgr.domain.errors import NamespaceMissing, NamespaceRefused

T = TypeVar("T")
Identity = tuple[int, int]
"""Device and inode: what a namespace is, whatever path leads to it."""

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_HERE = "/proc/thread-self/ns/net"
# Python 3.11 has no os.setns.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]


def open_own() -> int:
    """A descriptor of the calling thread's namespace; the caller closes it."""
    return os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)


def open_path(path: str) -> int:
    """A descriptor of the namespace at a path; the caller closes it. Raises NamespaceMissing, NamespaceRefused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise NamespaceMissing(path) from None
    except OSError as refused:
        raise NamespaceRefused(path, refused.strerror or str(refused)) from None
    try:
        require(descriptor, path)
    except NamespaceRefused:
        os.close(descriptor)
        raise
    return descriptor


def identity(descriptor: int) -> Identity:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def require(descriptor: int, path: str) -> None:
    """Raises NamespaceRefused when the descriptor is no network namespace, as a path that was unmounted is."""
    try:
        kind = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError as refused:
        if refused.errno not in (ENOTTY, EINVAL):
            raise NamespaceRefused(path, refused.strerror or str(refused)) from None
        raise NamespaceRefused(path, "it is no namespace") from None
    if kind != _CLONE_NEWNET:
        raise NamespaceRefused(path, "it is a namespace of another kind")


def own() -> Identity:
    """What the calling thread's namespace is."""
    status = os.stat(_HERE)  # noqa: PTH116 - asked in every DEL, and Path costs as much as the system call
    return status.st_dev, status.st_ino


def is_own(descriptor: int) -> bool:
    """Whether it is the calling thread's own namespace (CNI SPEC 1.1.0: ADD there is refused, DEL touches nothing)."""
    return identity(descriptor) == own()


def inside(home: int, target: int, action: Callable[[], T]) -> T:
    """Do something in the target namespace and come back. Ends the process when there is no way back.

    The action must not wait, and must not start a thread or a process. Raises OSError when the target cannot be entered."""
    _enter(target)
    try:
        return action()
    finally:
        try:
            _enter(home)
        except OSError:
            os.abort()


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
