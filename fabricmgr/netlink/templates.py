"""The messages of an ADD, encoded once by pyroute2 and patched per call.

pyroute2's classes need 0.8 ms to encode one ADD, patching needs microseconds. A template is encoded with marked values; where each mark
lies is found in the bytes, and every mark must be found as often as it was put in. A property test holds both
encodings equal, byte for byte.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from struct import Struct
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from fabricmgr.netlink.codec import Flag
from fabricmgr.netlink.links import FAMILY, NEWADDR, NEWLINK, NO_DETECTION, UP, mac_bytes
from fabricmgr.netlink.routes import MAIN, NEWROUTE, ONLINK, UNICAST

HostAddress = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

HOST_NAME_LENGTH = 15
_CREATE = Flag.REQUEST | Flag.CREATE | Flag.EXCL
_NATIVE = Struct("=I")

# Marks: values that no other part of a message looks like.
_MARK_NAME = "fm" + "QZ7x" * 3 + "Q"
_MARK_HOST_MAC, _MARK_POD_MAC = "02:a1:b2:c3:d4:e5", "02:f5:e4:d3:c2:b1"
_MARK_MTU, _MARK_FD, _MARK_BRIDGE, _MARK_INDEX = 0x7A6B5C4D, 0x5E6F7A1B, 0x4C3D2E1F, 0x6A7B8C9D
_MARK_ADDRESS: dict[int, HostAddress] = {4: IPv4Address("201.87.213.99"), 6: IPv6Address("2001:db8:a1b2:c3d4:e5f6:789a:bcde:f013")}


@dataclass(frozen=True)
class Template:
    """A message, and the places of its values."""

    data: bytes
    places: dict[str, tuple[int, ...]]

    def fill(self, **values: bytes) -> bytearray:
        """The message with these values; each is as long as the one it takes the place of."""
        filled = bytearray(self.data)
        for name, value in values.items():
            for at in self.places[name]:
                filled[at : at + len(value)] = value
        return filled


def native(number: int) -> bytes:
    """Four bytes in the machine's order."""
    return _NATIVE.pack(number)


@lru_cache(maxsize=64)
def veth_template(ifname: str, group: int) -> Template:
    """Make a pair in one message: the host end on its bridge, the other inside the pod's namespace, both down.

    Values: name, host_mac, pod_mac, mtu, bridge, namespace."""
    data = encode_veth(_MARK_NAME, _MARK_HOST_MAC, _MARK_BRIDGE, group, ifname, _MARK_POD_MAC, _MARK_MTU, _MARK_FD)
    marks = {
        "name": (_MARK_NAME.encode(), 1),
        "host_mac": (mac_bytes(_MARK_HOST_MAC), 1),
        "pod_mac": (mac_bytes(_MARK_POD_MAC), 1),
        "mtu": (native(_MARK_MTU), 2),
        "bridge": (native(_MARK_BRIDGE), 1),
        "namespace": (native(_MARK_FD), 1),
    }
    return _template(data, marks)


@lru_cache(maxsize=2)
def address_template(version: int) -> Template:
    """Put a host address on a link. Values: index, address."""
    mark = _MARK_ADDRESS[version]
    return _template(encode_address(_MARK_INDEX, mark), {"index": (native(_MARK_INDEX), 1), "address": (mark.packed, 2)})


@lru_cache(maxsize=1)
def up_template() -> Template:
    """Take a link up. Values: index."""
    return _template(encode_up(_MARK_INDEX), {"index": (native(_MARK_INDEX), 1)})


@lru_cache(maxsize=512)
def route_template(prefix: Prefix, via: HostAddress) -> Template:
    """A route inside a pod: through a gateway that no prefix of the pod covers. Values: index."""
    return _template(encode_route(_MARK_INDEX, prefix, via), {"index": (native(_MARK_INDEX), 1)})


def encode_veth(name: str, host_mac: str, bridge: int, group: int, ifname: str, pod_mac: str, mtu: int, namespace: int) -> bytes:
    """pyroute2's encoding of the pair's message.

    One queue each way: a veth takes no lock of a queue, and the kernel would make a tree in sysfs for each CPU's. Measured with two CPUs
    that is a third of the time; with more it grows."""
    queues = [("IFLA_NUM_TX_QUEUES", 1), ("IFLA_NUM_RX_QUEUES", 1)]
    peer = [("IFLA_IFNAME", ifname), ("IFLA_ADDRESS", pod_mac), ("IFLA_MTU", mtu), ("IFLA_NET_NS_FD", namespace), *queues]
    pair = {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]}
    attrs = [
        ("IFLA_IFNAME", name),
        ("IFLA_ADDRESS", host_mac),
        ("IFLA_MTU", mtu),
        ("IFLA_MASTER", bridge),
        ("IFLA_GROUP", group),
        *queues,
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", pair)]}),
    ]
    return _encode(ifinfmsg(), NEWLINK, _CREATE, {}, attrs)


def encode_address(index: int, address: HostAddress) -> bytes:
    """pyroute2's encoding of an address message: IPv6 without duplicate detection, since the allocator has made it unique."""
    attrs: list[tuple[str, Any]] = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address))]
    if address.version == 6:
        attrs.append(("IFA_FLAGS", NO_DETECTION))
    fields = {"family": FAMILY[address.version], "prefixlen": address.max_prefixlen, "index": index}
    return _encode(ifaddrmsg(), NEWADDR, _CREATE, fields, attrs)


def encode_up(index: int) -> bytes:
    """pyroute2's encoding of "up"."""
    return _encode(ifinfmsg(), NEWLINK, Flag.REQUEST, {"index": index, "flags": UP, "change": UP}, [])


def encode_route(index: int, prefix: Prefix, via: HostAddress) -> bytes:
    """pyroute2's encoding of a pod's route. EXCL: IPv6 would else make it one more hop of a route that is there."""
    fields = {"family": FAMILY[prefix.version], "dst_len": prefix.prefixlen, "table": MAIN, "proto": 4, "type": UNICAST, "flags": ONLINK}
    attrs: list[tuple[str, Any]] = [("RTA_DST", str(prefix.network_address))] if prefix.prefixlen else []
    attrs += [("RTA_GATEWAY", str(via)), ("RTA_OIF", index)]
    return _encode(rtmsg(), NEWROUTE, _CREATE, fields, attrs)


def _encode(into: Any, kind: int, flags: int, fields: dict[str, int], attrs: list[tuple[str, Any]]) -> bytes:
    into["header"]["type"], into["header"]["flags"] = kind, int(flags)
    for name, value in fields.items():
        into[name] = value
    into["attrs"] = attrs
    into.encode()
    return bytes(into.data)


def _template(data: bytes, marks: dict[str, tuple[bytes, int]]) -> Template:
    places = {name: _find(data, mark) for name, (mark, _) in marks.items()}
    for name, (_, times) in marks.items():
        if len(places[name]) != times:
            raise AssertionError(f"mark {name} is in the message {len(places[name])} times instead of {times}")
    return Template(data, places)


def _find(data: bytes, mark: bytes) -> tuple[int, ...]:
    found, at = [], data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + 1)
    return tuple(found)
