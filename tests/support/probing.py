"""A host that asks for addresses without end, as one does that wants them (RFC 5227 section 2.1.1, RFC 4862 section 5.4.3) and never takes
no for an answer: `python -m tests.support.probing LINK ADDRESS...`, inside its namespace. Ten probes a second for each.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from fabricmgr.netlink import arp, ndp
from fabricmgr.netlink.links import link_named, mac_bytes
from fabricmgr.netlink.packets import arp_socket, ndp_socket
from fabricmgr.netlink.sockets import NetlinkSocket
from tests.support.netns import Namespace

PERIOD = 0.1
ROOT = Path(__file__).parents[2]


@contextmanager
def probed(where: Namespace, *addresses: str) -> Iterator[None]:
    """A host in a namespace with a link eth0 does so, from now until the end."""
    words = where.command(sys.executable, "-m", "tests.support.probing", "eth0", *addresses)
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "it began\n"
        yield
    finally:
        process.kill()
        process.communicate()


def probe_for_ever(name: str, texts: Sequence[str]) -> None:
    link = link_named(NetlinkSocket(), name)
    assert link is not None
    mac, sockets = mac_bytes(link.mac), {4: arp_socket(name), 6: ndp_socket(name)}
    wanted = [ip_address(each) for each in texts]
    frames = [(each.version, ndp.probe(mac, each) if isinstance(each, IPv6Address) else arp.probe(mac, each)) for each in wanted]
    for number in range(sys.maxsize):
        for version, frame in frames:
            sockets[version].send(frame)
        if number == 0:
            print("it began", flush=True)
        time.sleep(PERIOD)


if __name__ == "__main__":
    probe_for_ever(sys.argv[1], sys.argv[2:])
