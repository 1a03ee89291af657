"""A block as its holder sees it: the agent for blocks it claimed, the manager for central ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.domain.errors import AddressCooling, AddressHeld, AddressReserved, Invalid, StaleGeneration
from fabricmgr.domain.names import PoolName

Ordinal = int


@dataclass(frozen=True, slots=True)
class Held:
    """An owner holds this address. `owner` is the owner's key as text."""

    generation: int
    owner: str


@dataclass(frozen=True, slots=True)
class Released:
    """Given back, but a link may still carry it: nobody may have it yet."""

    generation: int
    owner: str


@dataclass(frozen=True, slots=True)
class Cooling:
    """No link carries it since `since`; assignable once the pool's cooldown has passed."""

    generation: int
    since: datetime


Slot = Held | Released | Cooling


@dataclass(frozen=True)
class Block:
    """An aligned slice of a pool with its slots. Every change gives back a new block; addresses never seen are free.

    generation: the last one given out in this block's life; it only grows. claim: the fence, grows with each change of holder.
    reserved: ordinals never handed out. rested_at: the block itself rests until then (after its former holder was lost)."""

    pool: PoolName
    prefix: Prefix
    claim: int
    generation: int = 0
    slots: Mapping[Ordinal, Slot] = field(default_factory=dict)
    reserved: frozenset[Ordinal] = frozenset()
    cursor: Ordinal = 0
    rested_at: datetime | None = None

    @property
    def size(self) -> int:
        """Number of addresses, reserved ones included."""
        return 1 << (self.prefix.max_prefixlen - self.prefix.prefixlen)

    def ordinal_of(self, address: Address) -> Ordinal:
        """The place of an address. Raises Invalid when it lies elsewhere."""
        ordinal = int(address) - int(self.prefix.network_address)
        if address.version != self.prefix.version or not 0 <= ordinal < self.size:
            raise Invalid("address", str(address), f"an address of block {self.prefix}")
        return ordinal

    def address_of(self, ordinal: Ordinal) -> Address:
        """The address at a place."""
        return self.prefix.network_address + ordinal

    def allocate(self, owner: str, now: datetime, cooldown: timedelta) -> "tuple[Block, Ordinal] | None":
        """Any free address: the one that has rested longest, else the next never used. None when there is none."""
        ordinal = self._next_free(now, cooldown)
        if ordinal is None:
            return None
        return self._hold(ordinal, owner), ordinal

    def assign(self, ordinal: Ordinal, owner: str, now: datetime, cooldown: timedelta) -> "Block":
        """This very address. The same owner again changes nothing. Raises AddressHeld, AddressCooling, AddressReserved."""
        if ordinal in self.reserved:
            raise AddressReserved(str(self.address_of(ordinal)), self.pool, "it is in a reservation")
        slot = self.slots.get(ordinal)
        if isinstance(slot, Held) and slot.owner == owner:
            return self
        if isinstance(slot, Held | Released):
            raise AddressHeld(str(self.address_of(ordinal)), slot.owner)
        if isinstance(slot, Cooling) and slot.since + cooldown > now:
            raise AddressCooling(str(self.address_of(ordinal)), slot.since + cooldown)
        if self.rested_at is not None and self.rested_at > now:
            raise AddressCooling(str(self.address_of(ordinal)), self.rested_at)
        return self._hold(ordinal, owner)

    def release(self, ordinal: Ordinal, generation: int) -> "Block":
        """End an allocation; a link may still carry the address. What was released before stays as it is. Raises StaleGeneration."""
        slot = self.slots.get(ordinal)
        if not isinstance(slot, Held):
            return self
        if slot.generation != generation:
            raise StaleGeneration(quoted=generation, current=slot.generation)
        return self._with(ordinal, Released(generation, slot.owner))

    def link_gone(self, ordinal: Ordinal, generation: int, now: datetime) -> "Block":
        """No link carries the address any more: its cooldown begins. Says nothing about an address that was handed on since."""
        slot = self.slots.get(ordinal)
        if not isinstance(slot, Released) or slot.generation != generation:
            return self
        return self._with(ordinal, Cooling(generation, now))

    def free(self, now: datetime, cooldown: timedelta) -> int:
        """How many addresses could be allocated now."""
        if self.rested_at is not None and self.rested_at > now:
            return 0
        # In one expression: an agent asks it of all its blocks while addresses run short, between the ADDs that take them.
        latest = now - cooldown
        rested = sum(isinstance(slot, Cooling) and slot.since <= latest for o, slot in self.slots.items() if o not in self.reserved)
        counted = len(self.slots) - len(self.reserved.intersection(self.slots))
        return self.size - len(self.reserved) - counted + rested

    def is_empty(self, now: datetime, cooldown: timedelta) -> bool:
        """Nobody holds an address and all have rested: the block may be given back."""
        return all(self._is_rested(slot, now, cooldown) for slot in self.slots.values())

    def holders(self) -> Mapping[Ordinal, Held]:
        """Who holds what."""
        return {o: slot for o, slot in self.slots.items() if isinstance(slot, Held)}

    def _next_free(self, now: datetime, cooldown: timedelta) -> Ordinal | None:
        if self.rested_at is not None and self.rested_at > now:
            return None
        rested = [
            (slot.since, o)
            for o, slot in self.slots.items()
            if isinstance(slot, Cooling) and slot.since + cooldown <= now and o not in self.reserved
        ]
        if rested:
            return min(rested)[1]
        return next((o for o in range(self.cursor, self.size) if o not in self.slots and o not in self.reserved), None)

    def _hold(self, ordinal: Ordinal, owner: str) -> "Block":
        generation = self.generation + 1
        slots = {**self.slots, ordinal: Held(generation, owner)}
        cursor = self.cursor
        while cursor < self.size and (cursor in slots or cursor in self.reserved):
            cursor += 1
        return self._changed(slots, generation, cursor)

    def _with(self, ordinal: Ordinal, slot: Slot) -> "Block":
        return self._changed({**self.slots, ordinal: slot}, self.generation, self.cursor)

    def _changed(self, slots: Mapping[Ordinal, Slot], generation: int, cursor: Ordinal) -> "Block":
        """What an assignment or release changes. dataclasses.replace, which looks at every field, takes three times as long."""
        return Block(self.pool, self.prefix, self.claim, generation, slots, self.reserved, cursor, self.rested_at)

    @staticmethod
    def _is_rested(slot: Slot, now: datetime, cooldown: timedelta) -> bool:
        return isinstance(slot, Cooling) and slot.since + cooldown <= now
