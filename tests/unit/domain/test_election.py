"""Which node announces an address: every rule, by what nodes are and what they said."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from fabricmgr.domain.election import (
    EXCLUDED,
    FAILED_FOR,
    LAPSE,
    SETTLED,
    Candidate,
    Field,
    Stage,
    Standing,
    Wish,
    Word,
    elect,
    spread,
    wish_of,
)

ADDRESS = ip_address("192.0.2.60")
SEGMENT = (ip_network("192.0.2.0/24"),)
MACS = {1: "02:00:00:00:00:01", 2: "02:00:00:00:00:02", 3: "02:00:00:00:00:03"}
FOREIGN = "02:ff:ff:ff:ff:ff"
ANYWHERE = Wish()
HEARD, UNHEARD = 0.3, LAPSE + 0.1
LONG = 60.0


def node(number: int, **more: Any) -> Candidate:
    plain = Candidate(number, f"n{number}", f"kube-n{number}", SEGMENT, frozenset({MACS[number]}), beat=HEARD)
    return replace(plain, **more)


def field(*nodes: Candidate, led: float = LONG, label: bool = True) -> Field:
    return Field({each.id: each for each in nodes}, led, label)


def held(by: int, term: int = 1, **more: Any) -> Standing:
    return replace(Standing(ADDRESS, term, by, state="speaking"), **more)


def speaks(term: int = 1, told: float = LONG) -> Word:
    return Word(Stage.SPEAKING, term, told=told)


def first_of(*numbers: int) -> int:
    return min(numbers, key=lambda each: spread(ADDRESS, f"n{each}"))


def test_an_address_that_nobody_has_goes_to_the_first_node_in_its_own_order() -> None:
    found = elect(Standing(ADDRESS), ANYWHERE, {}, field(node(1), node(2), node(3)))

    assert (found.holder, found.successor, found.term, found.state) == (first_of(1, 2, 3), None, 1, "probing")


def test_addresses_spread_over_the_nodes() -> None:
    addresses = [ip_address(f"192.0.2.{each}") for each in range(1, 201)]

    found = [elect(Standing(each), ANYWHERE, {}, field(node(1), node(2))).holder for each in addresses]

    assert 70 < found.count(1) < 130


def test_nothing_moves_an_address_that_is_spoken_for() -> None:
    other = first_of(1, 2)
    before = held(3 - other)

    found = elect(before, ANYWHERE, {3 - other: speaks()}, field(node(1), node(2)))

    assert found == before


def test_an_address_that_nobody_wants_has_no_speaker_and_counts_on() -> None:
    found = elect(held(1, successor=2, conflict=FOREIGN), None, {1: speaks()}, field(node(1), node(2)))

    assert (found.holder, found.successor, found.term, found.state, found.conflict) == (None, None, 2, "unassigned", "")


def test_a_holder_that_says_it_stopped_or_cannot_is_followed_at_once() -> None:
    stopped = Word(Stage.SILENT, 1, told=LONG, failed=0.0)

    found = elect(held(1), ANYWHERE, {1: stopped}, field(node(1), node(2)))

    assert (found.holder, found.successor, found.term) == (2, None, 2)


def test_where_no_other_node_could_the_holder_stays_and_says_why_it_does_not_speak() -> None:
    cannot = Word(Stage.SILENT, 1, reason="link eth0 is down", told=LONG, failed=LONG)

    found = elect(held(1), ANYWHERE, {1: cannot}, field(node(1)))

    assert (found.holder, found.state, found.reason) == (1, "probing", "n1 cannot announce it: link eth0 is down")


def test_a_node_that_could_not_a_moment_ago_is_asked_last() -> None:
    first = first_of(1, 2)
    word = Word(Stage.SILENT, 1, told=LONG, failed=FAILED_FOR - 1)

    soon = elect(Standing(ADDRESS), ANYWHERE, {first: word}, field(node(1), node(2)))
    later = elect(Standing(ADDRESS), ANYWHERE, {first: replace(word, failed=FAILED_FOR + 1)}, field(node(1), node(2)))

    assert (soon.holder, later.holder) == (3 - first, first)


def test_for_a_holder_that_is_not_heard_a_successor_is_named_and_the_holder_stays() -> None:
    found = elect(held(1), ANYWHERE, {1: speaks()}, field(node(1, beat=UNHEARD), node(2)))

    assert (found.holder, found.successor, found.term, found.state) == (1, 2, 1, "speaking")
    assert found.reason == "n1 announces it and is not heard"


@pytest.mark.parametrize(
    ("beat", "told", "led"),
    [(HEARD, LONG, LONG), (UNHEARD, HEARD, LONG), (UNHEARD, LONG, SETTLED - 0.1)],
    ids=["it was heard", "it was told a moment ago", "we lead since a moment ago"],
)
def test_a_silence_that_is_too_short_to_count_names_nobody(beat: float, told: float, led: float) -> None:
    found = elect(held(1), ANYWHERE, {1: speaks(told=told)}, field(node(1, beat=beat), node(2), led=led))

    assert (found.holder, found.successor) == (1, None)


def test_a_successor_that_speaks_is_the_holder_then() -> None:
    words = {1: speaks(), 2: speaks(term=2, told=0.5)}

    found = elect(held(1, successor=2), ANYWHERE, words, field(node(1, beat=UNHEARD), node(2)))

    assert (found.holder, found.successor, found.term, found.state, found.reason) == (2, None, 2, "speaking", "")


def test_what_a_successor_said_in_an_earlier_term_does_not_make_it_the_holder() -> None:
    words = {1: speaks(term=5), 2: speaks(term=3, told=0.5)}

    found = elect(held(1, term=5, successor=2), ANYWHERE, words, field(node(1, beat=UNHEARD), node(2)))

    assert (found.holder, found.successor) == (1, 2)


def test_a_holder_that_only_lost_the_manager_goes_on_while_its_successor_hears_it() -> None:
    words = {1: speaks(), 2: Word(Stage.PROBING, 2, conflict=MACS[1], told=LONG)}

    found = elect(held(1, successor=2), ANYWHERE, words, field(node(1, beat=LONG), node(2)))

    assert (found.holder, found.successor, found.term, found.conflict) == (1, 2, 1, "")
    assert found.reason == "n1 announces it and is not heard and goes on answering"


def test_a_holder_that_is_heard_again_needs_no_successor() -> None:
    words = {1: speaks(), 2: Word(Stage.PROBING, 2, conflict=MACS[1], told=LONG)}

    found = elect(held(1, successor=2), ANYWHERE, words, field(node(1), node(2)))

    assert (found.holder, found.successor, found.term, found.reason) == (1, None, 1, "")


def test_a_holder_that_comes_back_too_late_finds_its_successor_speaking() -> None:
    words = {1: Word(Stage.PROBING, 1, conflict=MACS[2], told=LONG), 2: speaks(term=2, told=2.0)}

    found = elect(held(1, successor=2), ANYWHERE, words, field(node(1), node(2)))

    assert (found.holder, found.term, found.conflict) == (2, 2, "")


@pytest.mark.parametrize("word", [Word(Stage.TOLD, 2, told=UNHEARD), Word(Stage.SILENT, 2, told=0.3, failed=0.1)])
def test_a_successor_that_is_not_heard_or_cannot_is_followed_by_another(word: Word) -> None:
    beat = UNHEARD if word.stage is Stage.TOLD else HEARD

    found = elect(held(1, successor=2), ANYWHERE, {1: speaks(), 2: word}, field(node(1, beat=UNHEARD), node(2, beat=beat), node(3)))

    assert (found.holder, found.successor) == (1, 3)


def test_a_node_that_let_go_of_an_address_and_announces_nothing_since_may_be_its_successor() -> None:
    words = {1: speaks(), 2: Word(Stage.SILENT, 1, told=LONG)}

    found = elect(held(1), ANYWHERE, words, field(node(1, beat=UNHEARD), node(2, beat=LONG)))

    assert (found.holder, found.successor) == (1, 2)


def test_a_node_that_is_gone_is_followed_at_once() -> None:
    found = elect(held(1), ANYWHERE, {1: speaks()}, field(node(2)))

    assert (found.holder, found.term) == (2, 2)


def test_a_labelled_node_is_not_chosen_while_another_may_and_moves_its_addresses() -> None:
    """F022."""
    chosen = elect(Standing(ADDRESS), ANYWHERE, {}, field(node(1, excluded=True), node(2)))
    moved = elect(held(1), ANYWHERE, {1: speaks()}, field(node(1, excluded=True), node(2)))

    assert (chosen.holder, moved.holder, moved.term) == (2, 2, 2)


def test_where_every_node_is_labelled_nobody_announces_and_the_reason_names_the_label() -> None:
    """F022."""
    nodes = node(1, excluded=True), node(2, excluded=True)
    found = elect(held(1), ANYWHERE, {1: speaks()}, field(*nodes))
    ignored = elect(held(1), ANYWHERE, {1: speaks()}, field(*nodes, label=False))

    assert (found.holder, found.state) == (None, "unassigned")
    assert found.reason == f"every node on its segment is excluded by the label {EXCLUDED}"
    assert ignored.holder == 1


def test_with_local_traffic_the_address_follows_the_ready_endpoint() -> None:
    there, nowhere = Wish(frozenset({"kube-n2"})), Wish(frozenset())

    moved = elect(held(1), there, {1: speaks()}, field(node(1), node(2)))
    nobody = elect(held(1), nowhere, {1: speaks()}, field(node(1), node(2)))

    assert (moved.holder, moved.term) == (2, 2)
    assert (nobody.holder, "has a ready endpoint" in nobody.reason) == (None, True)


def test_services_that_share_an_address_are_announced_where_all_of_them_are_served() -> None:
    one, two = frozenset({"a", "b"}), frozenset({"b", "c"})

    assert wish_of([None, None]) == ANYWHERE
    assert wish_of([one, two]) == Wish(frozenset({"b"}))
    assert wish_of([one, frozenset({"c"})]) == Wish(frozenset({"a", "b", "c"}))


def test_a_node_that_is_not_on_the_segment_is_none_to_choose() -> None:
    far = node(1, segments=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/64")))

    chosen = elect(Standing(ADDRESS), ANYWHERE, {}, field(far, node(2)))
    nobody = elect(Standing(ADDRESS), ANYWHERE, {}, field(far))

    assert chosen.holder == 2
    assert (nobody.holder, nobody.reason) == (None, "no node has a link that is up with an address on its segment")


@pytest.mark.parametrize("state", [{"ready": False}, {"faulty": True}])
def test_a_node_that_is_not_well_is_left_for_one_that_is_and_kept_where_none_is(state: dict[str, bool]) -> None:
    left = elect(held(1), ANYWHERE, {1: speaks()}, field(node(1, **state), node(2)))
    kept = elect(held(1), ANYWHERE, {1: speaks()}, field(node(1, **state), node(2, **state)))

    assert (left.holder, kept.holder) == (2, 1)


def test_a_foreign_answerer_is_named_and_moves_nothing() -> None:
    """F028: any node would hear it."""
    words = {1: Word(Stage.PROBING, 1, conflict=FOREIGN, told=LONG)}

    found = elect(held(1), ANYWHERE, words, field(node(1), node(2)))

    assert (found.holder, found.conflict, found.state) == (1, FOREIGN, "probing")


def test_the_kernel_of_a_node_without_a_part_in_it_is_a_foreign_answerer_too() -> None:
    """F028: an address on lo of every node."""
    words = {1: Word(Stage.SPEAKING, 1, conflict=MACS[2], told=LONG)}

    found = elect(held(1), ANYWHERE, words, field(node(1), node(2)))

    assert (found.conflict, found.holder) == (MACS[2], 1)
