"""A block alone, as an agent or the manager holds it: what holds whatever is done to it, in whichever order."""

from collections.abc import Container
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fabricmgr.domain.block import Block, Cooling, Held, Released
from fabricmgr.domain.errors import AddressCooling, AddressHeld, AddressReserved, StaleGeneration
from fabricmgr.domain.names import PoolName

COOLDOWN = timedelta(seconds=60)
PREFIXES = ["10.0.0.8/29", "2001:db8::8/125"]
ORDINALS = st.integers(0, 7)


class BlockMachine(RuleBasedStateMachine):
    """The model: who holds a place under which generation, and since when nobody's link carries it."""

    @initialize(
        prefix=st.sampled_from(["10.0.0.8/29", "2001:db8::8/125"]), reserved=st.frozensets(ORDINALS, max_size=3), rests=st.booleans()
    )
    def begin(self, prefix: str, reserved: frozenset[int], rests: bool) -> None:
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.rested_at = self.now + COOLDOWN if rests else None
        self.block = Block(PoolName("pods"), ip_network(prefix), 1, reserved=reserved, rested_at=self.rested_at)
        self.held: dict[int, tuple[str, int]] = {}
        self.linked: dict[int, int] = {}
        self.cooling: dict[int, datetime] = {}
        self.given = 0

    def free(self, ordinal: int) -> bool:
        rested = ordinal not in self.cooling or self.cooling[ordinal] + COOLDOWN <= self.now
        taken = ordinal in self.held or ordinal in self.linked or ordinal in self.block.reserved
        return rested and not taken and (self.rested_at is None or self.rested_at <= self.now)

    def gave(self, ordinal: int, owner: str) -> None:
        slot = self.block.slots[ordinal]
        assert isinstance(slot, Held)
        assert slot.generation > self.given
        self.given = slot.generation
        self.held[ordinal] = (owner, slot.generation)
        self.cooling.pop(ordinal, None)

    @rule(owner=st.sampled_from("abcdef"))
    def allocate(self, owner: str) -> None:
        free = [ordinal for ordinal in range(self.block.size) if self.free(ordinal)]
        found = self.block.allocate(owner, self.now, COOLDOWN)
        if found is None:
            assert free == []
            return
        self.block, ordinal = found
        assert ordinal in free
        used = [self.cooling[each] for each in free if each in self.cooling]
        assert not used or self.cooling.get(ordinal) == min(used), "the one that has rested longest comes first"
        self.gave(ordinal, owner)

    @rule(ordinal=ORDINALS, owner=st.sampled_from("abcdef"))
    def assign(self, ordinal: int, owner: str) -> None:
        if self.held.get(ordinal, ("", 0))[0] == owner:
            assert self.block.assign(ordinal, owner, self.now, COOLDOWN) == self.block
        elif self.free(ordinal):
            self.block = self.block.assign(ordinal, owner, self.now, COOLDOWN)
            self.gave(ordinal, owner)
        else:
            with pytest.raises((AddressHeld, AddressCooling, AddressReserved)):
                self.block.assign(ordinal, owner, self.now, COOLDOWN)

    @rule(ordinal=ORDINALS, stale=st.integers(0, 2))
    def release(self, ordinal: int, stale: int) -> None:
        if ordinal not in self.held:
            assert self.block.release(ordinal, 1) == self.block
            return
        generation = self.held[ordinal][1]
        if stale:
            with pytest.raises(StaleGeneration):
                self.block.release(ordinal, generation - stale)
            return
        self.block = self.block.release(ordinal, generation)
        self.linked[ordinal] = generation
        del self.held[ordinal]

    @rule(ordinal=ORDINALS, stale=st.integers(0, 2))
    def link_gone(self, ordinal: int, stale: int) -> None:
        generation = self.linked.get(ordinal, self.given) - stale
        before = self.block
        self.block = self.block.link_gone(ordinal, generation, self.now)
        if ordinal in self.linked and not stale:
            del self.linked[ordinal]
            self.cooling[ordinal] = self.now
        else:
            assert self.block == before

    @rule(seconds=st.sampled_from([1, 30, 60, 61]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def it_counts_as_the_model_does(self) -> None:
        assert self.block.free(self.now, COOLDOWN) == sum(self.free(ordinal) for ordinal in range(self.block.size))
        assert {ordinal: slot.owner for ordinal, slot in self.block.holders().items()} == {o: owner for o, (owner, _) in self.held.items()}

    @invariant()
    def every_place_is_in_one_state(self) -> None:
        kinds: dict[type, Container[int]] = {Held: self.held, Released: self.linked, Cooling: self.cooling}
        for ordinal, slot in self.block.slots.items():
            assert ordinal in kinds[type(slot)]
            assert sum(ordinal in places for places in kinds.values()) == 1

    @invariant()
    def it_may_be_given_back_only_when_nothing_of_it_is_used_or_rests(self) -> None:
        empty = not self.held and not self.linked and all(since + COOLDOWN <= self.now for since in self.cooling.values())
        assert self.block.is_empty(self.now, COOLDOWN) == empty


BlockMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestBlock = BlockMachine.TestCase
