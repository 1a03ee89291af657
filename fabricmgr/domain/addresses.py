"""Addresses and prefixes: strict parsing, and the arithmetic of cutting a prefix into blocks."""

from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from fabricmgr.domain.errors import Invalid

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

# A block smaller than this would be spent on its first pods; such prefixes are handed out address by address.
SMALLEST_BLOCK = 4
# A block larger than this would be spent on one node, and an asked-for address in it would make thousands of rows.
LARGEST_BLOCK = 4096
DEFAULT_BLOCK_LENGTH = {4: 26, 6: 122}


class Family(Enum):
    """IPv4 or IPv6; the value is the IP version."""

    IPV4 = 4
    IPV6 = 6

    # Members are what they are by identity; Enum hashes their names, in Python, at each look into a dictionary.
    __hash__ = object.__hash__

    @property
    def label(self) -> str:
        """As people and the API write it."""
        return f"IPv{self.value}"

    @property
    def width(self) -> int:
        """Bits of an address."""
        return 32 if self is Family.IPV4 else 128


def family_of(thing: Address | Prefix) -> Family:
    return Family(thing.version)


@lru_cache(maxsize=4096)
def parse_address(text: str, field: str = "address") -> Address:
    """Parse one host address in any spelling. A zone, an IPv4-mapped IPv6 form, and a prefix length are refused. Raises Invalid."""
    expected = "an IPv4 or IPv6 address without zone and prefix length, such as 10.0.0.5 or 2001:db8::5"
    try:
        address = ip_address(text)
    except ValueError:
        raise Invalid(field, text, expected) from None
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address.ipv4_mapped is not None):
        raise Invalid(field, text, expected)
    return address


@lru_cache(maxsize=4096)
def parse_prefix(text: str, field: str = "prefix") -> Prefix:
    """Parse a CIDR without host bits. Raises Invalid; the message names the prefix that was probably meant."""
    expected = "a CIDR such as 10.0.0.0/16 or 2001:db8::/64"
    if "/" not in text or "%" in text:
        raise Invalid(field, text, expected)
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise Invalid(field, text, expected) from None
    raise Invalid(field, text, f"no host bits set: {meant} was probably meant")


def block_length(prefix: Prefix, wanted: int | None = None) -> int:
    """Length of the blocks a prefix is cut into: the wanted one, else the default, but at least 16 blocks where the prefix allows it.

    Raises Invalid when the wanted block is larger than the prefix, or holds more than LARGEST_BLOCK addresses."""
    shortest = max(prefix.prefixlen, prefix.max_prefixlen - LARGEST_BLOCK.bit_length() + 1)
    if wanted is not None and not shortest <= wanted <= prefix.max_prefixlen:
        raise Invalid("block_length", wanted, f"a length from {shortest} to {prefix.max_prefixlen} for prefix {prefix}")
    base = DEFAULT_BLOCK_LENGTH[prefix.version] if wanted is None else wanted
    return min(max(base, prefix.prefixlen + 4) if wanted is None else base, prefix.max_prefixlen)


def blocks_are_central(prefix: Prefix, length: int) -> bool:
    """True where a block would hold fewer than SMALLEST_BLOCK addresses: nobody claims such blocks."""
    return prefix.max_prefixlen - length < SMALLEST_BLOCK.bit_length() - 1


def central_tail(prefix: Prefix) -> Prefix | None:
    """The last sixteenth of a prefix, which nodes never claim, so that a nearly full pool is shared to its last address.

    None for a prefix too small to have one."""
    length = prefix.prefixlen + 4
    if length > prefix.max_prefixlen:
        return None
    return _sub(prefix, length, 15)


def block_at(prefix: Prefix, length: int, address: Address) -> Prefix:
    """The block of `length` that an address of the prefix lies in."""
    host_bits = prefix.max_prefixlen - length
    return _network(prefix.version, int(address) >> host_bits << host_bits, length)


def skips_ends(prefix: Prefix) -> bool:
    """Whether the first and the last address are left out: not where there are at most two (RFC 3021, RFC 6164)."""
    return prefix.prefixlen < prefix.max_prefixlen - 1


def range_to_prefixes(lower: Address, upper: Address) -> Iterator[Prefix]:
    """Fewest CIDRs that cover a Range from first to last address, in order. Raises Invalid when they are not a range."""
    if lower.version != upper.version or int(lower) > int(upper):
        raise Invalid("range", f"{lower}-{upper}", "two addresses of one family, the lower one first")
    at, end, width = int(lower), int(upper), lower.max_prefixlen
    while at <= end:
        size = min((at & -at).bit_length() - 1 if at else width, (end - at + 1).bit_length() - 1)
        yield _network(lower.version, at, width - size)
        at += 1 << size


def _sub(prefix: Prefix, length: int, index: int) -> Prefix:
    return _network(prefix.version, int(prefix.network_address) + (index << (prefix.max_prefixlen - length)), length)


def _network(version: int, number: int, length: int) -> Prefix:
    return IPv4Network((number, length)) if version == 4 else IPv6Network((number, length))
