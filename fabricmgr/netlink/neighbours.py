"""Neighbour entries of the kernel (RFC 826, RFC 4861; linux/neighbour.h)."""

from struct import Struct

from fabricmgr.domain.addresses import Address
from fabricmgr.netlink.codec import attr, message
from fabricmgr.netlink.links import FAMILY

_DELETE = 29  # RTM_DELNEIGH
_HEADER = Struct("=BxHiHBB")  # family, padding, index, state, flags, type
_DESTINATION = 1


def forget_message(index: int, address: Address) -> bytearray:
    """Forget which MAC an address has behind a link. The kernel says ENOENT where it knows none."""
    header = _HEADER.pack(FAMILY[address.version], 0, index, 0, 0, 0)
    return message(_DELETE, 0, header + attr(_DESTINATION, address.packed))
