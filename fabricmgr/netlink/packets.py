"""Raw packet sockets of one link: only ARP, neighbour solicitations and advertisements come up (packet(7), socket(7)).

A socket each for ARP and IPv6: one for every kind of packet would run its filter on all that passes the node.
"""

import ctypes
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from errno import EADDRINUSE, EADDRNOTAVAIL, ENODEV, ENXIO
from ipaddress import IPv6Address
from struct import pack
from typing import Self

from fabricmgr.domain.errors import KernelRefused
from fabricmgr.netlink import arp, ndp
from fabricmgr.netlink.links import DELLINK, LINK_HEADER, NEWLINK
from fabricmgr.netlink.sockets import split

Instruction = tuple[int, int, int, int]

_SO_ATTACH_FILTER = 26
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23
_OUTGOING = 4
_LARGEST_FRAME = 2048
# Frames handled in one turn of the event loop: a storm of requests must not keep the agent from its CNI calls.
_AT_ONCE = 64
# Loads at an absolute place, jumps and returns of the classic filter language (linux/filter.h).
_LOAD_HALF, _LOAD_BYTE, _JUMP_EQUAL, _JUMP_GREATER_OR_EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x35, 0x06

ARP_FILTER: Sequence[Instruction] = (
    (_LOAD_HALF, 0, 0, 12),
    (_JUMP_EQUAL, 0, 1, arp.ETHERTYPE),
    (_RETURN, 0, 0, _LARGEST_FRAME),
    (_RETURN, 0, 0, 0),
)
NDP_FILTER: Sequence[Instruction] = (
    (_LOAD_HALF, 0, 0, 12),
    (_JUMP_EQUAL, 0, 6, ndp.ETHERTYPE),
    (_LOAD_BYTE, 0, 0, 20),  # next header
    (_JUMP_EQUAL, 0, 4, 58),
    (_LOAD_BYTE, 0, 0, 54),  # type of the ICMPv6 message
    (_JUMP_GREATER_OR_EQUAL, 0, 2, ndp.SOLICITATION),
    (_JUMP_GREATER_OR_EQUAL, 1, 0, ndp.ADVERTISEMENT + 1),
    (_RETURN, 0, 0, _LARGEST_FRAME),
    (_RETURN, 0, 0, 0),
)


class PacketSocket:
    """A raw socket on one link, for one kind of packet. Never blocks."""

    def __init__(self, link: str, ethertype: int, program: Sequence[Instruction]) -> None:
        """Raises KernelRefused."""
        self._link = link
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        try:
            _attach(self._socket, program)
            self._socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
            self._socket.bind((link, ethertype))
        except OSError as refused:
            self._socket.close()
            raise KernelRefused(f"listen on link {link}", refused.errno or 0, refused.strerror or str(refused)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> bool:
        """False when the link takes none now: it is down, or its queue is full."""
        try:
            self._socket.send(frame)
        except OSError:
            return False
        return True

    def frames(self) -> Iterable[bytes]:
        """What has come in by this link, some of it at a time. One of a VLAN above the link comes by here too and is none of ours."""
        for _ in range(_AT_ONCE):
            try:
                frame, (link, _, direction, *_) = self._socket.recvfrom(_LARGEST_FRAME)
            except BlockingIOError:
                return
            except OSError:  # the link went down: said once, and by its notification too
                return
            if link == self._link and direction != _OUTGOING:
                yield frame


def arp_socket(link: str) -> PacketSocket:
    """Raises KernelRefused."""
    return PacketSocket(link, arp.ETHERTYPE, ARP_FILTER)


def ndp_socket(link: str) -> PacketSocket:
    """Raises KernelRefused."""
    return PacketSocket(link, ndp.ETHERTYPE, NDP_FILTER)


def _attach(sock: socket.socket, program: Sequence[Instruction]) -> None:
    code = ctypes.create_string_buffer(b"".join(pack("=HBBI", *each) for each in program))
    # The kernel copies the program while the call runs: `code` lives that long.
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pack("@HP", len(program), ctypes.addressof(code)))


class Groups:
    """Multicast groups joined on links: the NIC lets them in, and switches that look at MLD learn of it (RFC 3810)."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def close(self) -> None:
        self._socket.close()

    def join(self, index: int, group: IPv6Address) -> None:
        """Joined already: nothing. Raises KernelRefused."""
        self._set(socket.IPV6_JOIN_GROUP, index, group, f"join {group}", frozenset((EADDRINUSE,)))

    def leave(self, index: int, group: IPv6Address) -> None:
        """Not joined, or the link is gone: nothing."""
        self._set(socket.IPV6_LEAVE_GROUP, index, group, f"leave {group}", frozenset((EADDRNOTAVAIL, ENODEV, ENXIO)))

    def _set(self, option: int, index: int, group: IPv6Address, step: str, fine: frozenset[int]) -> None:
        try:
            self._socket.setsockopt(socket.IPPROTO_IPV6, option, group.packed + pack("@I", index))
        except OSError as refused:
            if refused.errno not in fine:
                raise KernelRefused(step, refused.errno or 0, os.strerror(refused.errno or 0)) from None


class LinkWatch:
    """Tells which links of this namespace changed, by index; not how (rtnetlink(7))."""

    _LINKS = 0x1

    def __init__(self, changed: Callable[[frozenset[int]], None]) -> None:
        """changed: called with the indices; with none of them when notifications were lost for want of room."""
        self._changed = changed
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        self._socket.bind((0, self._LINKS))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def drain(self) -> None:
        """Read what waits and tell once."""
        found: set[int] = set()
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                found.clear()
                break
            found.update(LINK_HEADER.unpack_from(body)[2] for kind, _, _, body in split(data) if kind in (NEWLINK, DELLINK))
        self._changed(frozenset(found))
