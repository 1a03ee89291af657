"""Service addresses on a real segment: two nodes and a client in namespaces on one bridge."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import pytest

from fabricmgr.wire import Voice
from tests.support.netns import Namespace, namespace
from tests.support.probing import probed

V4, V6 = "192.0.2.60", "2001:db8:60::60"
ROOT = Path(__file__).parents[2]


@dataclass
class Node:
    """A node's namespace; `eth0` on the segment; the Service's addresses on lo, as kube-proxy in IPVS mode has them."""

    where: Namespace
    path: Path
    process: subprocess.Popen[str] | None = None
    said: list[list[Voice]] = field(default_factory=list)
    reader: threading.Thread | None = None

    @property
    def mac(self) -> str:
        shown = msgspec.json.decode(self.where.run("ip", "-j", "link", "show", "eth0").stdout)
        return str(shown[0]["address"])

    def want(self, *addresses: str, term: int = 1) -> None:
        aside = self.path.with_suffix(".new")
        aside.write_text(msgspec.json.encode([[each, term] for each in addresses]).decode())
        aside.rename(self.path)

    def start(self, *words: str) -> None:
        command = self.where.command(sys.executable, "-m", "tests.support.announcing", str(self.path), *words)
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self.reader.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.said.append(msgspec.json.decode(line, type=list[Voice]))

    def kill(self) -> None:
        if self.process is not None and self.reader is not None:
            self.process.kill()
            self.process.wait()
            self.reader.join()
            self.process = None

    def voice(self, address: str) -> Voice:
        now = self.said[-1] if self.said else []
        return next((each for each in now if each.address == address), Voice(address=address, term=0))

    def speaks(self, address: str) -> bool:
        return self.voice(address).speaking


@dataclass
class Segment:
    client: Namespace
    nodes: list[Node]

    def learned(self, address: str) -> str:
        """The MAC that the client finds for an address, asked anew; "" for none."""
        self.client.run("ip", "neigh", "flush", "dev", "eth0")
        reached = self.client.ping(address)
        words = self.client.run("ip", "neigh", "show", address).stdout.split()
        return words[words.index("lladdr") + 1] if reached and "lladdr" in words else ""

    def neighbour(self, address: str) -> str:
        """What it knows without asking."""
        words = self.client.run("ip", "neigh", "show", address).stdout.split()
        return words[words.index("lladdr") + 1] if "lladdr" in words else ""


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    with ExitStack() as stack:
        switch = stack.enter_context(namespace("sw"))
        switch.run("ip", "link", "add", "br0", "type", "bridge")
        switch.run("ip", "link", "set", "br0", "up")
        places = [stack.enter_context(namespace(role)) for role in ("cl", "na", "nb")]
        for at, place in enumerate(places, start=1):
            plug(switch, place, f"p{at}", "eth0", at)
        nodes = [Node(place, tmp_path / f"{at}.json") for at, place in enumerate(places[1:])]
        for node in nodes:
            node.where.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")
            node.where.run("ip", "addr", "add", f"{V4}/32", "dev", "lo")
            node.where.run("ip", "addr", "add", f"{V6}/128", "dev", "lo", "nodad")
            node.want()
            stack.callback(node.kill)
        segment = Segment(places[0], nodes)
        # A link that came up has its IPv6 addresses ready up to a second later.
        for address in ("192.0.2.2", "2001:db8:60::2", "192.0.2.3", "2001:db8:60::3"):
            until(partial(segment.client.ping, address))
        yield segment


def plug(switch: Namespace, place: Namespace, port: str, nic: str, number: int) -> None:
    switch.run("ip", "link", "add", port, "type", "veth", "peer", "name", nic, "netns", place.name)
    switch.run("ip", "link", "set", port, "master", "br0", "up")
    place.run("ip", "link", "set", nic, "up")
    place.run("ip", "addr", "add", f"192.0.2.{number}/24", "dev", nic)
    place.run("ip", "addr", "add", f"2001:db8:60::{number}/64", "dev", nic, "nodad")


def until(true: Callable[[], bool], limit: float = 5.0) -> float:
    """Seconds until it is so; AssertionError after the limit."""
    began = time.monotonic()
    while time.monotonic() - began < limit:
        if true():
            return time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError(f"not so within {limit} seconds")


@pytest.mark.parametrize("address", [V4, V6])
def test_a_neighbour_reaches_an_announced_address_at_the_speaker_and_nobody_when_it_leaves(segment: Segment, address: str) -> None:
    node = segment.nodes[0]
    node.want(address)

    node.start("leased")
    until(lambda: node.speaks(address))
    found = segment.learned(address)
    node.want()
    until(lambda: node.said[-1] == [])

    assert found == node.mac
    assert segment.learned(address) == ""


@pytest.mark.parametrize("address", [V4, V6])
def test_a_successor_takes_over_within_a_second_and_turns_neighbours_to_itself(segment: Segment, address: str) -> None:
    first, second = segment.nodes
    first.want(address)
    first.start("leased")
    until(lambda: first.speaks(address))
    assert segment.learned(address) == first.mac

    first.kill()
    second.want(address, term=2)
    second.start("leased")
    until(lambda: second.speaks(address))

    until(lambda: segment.neighbour(address) == second.mac, 1.0)
    assert segment.client.ping(address)


@pytest.mark.parametrize("address", [V4, V6])
def test_a_successor_that_hears_the_former_speaker_keeps_silent_until_it_falls_silent(segment: Segment, address: str) -> None:
    """A holder that only lost the manager goes on speaking."""
    first, second = segment.nodes
    first.want(address)
    first.start()
    until(lambda: first.speaks(address))
    second.want(address, term=2)

    second.start("leased")
    until(lambda: second.voice(address).conflict == first.mac)
    heard = segment.learned(address)
    spoke = any(each.speaking for said in second.said for each in said)
    first.kill()
    took = until(lambda: second.speaks(address), 3.0)

    assert heard == first.mac
    assert not spoke
    assert took < 1.5


@pytest.mark.parametrize("address", [V4, V6])
def test_a_host_that_asks_for_the_address_without_end_holds_a_successor_up_for_less_than_a_second(segment: Segment, address: str) -> None:
    """A probe claims nothing: it is no foreign answer, and is answered."""
    first, second = segment.nodes
    first.want(address)
    first.start("leased")
    until(lambda: first.speaks(address))

    with probed(segment.client, address):
        time.sleep(0.5)  # some were heard by the one who speaks
        held = first.voice(address)
        first.kill()
        second.want(address, term=2)
        second.start("leased")
        until(lambda: second.voice(address).asking)
        took = until(lambda: second.speaks(address))
        time.sleep(0.5)
        voice = second.voice(address)
    heard = segment.learned(address)

    assert (held.speaking, held.conflict) == (True, "")
    assert took < 0.8
    assert (voice.speaking, voice.conflict) == (True, "")
    assert not any(each.conflict for said in second.said for each in said)
    assert heard == second.mac


def test_a_kernel_elsewhere_that_answers_too_is_named_by_its_mac(segment: Segment) -> None:
    """F028: the address lies on lo of another node whose kernel answers for it."""
    first, second = segment.nodes
    second.where.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0")
    first.want(V4)

    first.start("leased")

    until(lambda: first.voice(V4).conflict == second.mac)
    assert not first.speaks(V4)
    second.where.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")
    until(lambda: first.speaks(V4))
    assert first.voice(V4).conflict == ""


def test_a_speaker_finds_out_that_another_began_to_answer(segment: Segment) -> None:
    """F028, while it speaks: such answers reach only who asks."""
    first, second = segment.nodes
    first.want(V4)
    first.start("leased")
    until(lambda: first.speaks(V4))

    second.where.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0")

    until(lambda: first.voice(V4).conflict == second.mac, 8.0)
    assert first.speaks(V4)


def test_of_two_nics_on_one_segment_exactly_one_answers_with_its_own_mac(segment: Segment) -> None:
    """F028, second run."""
    node = segment.nodes[0]
    node.where.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")
    node.where.run("ip", "link", "add", "eth1", "link", "eth0", "type", "macvlan", "mode", "bridge")
    node.where.run("ip", "link", "set", "eth1", "up")
    node.where.run("ip", "addr", "add", "192.0.2.77/24", "dev", "eth1")
    node.want(V4)

    node.start("leased")
    until(lambda: node.speaks(V4))

    assert {segment.learned(V4) for _ in range(4)} == {node.mac}


def test_a_link_that_goes_down_is_told_at_once_and_the_wire_is_asked_again_when_it_is_back(segment: Segment) -> None:
    node = segment.nodes[0]
    node.want(V4, V6)
    node.start("leased")
    until(lambda: node.speaks(V4) and node.speaks(V6))

    node.where.run("ip", "link", "set", "eth0", "down")
    until(lambda: not node.speaks(V4) and not node.speaks(V6), 1.0)
    node.where.run("ip", "link", "set", "eth0", "up")

    until(lambda: node.speaks(V4))


def test_an_address_on_no_segment_of_the_node_is_not_announced_and_says_so(segment: Segment) -> None:
    node = segment.nodes[0]
    node.want("198.51.100.9")

    node.start("leased")

    until(lambda: bool(node.said))
    assert node.voice("198.51.100.9").reason == "no link of this node is on its segment"
