"""Netlink's framing: headers and attributes as bytes (RFC 3549 section 2.3; linux/netlink.h).

pyroute2's message classes take 0.1 to 0.8 ms a message, so they make templates once (templates.py); what is read, and what is written
rarely, passes these few functions.
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

HEADER = Struct("=IHHII")  # length, kind, flags, sequence, port
_ATTRIBUTE = Struct("=HH")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
NESTED = 0x8000


class Flag(IntEnum):
    """Of a request (linux/netlink.h)."""

    REQUEST = 0x1
    ACK = 0x4
    EXCL = 0x200
    REPLACE = 0x100
    CREATE = 0x400
    APPEND = 0x800
    DUMP = 0x300


def message(kind: int, flags: int, body: bytes) -> bytearray:
    """A request; its sequence number is given when it is sent."""
    return bytearray(HEADER.pack(HEADER.size + len(body), kind, flags | Flag.REQUEST, 0, 0) + body)


def attr(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def nest(kind: int, *children: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attr(kind | NESTED, b"".join(children))


def u8(kind: int, number: int) -> bytes:
    return attr(kind, number.to_bytes(1, "little"))


def u32(kind: int, number: int) -> bytes:
    """An attribute in the machine's byte order, as rtnetlink has them."""
    return attr(kind, Struct("=I").pack(number))


def be32(kind: int, number: int) -> bytes:
    """An attribute in network byte order, as netfilter has them."""
    return attr(kind, number.to_bytes(4, "big"))


def text(kind: int, value: str) -> bytes:
    """A string with its NUL."""
    return attr(kind, value.encode() + b"\0")


def walk(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Every attribute in order: kind without flags, value without padding."""
    at, end = start, len(data)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield kind & _TYPE_MASK, data[at + 4 : at + length]
        at += length + 3 & ~3


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """Attributes by kind; of one that repeats, the last. `walk` says the same; a link has eighty, and this takes half the time."""
    found: dict[int, bytes] = {}
    at, end, unpack = start, len(data) - 4, _ATTRIBUTE.unpack_from
    while at <= end:
        length, kind = unpack(data, at)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def some_attributes(data: bytes, start: int, wanted: frozenset[int]) -> dict[int, bytes]:
    """Of `attributes` those of these kinds alone: where thousands of links are read, the rest is not worth copying."""
    found: dict[int, bytes] = {}
    at, end, unpack = start, len(data) - 4, _ATTRIBUTE.unpack_from
    while at <= end:
        length, kind = unpack(data, at)
        if length < 4:
            break
        if kind & _TYPE_MASK in wanted:
            found[kind & _TYPE_MASK] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def number(value: bytes | None, default: int = 0) -> int:
    """An integer attribute in the machine's byte order; the default where it is missing."""
    return default if value is None else int.from_bytes(value, "little" if Struct("=H").pack(1)[0] else "big")


def string(value: bytes | None) -> str:
    """A string attribute up to its NUL; empty where it is missing. Bytes that are no UTF-8 are shown by their codes."""
    return "" if value is None else value.split(b"\0", 1)[0].decode(errors="backslashreplace")
