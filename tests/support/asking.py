"""Asks a segment who has addresses, ten times a second: `python -m tests.support.asking LINK ADDRESS...`, inside a client's namespace.

It asks as one who has the link's addresses: a question from nobody is one who wants to have the address himself (RFC 5227, RFC 4862).
Each answer is a line of JSON: time (monotonic, seconds), address, MAC.
"""

import json
import selectors
import sys
import time
from ipaddress import IPv6Address, ip_address
from struct import pack

from fabricmgr.agent.voice import Said, heard_arp, heard_ndp
from fabricmgr.domain.addresses import Address
from fabricmgr.netlink import arp, ndp
from fabricmgr.netlink.links import addresses, link_named, mac_bytes, mac_text
from fabricmgr.netlink.packets import arp_socket, ndp_socket
from fabricmgr.netlink.sockets import NetlinkSocket

PERIOD = 0.1


def arp_request(mac: bytes, source: Address, target: Address) -> bytes:
    packet = pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, arp.REQUEST, mac, source.packed, bytes(6), target.packed)
    return b"\xff" * 6 + mac + arp.ETHERTYPE.to_bytes(2, "big") + packet


def solicitation(mac: bytes, source: Address, target: IPv6Address) -> bytes:
    group = ndp.solicited_node(target)
    body = pack("!BBHI16sBB6s", ndp.SOLICITATION, 0, 0, 0, target.packed, 1, 1, mac)
    said = ndp.checksum(source.packed, group.packed, body).to_bytes(2, "big")
    head = pack("!IHBB16s16s", 6 << 28, len(body), 58, 255, source.packed, group.packed)
    return ndp.group_mac(group) + mac + ndp.ETHERTYPE.to_bytes(2, "big") + head + body[:2] + said + body[4:]


def ask(name: str, texts: list[str]) -> None:
    route = NetlinkSocket()
    link = link_named(route, name)
    assert link is not None
    own = {each.version: each.ip for index, each in addresses(route) if index == link.index and not each.ip.is_link_local}
    mac, wanted = mac_bytes(link.mac), {ip_address(each) for each in texts}
    sockets = {4: arp_socket(name), 6: ndp_socket(name)}
    with selectors.DefaultSelector() as ready:
        for version, each in sockets.items():
            ready.register(each, selectors.EVENT_READ, version)
        while True:
            for address in wanted:
                source = own[address.version]
                asked = solicitation(mac, source, address) if isinstance(address, IPv6Address) else arp_request(mac, source, address)
                sockets[address.version].send(asked)
            ends = time.monotonic() + PERIOD
            while (left := ends - time.monotonic()) > 0:
                for key, _ in ready.select(left):
                    for frame in sockets[key.data].frames():
                        for heard in (heard_arp if key.data == 4 else heard_ndp)(frame, mac):
                            if heard.said is Said.CLAIM and heard.address in wanted:
                                print(json.dumps([time.monotonic(), str(heard.address), mac_text(heard.mac)]), flush=True)


if __name__ == "__main__":
    ask(sys.argv[1], sys.argv[2:])
