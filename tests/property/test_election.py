"""An address that is well where it is costs no weighing of nodes, and is decided as if all had been weighed."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from math import inf
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from fabricmgr.domain.election import FAILED_FOR, LAPSE, SETTLED, Candidate, Field, Stage, Standing, Wish, Word, elect, weighed, well

ADDRESS = ip_address("192.0.2.60")
HERE, ELSEWHERE = (ip_network("192.0.2.0/24"),), (ip_network("198.51.100.0/24"),)
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03", "02:ff:ff:ff:ff:ff")
NODES = (1, 2, 3)


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 5 + list(others))


def candidate(number: int) -> st.SearchStrategy[Candidate]:
    return st.builds(
        Candidate,
        id=st.just(number),
        name=st.just(f"n{number}"),
        kube=st.just(f"kube-n{number}"),
        segments=mostly(HERE, ELSEWHERE, ()),
        macs=st.just(frozenset({MACS[number - 1]})),
        alive=mostly(True, False),
        ready=mostly(True, False),
        faulty=mostly(False, True),
        excluded=mostly(False, True),
        beat=mostly(0.3, LAPSE, LAPSE + 0.1, inf),
    )


words = st.builds(
    Word,
    stage=mostly(Stage.SPEAKING, *Stage),
    term=st.integers(1, 4),
    conflict=mostly("", *MACS),
    reason=mostly("", "link eth0 is down"),
    told=mostly(60.0, 0.0, LAPSE, LAPSE + 0.1),
    failed=mostly(inf, 0.0, FAILED_FOR, FAILED_FOR - 0.1),
)
standings = st.builds(
    Standing,
    address=st.just(ADDRESS),
    term=st.integers(0, 3),
    holder=mostly(1, 2, None, 9),
    successor=mostly(None, 2, 3),
    state=mostly("speaking", "probing", "unassigned"),
    conflict=mostly("", *MACS),
    reason=mostly("", "n1 announces it and is not heard"),
)
wishes = st.builds(Wish, endpoints=mostly(None, frozenset({"kube-n1"}), frozenset({"kube-n2", "kube-n3"}), frozenset()))


@st.composite
def fields(draw: st.DrawFn) -> Field:
    nodes = {number: draw(candidate(number)) for number in draw(st.sets(st.sampled_from(NODES), min_size=1))}
    return Field(nodes, draw(mostly(60.0, SETTLED - 1)), draw(mostly(True, False)))


@given(standings, wishes, st.dictionaries(st.sampled_from(NODES), words), fields())
def test_what_is_well_is_decided_as_if_all_nodes_were_weighed(now: Standing, wish: Wish, said: dict[int, Word], around: Field) -> None:
    event(f"well: {well(now, wish, said, around)}")

    assert elect(now, wish, said, around) == weighed(now, wish, said, around)


@given(fields(), wishes)
def test_an_address_that_is_well_stays_where_it_is(around: Field, wish: Wish) -> None:
    for number in around.nodes:
        now = Standing(ADDRESS, 1, number, state="speaking")
        said = {number: Word(Stage.SPEAKING, 1, told=60.0)}

        if well(now, wish, said, around):
            assert elect(now, wish, said, around) == now
            assert elect(replace(now, conflict=MACS[3]), wish, said, around) == now
