"""Answers neighbours for the Service addresses that this node announces, on the link whose segment covers each.

What shall be announced stands in the desired state, which outlives the manager's absence: then this node goes on speaking. It stops when
an announcement leaves the desired state, when its link goes down, or when the agent ends.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address

from fabricmgr.agent.links import LIVE, REAP, Kernel
from fabricmgr.agent.voice import Heard, Speaker, Stage, heard_arp, heard_ndp
from fabricmgr.domain.addresses import Address, parse_address
from fabricmgr.domain.errors import KernelRefused
from fabricmgr.loop import Outcome
from fabricmgr.netlink.links import Link, all_links, mac_bytes, mac_text
from fabricmgr.netlink.ndp import solicited_node
from fabricmgr.netlink.packets import Groups, LinkWatch, PacketSocket, arp_socket, ndp_socket
from fabricmgr.netlink.routes import Route, routes
from fabricmgr.problems import sentence
from fabricmgr.wire import Announce, Announced, Voice

log = logging.getLogger(__name__)

# Seconds between looks at links and routes; a link that goes down is noticed at once all the same.
LOOK_PERIOD = 5.0
PODS = frozenset((LIVE, REAP))


@dataclass
class Nic:
    """A link we speak on, with its sockets by IP version."""

    link: Link
    sockets: dict[int, PacketSocket]

    @property
    def mac(self) -> bytes:
        return mac_bytes(self.link.mac)


@dataclass
class Announcement:
    """One of the desired state. nic and speaker: None while no link can carry it. reason: why it does not speak."""

    address: Address
    term: int
    nic: Nic | None = None
    speaker: Speaker | None = None
    reason: str = "no look at the links was taken yet"

    def voice(self) -> Voice:
        """As the manager is told."""
        speaker = self.speaker
        if speaker is None:
            return Voice(address=str(self.address), term=self.term, reason=self.reason)
        conflict = mac_text(speaker.conflict) if speaker.conflict else ""
        if speaker.stage is Stage.SPEAKING:
            return Voice(address=str(self.address), term=self.term, speaking=True, conflict=conflict)
        reason = f"{conflict} answers for it" if conflict else "the wire is being asked"
        return Voice(address=str(self.address), term=self.term, asking=True, conflict=conflict, reason=reason)


class Announcer:
    """All announcements of a node. `once` is its loop's pass; `woken` starts one; `changed` tells that `voices` say something else."""

    def __init__(
        self,
        kernel: Kernel,
        wanted: Callable[[], Iterable[Announce]],
        bridges: Callable[[], set[str]],
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ):
        self.woken: Callable[[], None] = lambda: None
        self.changed: Callable[[], None] = lambda: None
        self._kernel, self._wanted, self._bridges = kernel, wanted, bridges
        self._clock, self._chance = clock, chance
        self._held: dict[Address, Announcement] = {}
        self._nics: dict[int, Nic] = {}
        self._macs: frozenset[bytes] = frozenset()
        self._leases: dict[Address, float] = {}
        self._groups: Groups | None = None
        self._watch: LinkWatch | None = None
        self._look_at = 0.0
        self._last: list[Voice] = []

    def voices(self) -> list[Voice]:
        """What becomes of each announcement."""
        return [each.voice() for each in self._held.values()]

    def leased(self, answer: Announced) -> None:
        """The manager's answer to a beat."""
        now = self._clock()
        self._leases = {parse_address(each.address): now + each.until_ms / 1000 for each in answer.leases}

    async def once(self) -> Outcome:
        """Take up, drop, ask, announce: whatever is due."""
        now = self._clock()
        wanted = {parse_address(each.address): each.term for each in self._wanted()}
        if not wanted and not self._held:
            self._close()
            return Outcome.done("nothing is announced here")
        try:
            self._follow(wanted, now)
        except KernelRefused as error:
            return Outcome.again(1.0, f"{len(self._held)} addresses are announced; {sentence(error)}")
        for each in self._held.values():
            if each.speaker is not None:
                self._send(each, each.speaker.tick(now))
        self._tell()
        dues = [each.speaker.due for each in self._held.values() if each.speaker is not None]
        speaking = sum(each.speaking for each in self._last)
        return Outcome.again(max(0.0, min([self._look_at, *dues]) - now), f"{speaking} of {len(self._held)} addresses are announced")

    def stop(self) -> None:
        """Be silent at once and for good."""
        for address in list(self._held):
            self._drop(address)
        self._wanted = tuple
        self._close()

    # --- what shall be announced, and where ---

    def _follow(self, wanted: dict[Address, int], now: float) -> None:
        gone = [address for address in self._held if address not in wanted]
        for address in gone:
            self._drop(address)
        new = [address for address in wanted if address not in self._held]
        for address in new:
            self._held[address] = Announcement(address, wanted[address])
        for address, term in wanted.items():
            self._held[address].term = term
        if new or now >= self._look_at:
            self._look(now)

    def _look(self, now: float) -> None:
        """Find the link for each address, and begin on it; let go of those whose link is down or another now."""
        self._look_at = now + LOOK_PERIOD
        if self._watch is None:
            self._watch = LinkWatch(self._links_changed)
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._watch.drain)
        links = {each.index: each for each in all_links(self._kernel.route)}
        self._macs = frozenset(mac_bytes(each.mac) for each in links.values())
        usable = [each for each in links.values() if self._is_nic(each)]
        known = routes(self._kernel.route)
        for each in self._held.values():
            self._place(each, covering(each.address, usable, known), now)

    def _is_nic(self, link: Link) -> bool:
        return len(link.mac) == 17 and link.group not in PODS and link.name not in self._bridges() and link.name != "lo"

    def _place(self, each: Announcement, link: Link | None, now: float) -> None:
        if (
            each.nic is not None
            and link is not None
            and (link.index, link.mac) == (each.nic.link.index, each.nic.link.mac)
            and link.operational
        ):
            return
        self._leave(each)
        if link is None:
            each.reason = "no link of this node is on its segment"
        elif not (link.up and link.operational):
            each.reason = f"link {link.name} is down"
        else:
            self._begin(each, link, now)

    def _begin(self, each: Announcement, link: Link, now: float) -> None:
        nic = self._nics.get(link.index)
        if nic is None or nic.link.mac != link.mac or nic.link.name != link.name:
            nic = self._nics[link.index] = Nic(link, {})
        version = each.address.version
        if version not in nic.sockets:
            nic.sockets[version] = arp_socket(link.name) if version == 4 else ndp_socket(link.name)
            asyncio.get_running_loop().add_reader(nic.sockets[version].fileno(), partial(self._heard, nic, version))
        if isinstance(each.address, IPv6Address):
            self._groups = self._groups or Groups()
            self._groups.join(link.index, solicited_node(each.address))
        each.nic, each.reason = nic, ""
        each.speaker = Speaker(
            each.address,
            nic.mac,
            now,
            leased=lambda: self._leases.get(each.address, 0.0) > self._clock(),
            ours=lambda mac: mac in self._macs,
            chance=self._chance,
        )

    # --- letting go ---

    def _drop(self, address: Address) -> None:
        self._leave(self._held.pop(address))

    def _leave(self, each: Announcement) -> None:
        nic, each.nic, each.speaker = each.nic, None, None
        if nic is None:
            return
        others = [other for other in self._held.values() if other.nic is nic and other is not each]
        if isinstance(each.address, IPv6Address) and self._groups is not None:
            group = solicited_node(each.address)
            # Addresses with the same last three bytes share their group.
            if not any(isinstance(other.address, IPv6Address) and solicited_node(other.address) == group for other in others):
                with suppress(KernelRefused):
                    self._groups.leave(nic.link.index, group)
        if not any(other.address.version == each.address.version for other in others):
            self._close_socket(nic, each.address.version)

    def _close_socket(self, nic: Nic, version: int) -> None:
        sock = nic.sockets.pop(version, None)
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        if not nic.sockets and self._nics.get(nic.link.index) is nic:
            del self._nics[nic.link.index]

    def _close(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None
        if self._groups is not None:
            self._groups.close()
            self._groups = None
        self._tell()

    # --- packets ---

    def _heard(self, nic: Nic, version: int) -> None:
        understand = heard_arp if version == 4 else heard_ndp
        for frame in nic.sockets[version].frames():
            for heard in understand(frame, nic.mac):
                self._hear(nic, heard)

    def _hear(self, nic: Nic, heard: Heard) -> None:
        """An answer leaves by the link the question came by, with that link's MAC; on other links of ours the question stays unanswered."""
        each = self._held.get(heard.address)
        if each is None or each.speaker is None or each.nic is not nic:
            return
        due = each.speaker.due
        self._send(each, each.speaker.hear(heard, self._clock()))
        if each.speaker.due != due:
            self.woken()
        self._tell()

    def _send(self, each: Announcement, frames: Sequence[bytes]) -> None:
        if each.nic is not None:
            for frame in frames:
                each.nic.sockets[each.address.version].send(frame)

    def _links_changed(self, indices: frozenset[int]) -> None:
        """Of links, only ours count: pods' links come and go all the time."""
        waiting = any(each.nic is None for each in self._held.values())
        if waiting or not indices or indices & self._nics.keys():
            self._look_at = 0.0
            self.woken()

    def _tell(self) -> None:
        voices = self.voices()
        if voices != self._last:
            self._last = voices
            self.changed()


def covering(address: Address, links: Iterable[Link], known: Iterable[Route]) -> Link | None:
    """The link on whose segment an address lies: that of the longest on-link route to it, one that is up before one that is down, then the
    lowest index. A default route says nothing of a segment."""
    by_index = {each.index: each for each in links}
    found = [
        (not by_index[route.link].operational, -route.prefix.prefixlen, route.link)
        for route in known
        if route.via is None and route.link in by_index and route.prefix.prefixlen and address in route.prefix
    ]
    return by_index[min(found)[2]] if found else None
