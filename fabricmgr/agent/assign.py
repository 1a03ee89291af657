"""Addresses from the blocks that this node holds: from memory, without asking anybody.

`domain.Block` decides what may be given; this module only knows where to look, so that an ADD costs the same with ten and with four
thousand addresses held. Order: what has rested longest, else the next never used. `Stock.check` in the tests holds the index equal to
what the blocks themselves say.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from sys import intern

from fabricmgr.domain.addresses import Address, Family, Prefix, block_at, parse_address, parse_prefix
from fabricmgr.domain.block import Block, Cooling, Ordinal, Slot
from fabricmgr.domain.names import PoolName
from fabricmgr.wire import BlockAddress

Shelf = tuple[PoolName, Family]
_Rest = tuple[datetime, int, Prefix, Ordinal]


@dataclass
class Stored:
    """A block in memory. open: addresses may be assigned in it (confirmed, and neither being given back nor held back)."""

    block: Block
    cooldown: timedelta
    open: bool

    @cached_property
    def name(self) -> str:
        """The block's prefix, as addresses in it quote it."""
        return intern(str(self.block.prefix))

    @property
    def shelf(self) -> Shelf:
        return self.block.pool, Family(self.block.prefix.version)


@dataclass
class _Index:
    """Of one pool and family. resting: not yet due, soonest first. rested: due, longest rest first. Entries may be stale: whoever takes
    one looks at the block. unused: open blocks with addresses that were never given."""

    resting: list[_Rest] = field(default_factory=list)
    rested: list[_Rest] = field(default_factory=list)
    unused: dict[Prefix, None] = field(default_factory=dict)


class Stock:
    """All blocks of this node."""

    def __init__(self) -> None:
        self._stored: dict[Prefix, Stored] = {}
        self._indexes: dict[Shelf, _Index] = {}
        self._lengths: dict[tuple[int, int], int] = {}  # (IP version, prefix length): how many blocks

    # --- blocks ---

    def __iter__(self) -> Iterator[Stored]:
        return iter(self._stored.values())

    def get(self, prefix: Prefix) -> Stored | None:
        return self._stored.get(prefix)

    def put(self, block: Block, cooldown: timedelta, is_open: bool) -> None:
        """Hold a block, or hold it on other terms: its slots are taken as given."""
        self.drop(block.prefix)
        stored = Stored(block, cooldown, is_open)
        self._stored[block.prefix] = stored
        length = (block.prefix.version, block.prefix.prefixlen)
        self._lengths[length] = self._lengths.get(length, 0) + 1
        if is_open:
            self._enter(stored)

    def drop(self, prefix: Prefix) -> None:
        """Hold a block no more."""
        stored = self._stored.pop(prefix, None)
        if stored is None:
            return
        length = (prefix.version, prefix.prefixlen)
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]
        self._index(stored).unused.pop(prefix, None)

    def renew(self, prefix: Prefix, is_open: bool, reserved: frozenset[Ordinal], cooldown: timedelta) -> None:
        """Other terms for a block that is held: what is assigned in it stays."""
        stored = self._stored[prefix]
        if (stored.open, stored.block.reserved, stored.cooldown) != (is_open, reserved, cooldown):
            self.put(replace(stored.block, reserved=reserved, cursor=0), cooldown, is_open)

    def holder(self, address: Address) -> Stored | None:
        """The block of this node that an address lies in."""
        for version, length in self._lengths:
            if version == address.version:
                stored = self._stored.get(block_at_length(address, length))
                if stored is not None:
                    return stored
        return None

    # --- addresses ---

    def take(self, pools: Sequence[PoolName], family: Family, owner: str, now: datetime) -> BlockAddress | None:
        """Any free address of the first pool that has one. None when no open block has."""
        for pool in pools:
            index = self._indexes.get((pool, family))
            found = self._next(index, now) if index is not None else None
            if found is not None:
                stored, ordinal = found
                return self._assign(stored, ordinal, owner, now)
        return None

    def assign(self, address: Address, owner: str, now: datetime) -> BlockAddress | None:
        """This very address. None when it lies in no open block of ours. Raises AddressHeld, AddressCooling, AddressReserved."""
        stored = self.holder(address)
        if stored is None or not stored.open:
            return None
        return self._assign(stored, stored.block.ordinal_of(address), owner, now)

    def release(self, addresses: Iterable[BlockAddress]) -> None:
        """Their owner has gone; a link may still carry them. What was handed on since stays."""
        for stored, ordinal, generation in self._ours(addresses):
            if _generation(stored.block, ordinal) == generation:
                stored.block = stored.block.release(ordinal, generation)

    def gone(self, addresses: Iterable[BlockAddress], since: datetime) -> None:
        """No link carries them any more: they rest from `since` on."""
        for stored, ordinal, generation in self._ours(addresses):
            if _generation(stored.block, ordinal) != generation:
                continue
            stored.block = stored.block.release(ordinal, generation).link_gone(ordinal, generation, since)
            if stored.open and ordinal not in stored.block.reserved:
                self._rest(stored, ordinal, since)

    def free(self, pools: Iterable[PoolName], family: Family, now: datetime) -> int:
        """How many addresses could be assigned now: rested, in open blocks. Walks every slot; not for use in an ADD."""
        shelves = {(pool, family) for pool in pools}
        return sum(each.block.free(now, each.cooldown) for each in self if each.open and each.shelf in shelves)

    def at_hand(self, pools: Iterable[PoolName], family: Family) -> int:
        """About how many addresses could be assigned now; quick, for use in an ADD. Those that become due meanwhile are not counted."""
        found = 0
        for pool in pools:
            index = self._indexes.get((pool, family))
            if index is not None:
                blocks = (self._stored[prefix].block for prefix in index.unused)
                found += len(index.rested) + sum(block.size - len(block.slots) - len(block.reserved) for block in blocks)
        return found

    # --- the index ---

    def _index(self, stored: Stored) -> _Index:
        return self._indexes.setdefault(stored.shelf, _Index())

    def _enter(self, stored: Stored) -> None:
        self._index(stored).unused[stored.block.prefix] = None
        for ordinal, slot in stored.block.slots.items():
            if isinstance(slot, Cooling) and ordinal not in stored.block.reserved:
                self._rest(stored, ordinal, slot.since)

    def _rest(self, stored: Stored, ordinal: Ordinal, since: datetime) -> None:
        heapq.heappush(self._index(stored).resting, (since + stored.cooldown, ordinal, stored.block.prefix, ordinal))

    def _next(self, index: _Index, now: datetime) -> tuple[Stored, Ordinal] | None:
        while index.resting and index.resting[0][0] <= now:
            heapq.heappush(index.rested, heapq.heappop(index.resting))
        return self._longest_rested(index, now) or self._never_used(index, now)

    def _longest_rested(self, index: _Index, now: datetime) -> tuple[Stored, Ordinal] | None:
        kept: list[_Rest] = []
        found = None
        while index.rested and found is None:
            due, _, prefix, ordinal = entry = index.rested[0]
            stored = self._stored.get(prefix)
            heapq.heappop(index.rested)
            if stored is None or not stored.open or not _is_due(stored, ordinal, due):
                continue
            if _block_rests(stored.block, now):
                kept.append(entry)
                continue
            found = stored, ordinal
        for entry in kept:
            heapq.heappush(index.rested, entry)
        return found

    def _never_used(self, index: _Index, now: datetime) -> tuple[Stored, Ordinal] | None:
        for prefix in list(index.unused):
            stored = self._stored[prefix]
            if _block_rests(stored.block, now):
                continue
            ordinal = _unused(stored.block)
            if ordinal is not None:
                return stored, ordinal
            del index.unused[prefix]
        return None

    def _assign(self, stored: Stored, ordinal: Ordinal, owner: str, now: datetime) -> BlockAddress:
        stored.block = block = stored.block.assign(ordinal, owner, now, stored.cooldown)
        generation = _generation(block, ordinal)
        return BlockAddress(address=str(block.address_of(ordinal)), generation=generation, block=stored.name, claim=block.claim)

    def _ours(self, addresses: Iterable[BlockAddress]) -> Iterator[tuple[Stored, Ordinal, int]]:
        for each in addresses:
            stored = self._stored.get(parse_prefix(each.block)) if each.block else None
            if stored is not None and stored.block.claim == each.claim:
                yield stored, stored.block.ordinal_of(parse_address(each.address)), each.generation


def block_at_length(address: Address, length: int) -> Prefix:
    """The prefix of that length around an address."""
    whole = parse_prefix("0.0.0.0/0" if address.version == 4 else "::/0")
    return block_at(whole, length, address)


def ordinals(prefix: Prefix, reserved: Iterable[str]) -> frozenset[Ordinal]:
    """The places of a block that reservations (addresses or prefixes, as text) cover."""
    found: set[Ordinal] = set()
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    for text in reserved:
        covered = parse_prefix(text if "/" in text else f"{text}/{prefix.max_prefixlen}")
        if covered.version == prefix.version:
            low, high = max(first, int(covered.network_address)), min(last, int(covered.broadcast_address))
            found.update(range(low - first, high - first + 1))
    return frozenset(found)


def _generation(block: Block, ordinal: Ordinal) -> int:
    slot: Slot | None = block.slots.get(ordinal)
    return slot.generation if slot is not None else 0


def _is_due(stored: Stored, ordinal: Ordinal, due: datetime) -> bool:
    slot = stored.block.slots.get(ordinal)
    return isinstance(slot, Cooling) and slot.since + stored.cooldown == due and ordinal not in stored.block.reserved


def _block_rests(block: Block, now: datetime) -> bool:
    return block.rested_at is not None and block.rested_at > now


def _unused(block: Block) -> Ordinal | None:
    slots: Mapping[Ordinal, Slot] = block.slots
    return next((o for o in range(block.cursor, block.size) if o not in slots and o not in block.reserved), None)
