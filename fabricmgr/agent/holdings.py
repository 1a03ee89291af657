"""What this node holds: the journal and the memory of blocks, always in step. A change is journalled first and then true."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from fabricmgr.agent.assign import Stock, ordinals
from fabricmgr.agent.journal import Writable
from fabricmgr.agent.records import (
    Attached,
    BlockDropped,
    BlockHeld,
    Done,
    Going,
    Intent,
    Key,
    Place,
    Reaped,
    Resting,
    Stage,
    State,
    Undone,
)
from fabricmgr.domain.addresses import Address, Family, parse_address, parse_prefix
from fabricmgr.domain.block import Block, Cooling, Held, Ordinal, Released, Slot
from fabricmgr.domain.names import PoolName
from fabricmgr.wire import BlockAddress, GrantedBlock

LONG_AGO = timedelta(days=1)
OPEN = "confirmed"


def owner_of(key: Key) -> str:
    """An attachment's key as a slot's owner, and as people read it."""
    network, container, ifname = key
    return f"container {container} interface {ifname} network {network}"


def with_addresses(place: Place, addresses: list[BlockAddress]) -> Place:
    return msgspec.structs.replace(place, owned=msgspec.structs.replace(place.owned, addresses=addresses))


class Holdings:
    """The one place that changes journal and memory.

    changed: called whenever there is something new to report. taken: called with pools and families of which addresses were taken.
    blocks_changed: called before anybody can assign in a new block, since a pod needs its route."""

    def __init__(self, journal: Writable, clock: Callable[[], datetime]):
        self.journal = journal
        self.stock = Stock()
        self.changed: Callable[[], None] = lambda: None
        self.blocks_changed: Callable[[], None] = lambda: None
        self.taken: Callable[[Sequence[str], Iterable[Family]], None] = lambda pools, families: None
        self._clock = clock
        self._ended: dict[Key, asyncio.Event] = {}
        # Rests that began in this run, by when they end, and those whose flows were forgotten after it. Not journalled: an ADD that
        # finds its address in neither forgets them itself.
        self.uncleaned: deque[tuple[datetime, Resting]] = deque()
        self.cleaned: dict[str, Resting] = {}
        for held in journal.state.blocks.values():
            self._stock(held)

    @property
    def state(self) -> State:
        return self.journal.state

    def get(self, key: Key) -> Attached | None:
        return self.state.attachments.get(key)

    # --- addresses ---

    def begin(
        self, place: Place, pools: Sequence[str], families: Iterable[Family], asked: Iterable[Address]
    ) -> tuple[Place, list[Family], tuple[Address, ...]]:
        """Journal an intent with addresses from held blocks: one for each family. Gives back the families for which there is none here,
        and which addresses another attachment had before, so that connections of theirs may still be tracked.

        An asked-for address is taken when it lies in a held block, else its family is among those missing. Taking and journalling are one
        step: whatever else changes blocks in between would give the address twice. Raises AddressHeld, AddressCooling, AddressReserved
        and JournalUnusable, and then nothing is taken."""
        taken: list[BlockAddress] = []
        try:
            missing = self._take(owner_of(place.key), pools, families, {Family(each.version): each for each in asked}, taken)
            owned = msgspec.structs.replace(place.owned, addresses=taken)
            begun = msgspec.structs.replace(place, owned=owned, asking=bool(missing))
            used = tuple(parse_address(each.address) for each in taken if self._may_have_flows(each.address))
            self.journal.write(Intent(place=begun))
        except BaseException:
            self.stock.gone(taken, self._clock() - LONG_AGO)
            raise
        self.taken(pools, families)
        return begun, missing, used

    def _may_have_flows(self, address: str) -> bool:
        """Whether flows of a former owner may still be tracked."""
        rest, cleaned = self.state.resting.get(address), self.cleaned.pop(address, None)
        return rest is not None and rest is not cleaned

    def _take(
        self, owner: str, pools: Sequence[str], families: Iterable[Family], asked: dict[Family, Address], taken: list[BlockAddress]
    ) -> list[Family]:
        now, names = self._clock(), [PoolName(pool) for pool in pools]
        missing: list[Family] = []
        # Asked-for ones first: they alone can be refused.
        for family in sorted(families, key=lambda family: family not in asked):
            got = self.stock.assign(asked[family], owner, now) if family in asked else self.stock.take(names, family, owner, now)
            if got is None:
                missing.append(family)
            else:
                taken.append(got)
        return missing

    # --- attachments ---

    def intend(self, place: Place) -> None:
        self.journal.write(Intent(place=place))

    def done(self, place: Place) -> None:
        self.journal.write(Done(place=place))
        self.changed()

    def undo(self, key: Key, since: datetime | None = None) -> None:
        """An intent came to nothing; its addresses rest from `since`, or not at all where no link ever carried them."""
        attached = self.get(key)
        if attached is None:
            return
        now = self._clock()
        since = since or now - LONG_AGO
        addresses = attached.place.owned.addresses
        self.journal.write(Undone(key=key, since=since, at=now))
        self.stock.gone(addresses, since)
        self.changed()

    def learn(self, place: Place, addresses: list[BlockAddress]) -> None:
        """What the manager holds for an intent whose answer was lost."""
        self.journal.write(Intent(place=msgspec.structs.replace(with_addresses(place, addresses), asking=False)))

    def leave_open(self, place: Place) -> None:
        """An intent failed while the manager was asked, and its answer is not known: only the question stays."""
        self.journal.write(Intent(place=msgspec.structs.replace(with_addresses(place, []), asking=True)))
        self.stock.gone(place.owned.addresses, self._clock() - LONG_AGO)

    def going(self, key: Key, reason: str) -> None:
        """Released: nobody holds the addresses any more, and nobody may have them yet."""
        attached = self.get(key)
        if attached is None or attached.stage is Stage.GOING:
            return
        self.journal.write(Going(key=key, at=self._clock(), reason=reason))
        self.stock.release(attached.place.owned.addresses)
        self.changed()

    def reaped(self, key: Key) -> None:
        """No link carries its addresses any more: they rest from now on."""
        attached = self.get(key)
        if attached is None or attached.stage is not Stage.GOING:
            return
        now = self._clock()
        self.journal.write(Reaped(key=key, at=now))
        self.stock.gone(attached.place.owned.addresses, now)
        self._will_be_clean(attached.place.owned.addresses, now)
        event = self._ended.pop(key, None)
        if event is not None:
            event.set()
        self.changed()

    def _will_be_clean(self, addresses: Iterable[BlockAddress], since: datetime) -> None:
        for each in addresses:
            stored, rest = self.stock.holder(parse_address(each.address)), self.state.resting.get(each.address)
            if stored is not None and rest is not None:
                self.uncleaned.append((since + stored.cooldown, rest))

    async def ended(self, key: Key) -> None:
        """Until a going attachment is gone, so that its key can be used again."""
        attached = self.get(key)
        if attached is not None and attached.stage is Stage.GOING:
            await self._ended.setdefault(key, asyncio.Event()).wait()

    def adopt(self, place: Place) -> None:
        """Take in an attachment that the kernel shows and the journal does not know: its addresses are held from now on."""
        self.journal.write(Done(place=self._quoted(place)))
        for each in place.owned.addresses:
            stored = self.stock.holder(parse_address(each.address))
            if stored is not None:
                self._stock(self.state.blocks[str(stored.block.prefix)])
        self.changed()

    def _quoted(self, place: Place) -> Place:
        """A found attachment's addresses under the blocks we hold by now, each assigned anew there, so that a release can quote it."""
        return with_addresses(
            place, [self._quote(each) if each.block is None and each.generation == 0 else each for each in place.owned.addresses]
        )

    def _quote(self, address: BlockAddress) -> BlockAddress:
        stored = self.stock.holder(parse_address(address.address))
        if stored is None:
            return address
        block = stored.block
        ordinal = block.ordinal_of(parse_address(address.address))
        # A generation for each place, so that two found in one block at once do not share one.
        generation = self.state.blocks[str(block.prefix)].generation + 1 + ordinal
        return BlockAddress(address=address.address, generation=generation, block=str(block.prefix), claim=block.claim)

    def only_manager_knows(self, attached: Attached) -> bool:
        """Whether what it holds can be learned from the manager alone: its answer was lost, or the links found are of no block of ours."""
        place = attached.place
        if attached.stage is Stage.INTENT:
            return place.asking
        unknown = [parse_address(each.address) for each in place.owned.addresses if each.block is None and each.generation == 0]
        ours = [parse_prefix(prefix) for prefix in self.state.blocks]
        return attached.stage is Stage.DONE and place.found and any(not any(each in block for block in ours) for each in unknown)

    def requote(self) -> None:
        """After a block came: attachments found in it before are its from now on."""
        for attached in list(self.state.attachments.values()):
            if attached.stage is Stage.DONE and attached.place.found and self._quoted(attached.place) != attached.place:
                self.adopt(attached.place)

    # --- blocks ---

    def hold(self, granted: GrantedBlock, state: str) -> None:
        """Journal a block in the state we give it, and assign in it where that is `confirmed`."""
        record = BlockHeld(
            pool=granted.pool,
            prefix=granted.prefix,
            claim=granted.claim,
            state=state,
            generation=granted.generation,
            cooldown_seconds=granted.cooldown_seconds,
            rested_at=granted.rested_at,
            reserved=granted.reserved,
        )
        old = self.state.blocks.get(granted.prefix)
        if old is not None and old.claim == record.claim:
            record = msgspec.structs.replace(record, generation=max(old.generation, record.generation))
        if old == record:
            return
        self.journal.write(record)
        self._stock(self.state.blocks[granted.prefix])
        self.blocks_changed()
        if state == OPEN:
            self.requote()

    def turn(self, held: BlockHeld, state: str) -> None:
        """Another state of a block that we hold."""
        if held.state == state:
            return
        self.journal.write(msgspec.structs.replace(held, state=state))
        self._stock(self.state.blocks[held.prefix])

    def drop(self, prefix: str) -> None:
        """A block is this node's no more."""
        if prefix in self.state.blocks:
            self.journal.write(BlockDropped(prefix=prefix))
            self.stock.drop(parse_prefix(prefix))
            self.cleaned = {address: rest for address, rest in self.cleaned.items() if rest.address.block != prefix}
            self.blocks_changed()

    def is_empty(self, held: BlockHeld) -> bool:
        """Whether a block may be given back: nobody holds an address of it, and all have rested."""
        stored = self.stock.get(parse_prefix(held.prefix))
        return stored is None or stored.block.is_empty(self._clock(), stored.cooldown)

    def _stock(self, held: BlockHeld) -> None:
        prefix = parse_prefix(held.prefix)
        if held.state == "claiming":
            self.stock.drop(prefix)
            return
        block = Block(
            pool=PoolName(held.pool),
            prefix=prefix,
            claim=held.claim,
            generation=held.generation,
            slots=self._slots(held),
            reserved=ordinals(prefix, held.reserved),
            rested_at=held.rested_at,
        )
        self.stock.put(block, timedelta(seconds=held.cooldown_seconds), is_open=held.state == OPEN)

    def _slots(self, held: BlockHeld) -> dict[Ordinal, Slot]:
        """What the journal knows of a block's addresses. An address inside it counts whatever claim it quotes: a link carries it."""
        first = int(parse_prefix(held.prefix).network_address)
        network = parse_prefix(held.prefix)
        slots: dict[Ordinal, Slot] = {}
        for rest in self.state.resting.values():
            if rest.address.block == held.prefix:
                slots[int(parse_address(rest.address.address)) - first] = Cooling(rest.address.generation, rest.since)
        for key, attached in self.state.attachments.items():
            kind = Released if attached.stage is Stage.GOING else Held
            for each in attached.place.owned.addresses:
                address = parse_address(each.address)
                if address in network:
                    slots[int(address) - first] = kind(each.generation, owner_of(key))
        return slots
