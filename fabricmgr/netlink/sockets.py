"""A netlink socket: one datagram of several messages out, every reply in, then the judgement.

A datagram is no transaction: after a message that failed the kernel goes on with the next one. So replies are read up to the last sequence
number before anything is judged; one left behind would answer the next question.
"""

import fcntl
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from errno import EAGAIN, EINTR, ENOBUFS, ETIMEDOUT
from struct import Struct, pack
from typing import Self, TypeVar

from fabricmgr.domain.errors import KernelRefused
from fabricmgr.netlink.codec import HEADER, Flag, attributes, string

ROUTE = 0
NETFILTER = 12

_ERROR, _DONE, _OVERRUN = 2, 3, 4
_DUMP_INTERRUPTED = 0x10
_ACK_TLVS, _CAPPED = 0x200, 0x100
_EXT_ACK_MESSAGE = 1
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_SNDBUFFORCE, _LARGEST_BATCH = 32, 1 << 24
_READ = 1 << 18
_DUMP_TRIES = 8
# A reply that takes longer means a kernel that hangs; the caller's time is up before (seconds, microseconds).
_PATIENCE = pack("ll", 5, 0)
_INT = Struct("=i")
_FLAGS, _FLAGS_AT, _SEQUENCE, _SEQUENCE_AT = Struct("=H"), 6, Struct("=I"), 8  # in a message's header
_GET_INDEX = 0x8933
_INTERFACE = Struct("=16si20x")  # struct ifreq: name, index
_GET_FLAGS = 0x8913
_INTERFACE_FLAGS = Struct("=16sH22x")  # struct ifreq: name, flags
_RUNNING = 0x40

T = TypeVar("T")
Reply = tuple[int, bytes]
"""Kind of a message, and its body behind the netlink header."""
Steps = Callable[[], Sequence[str]]
"""What messages are for, in words: made when one has failed, since most are never read."""


def in_words(steps: Sequence[str] | Steps) -> Sequence[str]:
    """Steps as texts, whichever way they were given."""
    return steps() if callable(steps) else steps


class NetlinkSocket:
    """A raw socket of one netlink family, in the network namespace its thread is in when it is made.

    Synchronous on purpose: the kernel answers inside `send`, so waiting in an event loop would only add to it."""

    def __init__(self, family: int = ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self._sequence = 0
        self._interrupted = False
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
            if family == NETFILTER:
                # A table is written in one datagram, and some sites have thousands of prefixes.
                self._socket.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, _LARGEST_BATCH)
            # Short acknowledgements, with a sentence, and dumps that heed their filters (Linux 4.20).
            for option in (_CAP_ACK, _EXT_ACK, _STRICT):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """True after a reply was lost, too: such a socket is spent."""
        return self._socket.fileno() < 0

    def close(self) -> None:
        self._socket.close()

    def index_of(self, name: str) -> int:
        """ifindex of a link in this socket's namespace; 0 where there is none (netdevice(7), SIOCGIFINDEX)."""
        try:
            answer = fcntl.ioctl(self._socket, _GET_INDEX, _INTERFACE.pack(name.encode(), 0))
        except OSError:
            return 0
        index: int = _INTERFACE.unpack(answer)[1]
        return index

    def is_running(self, name: str) -> bool:
        """Whether a link of this socket's namespace is up and its operstate too (netdevice(7), SIOCGIFFLAGS). Raises KernelRefused.

        A link's message says the same among eighty attributes."""
        try:
            answer = fcntl.ioctl(self._socket, _GET_FLAGS, _INTERFACE_FLAGS.pack(name.encode(), 0))
        except OSError as refused:
            errno = refused.errno or 0
            raise KernelRefused(f"look at {name}", errno, os.strerror(errno)) from None
        return bool(_INTERFACE_FLAGS.unpack(answer)[1] & _RUNNING)

    def exchange(self, messages: Sequence[bytearray], steps: Sequence[str] | Steps, ignore: frozenset[int] = frozenset()) -> list[Reply]:
        """Send all in one datagram; give the answers that are no acknowledgements.

        steps: what each message is for, named in the error; or what says so. ignore: error numbers that count as success.
        Raises KernelRefused for the first message that failed, after every reply was read."""
        first, last = self._send(messages, range(len(messages) - 1, len(messages)))
        replies, failures = self._read(last, _as_it_is)
        for at in sorted(failures):
            errno, reason = failures[at]
            if errno not in ignore:
                raise KernelRefused(in_words(steps)[max(0, at - first)], errno, reason)
        return replies

    def transact(self, messages: Sequence[bytearray], step: str) -> None:
        """Send a netfilter batch: it takes effect whole or not at all. Raises KernelRefused with the first failure."""
        first, last = self._send(messages, range(len(messages) - 2, len(messages) - 1))
        # The frame's own messages are never acknowledged; a failure of the commit itself answers the opening one.
        _, failures = self._read(last - 1, _as_it_is, abort=first)
        if failures:
            at = min(failures)
            errno, reason = failures[at]
            raise KernelRefused(f"{step} (message {at - first} of {last - first - 1})" if at > first else step, errno, reason)

    def dump(self, request: bytearray, step: str) -> list[Reply]:
        """All answers of a dump; taken anew when the kernel says that it changed meanwhile. Raises KernelRefused."""
        return self.dump_of(request, step, _as_it_is)

    def dump_of(self, request: bytearray, step: str, read: Callable[[int, bytes], T | None]) -> list[T]:
        """A dump whose answers are read as they come, so that thousands need not be kept; None drops one. Raises KernelRefused."""
        for _ in range(_DUMP_TRIES):
            first, last = self._send([request], range(0))
            replies, failures = self._read(last, read, dump=True)
            if first in failures:
                errno, reason = failures[first]
                raise KernelRefused(step, errno, reason)
            if not self._interrupted:
                return replies
        raise KernelRefused(step, EINTR, "the list changed each time it was read")

    def _send(self, messages: Sequence[bytearray], acknowledged: range) -> tuple[int, int]:
        first = self._sequence + 1
        self._sequence += len(messages)
        for number, data in enumerate(messages, first):
            _SEQUENCE.pack_into(data, _SEQUENCE_AT, number)
        for place in acknowledged:
            _FLAGS.pack_into(messages[place], _FLAGS_AT, _FLAGS.unpack_from(messages[place], _FLAGS_AT)[0] | Flag.ACK)
        self._socket.sendto(b"".join(messages), (0, 0))
        return first, self._sequence

    def _read(
        self, last: int, read: Callable[[int, bytes], T | None], dump: bool = False, abort: int = -1
    ) -> tuple[list[T], dict[int, tuple[int, str]]]:
        replies: list[T] = []
        failures: dict[int, tuple[int, str]] = {}
        self._interrupted = False
        while True:
            for kind, flags, sequence, body in split(self._receive()):
                self._interrupted |= bool(flags & _DUMP_INTERRUPTED)
                if kind in (_ERROR, _DONE):
                    errno = -_INT.unpack_from(body)[0] if len(body) >= 4 else 0
                    if errno > 0:
                        failures[sequence] = (errno, _reason(errno, flags, body))
                    if sequence in (last, abort):
                        return replies, failures
                elif kind != _OVERRUN and (not dump or sequence == last) and (reply := read(kind, body)) is not None:
                    replies.append(reply)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_READ)
        except OSError as refused:
            errno = ETIMEDOUT if refused.errno == EAGAIN else refused.errno or ENOBUFS
            # Whatever comes later would answer the wrong question: this socket is spent.
            self._socket.close()
            raise KernelRefused("read the kernel's answer", errno, os.strerror(errno)) from refused


def _as_it_is(kind: int, body: bytes) -> Reply:
    return kind, body


def split(data: bytes) -> Iterable[tuple[int, int, int, bytes]]:
    """Messages of a datagram: kind, flags, sequence number, body."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            return
        yield kind, flags, sequence, data[at + HEADER.size : at + length]
        at += length + 3 & ~3


def _reason(errno: int, flags: int, body: bytes) -> str:
    """The kernel's own sentence where it has one, else the error's usual name."""
    usual = os.strerror(errno)
    if not flags & _ACK_TLVS or len(body) < 4 + HEADER.size:
        return usual
    echoed = HEADER.size if flags & _CAPPED else HEADER.unpack_from(body, 4)[0]
    said = string(attributes(body, 4 + (echoed + 3 & ~3)).get(_EXT_ACK_MESSAGE))
    return f"{usual}: {said}" if said else usual
