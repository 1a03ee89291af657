"""Sysctls below net/, by /proc/sys: they are those of the calling thread's namespace."""

import os
from pathlib import Path

from fabricmgr.domain.errors import KernelRefused

_ROOT = Path("/proc/sys/net")


def read(*path: str) -> str | None:
    """Its value, or None where the kernel has none of that name. Parts, not dots: an interface's name may hold a dot."""
    try:
        return _ROOT.joinpath(*path).read_text().strip()
    except OSError:
        return None


def ensure(value: str, *path: str) -> bool:
    """Make it so; True when it was otherwise. Raises KernelRefused that names the sysctl."""
    if read(*path) == value:
        return False
    try:
        with _ROOT.joinpath(*path).open("w") as file:
            file.write(value)
    except OSError as refused:
        raise KernelRefused(f"set sysctl net.{'.'.join(path)}={value}", refused.errno or 0, refused.strerror or str(refused)) from None
    return True


def attempt(value: str, *path: str) -> bool:
    """Make it so where the kernel has it and lets us; False where not. For what makes things better and not possible."""
    try:
        descriptor = os.open("/".join((str(_ROOT), *path)), os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(descriptor, value.encode()) > 0
    except OSError:
        return False
    finally:
        os.close(descriptor)


def names(*path: str) -> list[str]:
    """What lies below: the interfaces, below ipv4/conf. Empty where the kernel has none of that name."""
    try:
        return sorted(entry.name for entry in _ROOT.joinpath(*path).iterdir())
    except OSError:
        return []
