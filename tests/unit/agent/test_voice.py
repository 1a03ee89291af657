"""When one announced address is asked for, spoken for, defended and left to another; the packets it is done with."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import pytest

from fabricmgr.agent.voice import ANNOUNCED_AT, DEFEND_INTERVAL, PROBES, Heard, Said, Speaker, Stage, heard_arp, heard_ndp
from fabricmgr.domain.addresses import Address
from fabricmgr.netlink import arp, ndp

MINE, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
V4, V6 = IPv4Address("192.0.2.60"), IPv6Address("2001:db8::60")


@dataclass
class Hand:
    """A speaker with a clock turned by hand. sent: every frame, with its time."""

    address: Address = V4
    leased: bool = True
    now: float = 100.0
    mac: bytes = MINE
    chance: float = 0.5
    sent: list[tuple[float, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.speaker = Speaker(
            self.address, self.mac, self.now, leased=lambda: self.leased, ours=lambda mac: mac == self.mac, chance=lambda: self.chance
        )

    def turn(self, seconds: float) -> None:
        """Let time pass, with a tick whenever one is due."""
        end = self.now + seconds
        while self.speaker.due <= end:
            self.now = max(self.now, self.speaker.due)
            self.sent += [(self.now, frame) for frame in self.speaker.tick(self.now)]
        self.now = end

    def hear(self, said: Said, mac: bytes = OTHER, reply: bytes = b"reply") -> list[bytes]:
        return self.speaker.hear(Heard(said, self.address, mac, reply), self.now)


@pytest.mark.parametrize("address", [V4, V6])
def test_an_address_is_asked_for_three_times_before_it_is_spoken_for(address: Address) -> None:
    hand = Hand(address)

    hand.turn(0.2)
    asked = [frame for _, frame in hand.sent]
    stage = hand.speaker.stage
    hand.turn(0.1)

    understood = heard_arp if address.version == 4 else heard_ndp
    assert len(asked) == PROBES
    assert {each.said for frame in asked for each in understood(frame, OTHER)} == {Said.PROBE}
    assert stage is Stage.PROBING
    assert hand.speaker.stage is Stage.SPEAKING


def test_who_begins_to_speak_says_so_several_times() -> None:
    hand = Hand()

    hand.turn(4.5)

    claims = [at for at, frame in hand.sent if any(each.said is Said.CLAIM for each in heard_arp(frame, OTHER))]
    assert len(set(claims)) == len([each for each in ANNOUNCED_AT if each < 4.0])


def test_nobody_is_answered_while_the_wire_is_asked() -> None:
    hand = Hand()
    hand.turn(0.05)

    assert hand.hear(Said.ASK) == []


def test_questions_and_probes_are_answered_once_it_speaks() -> None:
    hand = Hand()
    hand.turn(0.5)

    assert hand.hear(Said.ASK) == [b"reply"]
    assert hand.hear(Said.PROBE) == [b"reply"]


def test_another_that_has_it_keeps_it_silent_until_the_wire_is_free() -> None:
    hand = Hand()
    hand.turn(0.05)

    hand.hear(Said.CLAIM)
    silent = (hand.speaker.stage, hand.speaker.conflict)
    hand.turn(1.0)

    assert silent == (Stage.SILENT, OTHER)
    assert hand.speaker.stage is Stage.SPEAKING
    assert hand.speaker.conflict is None


@pytest.mark.parametrize("first", [0.0, 0.1, 0.25])
def test_another_that_asks_without_end_is_given_way_to_once_and_is_no_conflict(first: float) -> None:
    """RFC 5227 section 2.1.1, bounded: whoever the manager names speaks within 0.65 s at the latest."""
    hand = Hand()
    began, conflicts = hand.now, set()
    hand.turn(first)

    while hand.speaker.stage is not Stage.SPEAKING and hand.now < began + 5:
        hand.hear(Said.PROBE)
        conflicts.add(hand.speaker.conflict)
        hand.turn(0.02)

    took = hand.now - began
    assert conflicts == {None}
    assert first + 0.26 < took <= 0.65
    assert hand.hear(Said.PROBE) == [b"reply"]
    assert hand.speaker.conflict is None


def test_a_claim_is_heard_also_while_it_gives_way() -> None:
    hand = Hand()
    hand.turn(0.05)
    hand.hear(Said.PROBE)

    hand.hear(Said.CLAIM)

    assert (hand.speaker.stage, hand.speaker.conflict) == (Stage.SILENT, OTHER)


@pytest.mark.parametrize("apart", [0.0, 0.01, 0.06, 0.13, 0.2, 0.25])
def test_of_two_of_ours_that_ask_at_the_same_time_one_speaks_at_last(apart: float) -> None:
    """Both hear all that the other says; the manager's word is with one of them."""
    one, two = Hand(chance=0.2), Hand(leased=False, mac=OTHER, chance=0.8)
    one.turn(apart)
    two.now = two.speaker.due = one.now
    for _ in range(1000):
        exchange(one, two)
        exchange(two, one)

    assert [one.speaker.stage, two.speaker.stage].count(Stage.SPEAKING) == 1


def exchange(sender: "Hand", other: "Hand") -> None:
    """A hundredth of a second of one, which the other hears, and whose answers come back."""
    sender.turn(0.01)
    frames = [frame for _, frame in sender.sent]
    sender.sent.clear()
    for frame in frames:
        for answer in [said for heard in heard_arp(frame, other.mac) for said in other.speaker.hear(heard, other.now)]:
            for back in heard_arp(answer, sender.mac):
                sender.speaker.hear(back, sender.now)


def test_its_own_node_is_no_conflict() -> None:
    hand = Hand()
    hand.turn(0.05)

    hand.hear(Said.CLAIM, MINE)

    assert hand.speaker.stage is Stage.PROBING


def test_with_the_managers_word_a_contested_address_is_defended_once_and_kept() -> None:
    hand = Hand()
    hand.turn(0.5)

    first, second = hand.hear(Said.CLAIM), hand.hear(Said.CLAIM)

    assert first != []
    assert second == []
    assert (hand.speaker.stage, hand.speaker.conflict) == (Stage.SPEAKING, OTHER)


def test_without_the_managers_word_it_is_left_to_the_other_at_the_second_claim() -> None:
    hand = Hand(leased=False)
    hand.turn(0.5)

    hand.hear(Said.CLAIM)
    defended = hand.speaker.stage
    hand.hear(Said.CLAIM)

    assert defended is Stage.SPEAKING
    assert hand.speaker.stage is Stage.SILENT


def test_claims_far_apart_are_each_defended() -> None:
    hand = Hand(leased=False)
    hand.turn(0.5)
    hand.hear(Said.CLAIM)

    hand.turn(DEFEND_INTERVAL + 1)

    assert hand.hear(Said.CLAIM) != []
    assert hand.speaker.stage is Stage.SPEAKING


def test_a_conflict_that_is_heard_no_more_is_forgotten() -> None:
    hand = Hand()
    hand.turn(0.5)
    hand.hear(Said.CLAIM)

    hand.turn(11.0)

    assert hand.speaker.conflict is None


def test_a_solicitation_is_answered_to_the_one_who_asked_with_the_override_flag() -> None:
    asked = ndp.Neighbour(ndp.SOLICITATION, OTHER, IPv6Address("2001:db8::1"), V6, OTHER)

    frame = ndp.answer(MINE, asked)
    answered = ndp.parse(frame)

    assert answered is not None
    assert (answered.kind, answered.target, answered.mac) == (ndp.ADVERTISEMENT, V6, MINE)
    assert frame[:6] == OTHER
    assert frame[58] == 0x60  # solicited, override


@pytest.mark.parametrize("cut", [0, 13, 41, 53])
def test_frames_cut_short_say_nothing(cut: int) -> None:
    assert heard_arp(arp.probe(MINE, V4)[: min(cut, 41)], OTHER) == []
    assert heard_ndp(ndp.probe(MINE, V6)[:cut], OTHER) == []


def test_a_message_with_a_wrong_checksum_says_nothing() -> None:
    frame = bytearray(ndp.probe(MINE, V6))
    frame[-1] ^= 1

    assert heard_ndp(bytes(frame), OTHER) == []
