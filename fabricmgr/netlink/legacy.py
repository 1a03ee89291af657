"""The forward policy of the legacy iptables, which nftables does not show (linux/netfilter_ipv4/ip_tables.h)."""

import ctypes
import os
import socket
from pathlib import Path
from struct import Struct, unpack_from

_GET_INFO, _GET_ENTRIES = 64, 65
_FORWARD = 2
# struct ipt_getinfo: name, valid hooks, five hook entries, five underflows, number and size of entries.
_INFO = Struct("=32sI5I5III")
_ENTRIES_HEADER = Struct("=32sI4x")
# Where an entry says how far its target lies: behind the address matches, whose size differs by family.
_TARGET_OFFSET = {4: 88, 6: 140}
_TARGET_HEADER = 32
_LEVEL = {4: (socket.AF_INET, 0), 6: (socket.AF_INET6, 41)}
_DROP = -1  # -NF_DROP - 1
_libc = ctypes.CDLL(None, use_errno=True)


def dropping_versions() -> list[int]:
    """IP versions whose legacy filter table drops by policy on the forward hook. A table nobody loaded has no policy."""
    return [version for version in (4, 6) if _loaded(version) and _policy(version) == _DROP]


def _loaded(version: int) -> bool:
    """Asking for a table that nobody uses would make the kernel create it."""
    try:
        names = Path("/proc/thread-self/net", "ip_tables_names" if version == 4 else "ip6_tables_names").read_text()
    except OSError:
        return False
    return "filter" in names.split()


def _policy(version: int) -> int | None:
    family, level = _LEVEL[version]
    try:
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            info = _INFO.unpack(_get(sock, level, _GET_INFO, _INFO.pack(b"filter", *[0] * 13), _INFO.size))
            underflow, size = info[7 + _FORWARD], info[13]
            entries = _get(sock, level, _GET_ENTRIES, _ENTRIES_HEADER.pack(b"filter", size), _ENTRIES_HEADER.size + size)
    except OSError:
        return None
    entry = _ENTRIES_HEADER.size + underflow
    target = entry + unpack_from("=H", entries, entry + _TARGET_OFFSET[version])[0]
    return int(unpack_from("=i", entries, target + _TARGET_HEADER)[0])


def _get(sock: socket.socket, level: int, option: int, asked: bytes, size: int) -> bytes:
    """getsockopt with a question in its buffer, which Python's own has no room for. Raises OSError."""
    buffer = ctypes.create_string_buffer(asked, size)
    length = ctypes.c_uint32(size)
    if _libc.getsockopt(sock.fileno(), level, option, buffer, ctypes.byref(length)) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return buffer.raw[: length.value]
