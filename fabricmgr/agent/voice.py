"""One announced address on one link: when to ask the wire, when to answer it, when to keep silent. Packets in, packets out; no IO.

Before it speaks it asks the wire, with three probes (RFC 5227 section 2.1, RFC 4862 section 5.4). Their pauses are shorter than those
RFCs' defaults: who asks here follows another speaker and has less than a second, and a network that needs longer for an answer than
PROBE_PAUSE and PROBE_LISTEN together would be no use to the Service either.

A probe of another's claims nothing. Who speaks answers it; who asks at the same time gives way to it once (RFC 5227 section 2.1.1, RFC 4862
section 5.4.3) and no more: the address is ours to give, and a host that asks for it without end must not silence a Service.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from fabricmgr.domain.addresses import Address
from fabricmgr.netlink import arp, ndp

# Seconds.
PROBES, PROBE_PAUSE, PROBE_LISTEN = 3, 0.08, 0.1
# After it began to speak; some switches and hosts miss the first.
ANNOUNCED_AT = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
# How often one who speaks asks whether somebody else would answer too: such answers go to the one who asked and to nobody else.
WATCH_PERIOD = 5.0
# One who has to keep silent asks again after this and up to twice this.
ASK_AGAIN = 0.3
# One who gives way to another that asks too begins anew after this and up to twice this; two of ours hardly do so at once.
GIVE_WAY = 0.05
# RFC 5227 section 2.4 (b): one who defends his address does so once in this time, and gives it up at a second claim.
DEFEND_INTERVAL = 10.0


class Stage(Enum):
    PROBING = "probing"
    SPEAKING = "speaking"
    SILENT = "silent"  # another answers for it


class Said(Enum):
    """What a packet says of an address: mine; whose; may I have it."""

    CLAIM = "claim"
    ASK = "ask"
    PROBE = "probe"


@dataclass(frozen=True)
class Heard:
    """One statement in a packet. mac: who makes it. reply: the answer to give when one has the address."""

    said: Said
    address: Address
    mac: bytes
    reply: bytes = b""


def heard_arp(frame: bytes, mac: bytes) -> list[Heard]:
    """What an ARP frame says, with replies as the link of `mac` gives them."""
    packet = arp.parse(frame)
    if packet is None:
        return []
    found = []
    if packet.sender != arp.UNSPECIFIED:
        found.append(Heard(Said.CLAIM, packet.sender, packet.sender_mac))
    if packet.operation == arp.REQUEST and packet.target != packet.sender:
        said = Said.PROBE if packet.is_probe else Said.ASK
        found.append(Heard(said, packet.target, packet.sender_mac, arp.answer(mac, packet)))
    return found


def heard_ndp(frame: bytes, mac: bytes) -> list[Heard]:
    """What a neighbour solicitation or advertisement says."""
    message = ndp.parse(frame)
    if message is None:
        return []
    if message.kind == ndp.ADVERTISEMENT:
        return [Heard(Said.CLAIM, message.target, message.mac)]
    said = Said.PROBE if message.is_probe else Said.ASK
    asked = Heard(said, message.target, message.mac, ndp.answer(mac, message))
    return [asked] if message.is_probe else [Heard(Said.CLAIM, message.source, message.mac), asked]


class Speaker:
    """One address, spoken for by one MAC. leased: whether the manager names nobody else now; ours: whether a MAC is this node's."""

    def __init__(
        self,
        address: Address,
        mac: bytes,
        now: float,
        *,
        leased: Callable[[], bool],
        ours: Callable[[bytes], bool],
        chance: Callable[[], float],
    ):
        self.address, self.mac = address, mac
        self.stage = Stage.PROBING
        self.conflict: bytes | None = None
        self.due = now
        self._leased, self._ours, self._chance = leased, ours, chance
        self._sent = 0
        self._gave_way = False
        self._began = now
        self._told = 0
        self._watched_at = now
        self._answered_at = now
        self._defended_at: float | None = None

    # --- time ---

    def tick(self, now: float) -> list[bytes]:
        """What to send now. Sets `due`: when to come again."""
        if now < self.due:
            return []
        if self.stage is Stage.SPEAKING:
            return self._speak(now)
        if self.stage is Stage.SILENT:
            self._begin_to_ask(now)
        return self._ask(now)

    def _begin_to_ask(self, at: float) -> None:
        self.stage, self._sent, self.due = Stage.PROBING, 0, at

    def _ask(self, now: float) -> list[bytes]:
        if self._sent < PROBES:
            self._sent += 1
            self.due = now + (PROBE_PAUSE if self._sent < PROBES else PROBE_LISTEN)
            return [self._probe()]
        self.stage, self.conflict, self._gave_way = Stage.SPEAKING, None, False
        self._began, self._told, self._watched_at, self._defended_at = now, 0, now, None
        return self._speak(now)

    def _speak(self, now: float) -> list[bytes]:
        frames: list[bytes] = []
        while self._told < len(ANNOUNCED_AT) and now >= self._began + ANNOUNCED_AT[self._told]:
            self._told += 1
            frames = self._announcements()
        if now >= self._watched_at + WATCH_PERIOD:
            if self._answered_at < self._watched_at:
                self.conflict = None
            self._watched_at = now
            frames.append(self._probe())
        further = [self._began + ANNOUNCED_AT[self._told]] if self._told < len(ANNOUNCED_AT) else []
        self.due = min([self._watched_at + WATCH_PERIOD, *further])
        return frames

    # --- the wire ---

    def hear(self, heard: Heard, now: float) -> list[bytes]:
        """What to say to a packet about this address."""
        foreign = not self._ours(heard.mac)
        if self.stage is Stage.SPEAKING and heard.said is not Said.CLAIM:
            return [heard.reply]
        if not foreign or heard.said is Said.ASK:
            return []
        if self.stage is Stage.SPEAKING:
            return self._contested(heard.mac, now)
        if self.stage is Stage.PROBING and heard.said is Said.CLAIM:
            self._keep_silent(heard.mac, now)
        elif self.stage is Stage.PROBING and not self._gave_way:
            self._gave_way = True
            self._begin_to_ask(now + GIVE_WAY * (1 + self._chance()))
        return []

    def _contested(self, mac: bytes, now: float) -> list[bytes]:
        """Another speaks too. With the manager's word, or once without it, the address is defended; else it is the other's."""
        self.conflict, self._answered_at = mac, now
        defended = self._defended_at is not None and now < self._defended_at + DEFEND_INTERVAL
        if not defended:
            self._defended_at = now
            return self._announcements()
        if not self._leased():
            self._keep_silent(mac, now)
        return []

    def _keep_silent(self, mac: bytes, now: float) -> None:
        self.stage, self.conflict = Stage.SILENT, mac
        self.due = now + ASK_AGAIN * (1 + self._chance())

    def _probe(self) -> bytes:
        if isinstance(self.address, IPv4Address):
            return arp.probe(self.mac, self.address)
        return ndp.probe(self.mac, self.address)

    def _announcements(self) -> list[bytes]:
        if isinstance(self.address, IPv6Address):
            return ndp.announcements(self.mac, self.address)
        return arp.announcements(self.mac, self.address)
