"""Flows of a former owner are forgotten when its address has rested, and else by the ADD that gets it."""

from collections.abc import Iterable
from datetime import timedelta

import pytest

from fabricmgr.agent.flows import Flows
from fabricmgr.agent.holdings import with_addresses
from fabricmgr.agent.records import Key
from fabricmgr.domain.addresses import Address, Family
from fabricmgr.domain.errors import KernelRefused
from tests.support.agent_records import place
from tests.unit.agent.test_supply import FIRST, Desk

COOLDOWN = timedelta(seconds=60)


class Node(Desk):
    """A desk with one block, whose kernel forgets flows; broken: it refuses to."""

    def __init__(self) -> None:
        super().__init__()
        self.forgotten: list[str] = []
        self.broken = False
        self.flows = Flows(self.holdings, self.forget, self.clock)
        self.hold(FIRST)

    def forget(self, addresses: Iterable[Address]) -> None:
        if self.broken:
            raise KernelRefused("forget flows", 12, "Cannot allocate memory")
        self.forgotten += map(str, addresses)

    def add(self, name: str, asked: tuple[Address, ...] = ()) -> tuple[str, list[str]]:
        """The address it got, and of which addresses the ADD has to forget flows itself."""
        begun, _, used = self.holdings.begin(with_addresses(place(name), []), ["pods"], [Family(4)], asked)
        self.holdings.done(begun)
        return begun.owned.addresses[0].address, [str(each) for each in used]

    def delete(self, name: str) -> None:
        key: Key = ("podnet", name, "eth0")
        self.holdings.going(key, "DEL")
        self.holdings.reaped(key)


async def test_an_address_whose_flows_were_forgotten_after_its_rest_costs_the_next_add_nothing() -> None:
    node = Node()
    address, first = node.add("a")
    node.delete("a")
    node.now += COOLDOWN

    await node.flows.once()

    assert (first, node.forgotten) == ([], [address])
    assert node.add("b") == (address, [])


async def test_flows_are_not_forgotten_before_the_rest_is_over_since_they_could_come_back() -> None:
    node = Node()
    node.add("a")
    node.delete("a")
    node.now += COOLDOWN - timedelta(seconds=1)

    await node.flows.once()

    assert node.forgotten == []


async def test_an_add_that_comes_before_they_were_forgotten_forgets_them_itself() -> None:
    node = Node()
    address, _ = node.add("a")
    node.delete("a")
    node.now += COOLDOWN

    got = node.add("b")
    await node.flows.once()

    assert got == (address, [address])
    assert node.forgotten == [], "the flows there are now are the new owner's"


async def test_each_rest_is_followed_by_forgetting_anew() -> None:
    node = Node()
    for name in ("a", "b"):
        node.add(name)
        node.delete(name)
        node.now += COOLDOWN
        if name == "a":
            await node.flows.once()

    address, used = node.add("c")

    assert used == [address]


@pytest.mark.parametrize("mended", [True, False])
async def test_what_the_kernel_refuses_is_left_to_the_add(mended: bool) -> None:
    node = Node()
    address, _ = node.add("a")
    node.delete("a")
    node.now += COOLDOWN
    node.broken = True

    outcome = await node.flows.once()
    node.broken = not mended
    await node.flows.once()

    assert address in outcome.sentence
    assert node.add("b") == (address, [address])
