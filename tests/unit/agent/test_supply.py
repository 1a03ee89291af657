"""When the agent asks for blocks and when it gives them back."""

from datetime import datetime
from typing import cast

import pytest
from msgspec import structs

from fabricmgr.agent.holdings import Holdings
from fabricmgr.agent.manager import Manager
from fabricmgr.agent.records import AnyRecord, BlockHeld, State
from fabricmgr.agent.supply import Marks, Supply
from fabricmgr.domain.addresses import Family
from fabricmgr.domain.names import PoolName
from fabricmgr.wire import BlocksGranted, BlocksWanted, Decide, GrantedBlock, NetworkSpec
from tests.support.agent_records import HEADER, NOW, later, place

SPEC = NetworkSpec(name="podnet", pools=["pods"], families=[4], prefixes=["10.1.0.0/16"])
FIRST, SECOND = "10.1.0.0/26", "10.1.0.64/26"


class Memory:
    """A journal that keeps nothing but its state."""

    def __init__(self) -> None:
        self.state = State(HEADER)
        self.written: list[AnyRecord] = []

    def write(self, record: AnyRecord) -> None:
        self.written.append(record)
        self.state.apply(record)

    def usable(self) -> str:
        return ""

    def close(self) -> None:
        return


class Desk:
    """An agent's supply with nobody at the other end; answers are handed in."""

    def __init__(self) -> None:
        self.now = NOW
        self.journal = Memory()
        self.holdings = Holdings(self.journal, self.clock)
        self.supply = Supply(self.holdings, cast("Manager", None), Marks(16, 96), self.clock)

    def clock(self) -> datetime:
        return self.now

    def grant(self, *blocks: GrantedBlock, confirmed: bool = True) -> None:
        """The manager answers with these blocks; confirmed: to a request that confirmed what is pending."""
        ask = self.supply.request([SPEC])
        self.supply.take(BlocksGranted(blocks=list(blocks)), ask if confirmed else BlocksWanted(life=HEADER.life))

    def hold(self, *prefixes: str) -> None:
        pending = [GrantedBlock(pool="pods", prefix=prefix, claim=1, state="pending") for prefix in prefixes]
        self.grant(*pending)
        self.grant(*(structs.replace(each, state="confirmed") for each in pending))

    def take(self, count: int) -> None:
        for number in range(count):
            self.holdings.begin(place(f"c{number}-{count}"), ["pods"], [Family.IPV4], [])

    def free(self) -> int:
        return self.holdings.stock.free([PoolName("pods")], Family.IPV4, self.now)

    def states(self) -> dict[str, str]:
        return {prefix: held.state for prefix, held in self.journal.state.blocks.items()}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def wanted(desk: Desk) -> list[int]:
    return [each.count for each in desk.supply.request([SPEC]).wanted]


def test_the_first_block_is_asked_for_before_any_pod_comes(desk: Desk) -> None:
    assert wanted(desk) == [1]


def test_a_network_whose_manager_decides_needs_no_blocks(desk: Desk) -> None:
    assert desk.supply.request([structs.replace(SPEC, decide=Decide.MANAGER)]).wanted == []


def test_a_block_is_usable_only_after_its_confirmation_was_answered(desk: Desk) -> None:
    pending = GrantedBlock(pool="pods", prefix=FIRST, claim=1, state="pending")

    desk.grant(pending)
    assert desk.states() == {FIRST: "claiming"}
    assert desk.free() == 0
    desk.grant(structs.replace(pending, state="confirmed"), confirmed=False)
    assert desk.states() == {FIRST: "claiming"}
    assert [each.prefix for each in desk.supply.request([SPEC]).confirm] == [FIRST]
    desk.grant(structs.replace(pending, state="confirmed"))

    assert desk.states() == {FIRST: "confirmed"}
    assert desk.free() == 64


def test_under_the_low_mark_another_block_is_asked_for_and_repeating_asks_for_no_more(desk: Desk) -> None:
    desk.hold(FIRST)
    desk.take(48)
    assert wanted(desk) == []

    desk.take(1)

    assert wanted(desk) == [2]
    desk.grant(*granted(FIRST), GrantedBlock(pool="pods", prefix=SECOND, claim=1, state="pending"))
    assert wanted(desk) == []


def granted(*prefixes: str) -> list[GrantedBlock]:
    return [GrantedBlock(pool="pods", prefix=prefix, claim=1, state="confirmed") for prefix in prefixes]


def test_an_empty_block_over_the_high_mark_is_closed_and_given_back(desk: Desk) -> None:
    desk.hold(FIRST, SECOND)

    ask = desk.supply.request([SPEC])

    assert len(ask.give_back) == 1
    assert sorted(desk.states().values()) == ["confirmed", "releasing"]
    kept = next(prefix for prefix, state in desk.states().items() if state == "confirmed")
    desk.grant(*granted(kept))
    assert desk.states() == {kept: "confirmed"}
    assert wanted(desk) == []


def test_under_pressure_nobody_keeps_a_spare_block(desk: Desk) -> None:
    desk.hold(FIRST, SECOND)
    desk.take(33)
    assert desk.supply.request([SPEC]).give_back == []

    desk.supply.pressure = frozenset({"pods"})

    assert [each.prefix for each in desk.supply.request([SPEC]).give_back] == [SECOND]


def test_blocks_of_a_network_that_is_gone_are_given_back_once_they_are_empty(desk: Desk) -> None:
    desk.hold(FIRST, SECOND)
    desk.take(1)
    lived = next(prefix for prefix, held in desk.journal.state.blocks.items() if not desk.holdings.is_empty(held))

    first = desk.supply.request([])
    kept = desk.states()[lived]

    assert [each.prefix for each in first.give_back] == [each for each in (FIRST, SECOND) if each != lived]
    assert (first.wanted, kept) == ([], "confirmed")


def test_blocks_of_a_pool_that_another_network_takes_addresses_from_are_kept(desk: Desk) -> None:
    desk.hold(FIRST)

    asked = desk.supply.request([structs.replace(SPEC, name="later")])

    assert (asked.give_back, desk.states()) == ([], {FIRST: "confirmed"})


def test_a_block_that_the_manager_no_longer_names_is_assigned_from_no_more(desk: Desk) -> None:
    desk.hold(FIRST)
    desk.take(1)

    desk.grant()

    assert desk.states() == {FIRST: "held_back"}
    assert desk.free() == 0


def test_a_block_with_a_new_claim_is_confirmed_anew_and_rests(desk: Desk) -> None:
    desk.hold(FIRST)
    anew = GrantedBlock(pool="pods", prefix=FIRST, claim=2, state="confirmed", generation=2**40, rested_at=later(60))

    desk.grant(anew)
    assert desk.states() == {FIRST: "claiming"}
    desk.grant(anew)

    assert desk.states() == {FIRST: "confirmed"}
    assert desk.free() == 0
    desk.now = later(61)
    assert desk.free() == 64


def test_reservations_that_come_later_count_and_what_is_held_stays(desk: Desk) -> None:
    desk.hold(FIRST)
    desk.take(1)

    desk.grant(structs.replace(granted(FIRST)[0], reserved=["10.1.0.32/27"]))

    assert desk.free() == 31
    assert isinstance(desk.journal.written[-1], BlockHeld)
