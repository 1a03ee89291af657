"""A host end explains itself: what its alias says about the attachment it belongs to."""

from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address

import msgspec

from fabricmgr.netlink.nft_rules import network_label

Address = IPv4Address | IPv6Address

LONGEST_ALIAS = 255  # bytes (linux/if.h, IFALIASZ without the NUL)
_FIRST, _GUARDED = "fabricmgr", "spoofcheck"


class Origin(msgspec.Struct, frozen=True):
    """network: its label (itself unless very long). container: its id, or `#` and a digest where the alias had no room for it;
    the host end's name then still tells which attachment it is."""

    network: str
    container: str
    ifname: str
    mac: str
    addresses: tuple[Address, ...]
    spoof_check: bool

    @property
    def alias(self) -> str:
        """One line of 255 bytes at most, for any two addresses."""
        flags = _GUARDED if self.spoof_check else "-"
        return " ".join((_FIRST, self.network, self.container, self.ifname, self.mac, ",".join(map(str, self.addresses)), flags))


def origin_of(network: str, container: str, ifname: str, mac: str, addresses: tuple[Address, ...], spoof_check: bool) -> Origin:
    """Ids that are too long give way to digests, addresses never."""
    whole = Origin(network_label(network), container, ifname, mac, addresses, spoof_check)
    if len(whole.alias.encode()) <= LONGEST_ALIAS:
        return whole
    return Origin(whole.network, "#" + sha256(container.encode()).hexdigest()[:32], ifname, mac, addresses, spoof_check)


def parse_alias(alias: str) -> Origin | None:
    """What `Origin.alias` wrote; None for anything else."""
    words = alias.split(" ")
    if len(words) != 7 or words[0] != _FIRST:
        return None
    try:
        addresses = tuple(_parse_address(word) for word in words[5].split(","))
    except ValueError:
        return None
    return Origin(words[1], words[2], words[3], words[4], addresses, words[6] == _GUARDED)


def is_guarded(alias: str) -> bool:
    """Whether the alias says that a pod's sources are checked."""
    return alias.endswith(f" {_GUARDED}")


def _parse_address(word: str) -> Address:
    return IPv6Address(word) if ":" in word else IPv4Address(word)
