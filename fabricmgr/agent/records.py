"""What the agent's journal remembers: the kinds of record, and the state that a list of them adds up to.

Order of an attachment's records: Intent, (kernel), Done; Going, (kernel, answer), Reaped. Undone ends an Intent of which nobody was told.
Changes to report follow from these records, so a crash can lose none: Done says assigned, Going released, Reaped gone.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID

import msgspec

from fabricmgr.wire import BlockAddress, Change, ChangeKind, Desired, Owned

FORMAT = 1

Key = tuple[str, str, str]
"""An attachment on this node: network, container, ifname."""


class Stage(Enum):
    """How far an attachment has come."""

    INTENT = "intent"
    DONE = "done"
    GOING = "going"


class Place(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An attachment with what its links need. namespace: device and inode of the container's network namespace as ADD saw it.

    bridge to spoof_check: as its configuration asked. default_route: whether the container's default routes go through it; routes: prefixes
    beside those. found: adopted from the kernel, not made by this life.
    asking: the manager was asked for addresses and its answer does not stand here, so it may hold some for us."""

    owned: Owned
    namespace: tuple[int, int] = (0, 0)
    sandbox: str = ""
    mtu: int = 0
    bridge: str = ""
    masquerade: bool = False
    hairpin: bool = False
    isolation: bool = False
    spoof_check: bool = False
    default_route: bool = True
    routes: list[str] = []
    found: bool = False
    asking: bool = False

    @property
    def key(self) -> Key:
        return (self.owned.network, self.owned.container, self.owned.ifname)


class Record(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag=True):
    """Base of all records."""


class Header(Record, frozen=True, kw_only=True):
    """The first record. A journal is believed only in the boot it names (ids from the kernel's random/boot_id)."""

    boot_id: UUID
    life: UUID
    format: int = FORMAT


class BlockHeld(Record, frozen=True, kw_only=True):
    """A block of this node. Only a confirmed one is assigned from.

    state: claiming (written before it is confirmed), confirmed, releasing (being given back), held_back (lost; pods keep theirs)."""

    pool: str
    prefix: str
    claim: int
    state: str
    generation: int = 0
    cooldown_seconds: float = 60.0
    rested_at: datetime | None = None
    reserved: list[str] = []


class BlockDropped(Record, frozen=True, kw_only=True):
    """This node's no more."""

    prefix: str


class Intent(Record, frozen=True, kw_only=True):
    place: Place


class Done(Record, frozen=True, kw_only=True):
    """The links stand. place: as it came out, with MAC and host interface."""

    place: Place


class Undone(Record, frozen=True, kw_only=True):
    """An Intent came to nothing. since: from when its addresses rest; long ago where no link ever carried them."""

    key: Key
    since: datetime
    at: datetime


class Going(Record, frozen=True, kw_only=True):
    key: Key
    at: datetime
    reason: str


class Reaped(Record, frozen=True, kw_only=True):
    """No link carries its addresses any more: the cooldown begins."""

    key: Key
    at: datetime
    reason: str = ""


class Resting(Record, frozen=True, kw_only=True):
    """Written by compaction: an address of a block that was used before, and from when it rests."""

    address: BlockAddress
    since: datetime


class Unreported(Record, frozen=True, kw_only=True):
    """Written by compaction, and for findings at start: changes still to be reported, in order."""

    changes: list[Change]


class Sending(Record, frozen=True, kw_only=True):
    """The first `count` unreported changes are batch `number` from now on: a batch is sent again as it was."""

    number: int
    count: int


class Acked(Record, frozen=True, kw_only=True):
    """The manager has taken all batches up to `number`; `count` changes need no telling any more."""

    number: int
    count: int
    mark: str = ""


class Wanted(Record, frozen=True, kw_only=True):
    """The desired state last heard, so that the agent serves on while the manager is away."""

    desired: Desired


AnyRecord = Header | BlockHeld | BlockDropped | Intent | Done | Undone | Going | Reaped | Resting | Unreported | Sending | Acked | Wanted


@dataclass(slots=True)
class Attached:
    """An attachment in memory."""

    stage: Stage
    place: Place


@dataclass
class State:
    """What all records up to now add up to. `apply` is the only way to change it.

    by_container, by_uid: keys of attachments, so that an ADD does not walk thousands of them; only pods have a uid."""

    header: Header
    blocks: dict[str, BlockHeld] = field(default_factory=dict)
    attachments: dict[Key, Attached] = field(default_factory=dict)
    by_container: dict[str, set[Key]] = field(default_factory=dict)
    by_uid: dict[str, set[Key]] = field(default_factory=dict)
    resting: dict[str, Resting] = field(default_factory=dict)
    unreported: list[Change] = field(default_factory=list)
    sending: Sending | None = None
    number: int = 0
    mark: str = ""
    desired: Desired | None = None

    def apply(self, record: AnyRecord) -> None:
        """Take one record in. What cannot follow from what was before is passed over: twice is once."""
        match record:
            case BlockHeld():
                self._hold(record)
            case BlockDropped():
                self._drop(record.prefix)
            case Intent() | Done():
                self._attach(record)
            case Undone() | Going() | Reaped():
                self._detach(record)
            case Resting():
                self.resting[record.address.address] = record
            case Wanted():
                self.desired = record.desired
            case Unreported() | Sending() | Acked():
                self._report(record)
            case Header():
                self.header = record

    def snapshot(self) -> list[AnyRecord]:
        """The fewest records that add up to this state."""
        records: list[AnyRecord] = [self.header]
        for attached in self.attachments.values():
            records += _records_of(attached)
        records += [*self.blocks.values(), *self.resting.values()]
        if self.desired is not None:
            records.append(Wanted(desired=self.desired))
        # After the attachments, whose records tell their changes anew: those are struck out, and what is really unreported follows.
        records.append(Acked(number=self.number, count=-1, mark=self.mark))
        records.append(Unreported(changes=self.unreported))
        return [*records, self.sending] if self.sending else records

    def _hold(self, record: BlockHeld) -> None:
        old = self.blocks.get(record.prefix)
        if old is not None and old.claim == record.claim and old.generation > record.generation:
            record = msgspec.structs.replace(record, generation=old.generation)
        self.blocks[record.prefix] = record

    def _drop(self, prefix: str) -> None:
        self.blocks.pop(prefix, None)
        self.resting = {address: rest for address, rest in self.resting.items() if rest.address.block != prefix}

    def _attach(self, record: Intent | Done) -> None:
        done, key = isinstance(record, Done), record.place.key
        old = self.attachments.get(key)
        if old is not None and old.place.owned.uid != record.place.owned.uid:
            self._forget(key)
        self.attachments[key] = Attached(Stage.DONE if done else Stage.INTENT, record.place)
        self.by_container.setdefault(key[1], set()).add(key)
        if record.place.owned.uid:
            self.by_uid.setdefault(record.place.owned.uid, set()).add(key)
        for address in record.place.owned.addresses:
            self.resting.pop(address.address, None)
            self._grow(address)
        if done:
            self.unreported.append(Change(kind=ChangeKind.ASSIGNED, owned=record.place.owned))

    def _forget(self, key: Key) -> None:
        attached = self.attachments.pop(key, None)
        if attached is None:
            return
        for index, value in ((self.by_container, key[1]), (self.by_uid, attached.place.owned.uid)):
            keys = index.get(value, set())
            keys.discard(key)
            if not keys:
                index.pop(value, None)

    def _grow(self, address: BlockAddress) -> None:
        block = self.blocks.get(address.block or "")
        if block is not None and block.claim == address.claim and block.generation < address.generation:
            self.blocks[block.prefix] = msgspec.structs.replace(block, generation=address.generation)

    def _detach(self, record: Undone | Going | Reaped) -> None:
        attached = self.attachments.get(record.key)
        if attached is None:
            return
        owned = attached.place.owned
        if isinstance(record, Going):
            self._go(attached, record.at, record.reason)
            return
        self._forget(record.key)
        since = record.since if isinstance(record, Undone) else record.at
        for address in owned.addresses:
            if address.block in self.blocks:
                self.resting[address.address] = Resting(address=address, since=since)
        self.unreported += _ended(owned, record)

    def _go(self, attached: Attached, at: datetime, reason: str) -> None:
        told = attached.stage is Stage.GOING
        attached.stage = Stage.GOING
        if not told:
            self.unreported.append(Change(kind=ChangeKind.RELEASED, owned=_at(attached.place.owned, at), reason=reason))

    def _report(self, record: Unreported | Sending | Acked) -> None:
        if isinstance(record, Unreported):
            self.unreported += record.changes
            return
        if isinstance(record, Sending):
            self.sending = record
            return
        self.number, self.mark, self.sending = record.number, record.mark or self.mark, None
        del self.unreported[: len(self.unreported) if record.count < 0 else record.count]


def _records_of(attached: Attached) -> list[AnyRecord]:
    place = attached.place
    if attached.stage is Stage.INTENT:
        return [Intent(place=place)]
    if attached.stage is Stage.DONE:
        return [Done(place=place)]
    return [Intent(place=place), Going(key=place.key, at=place.owned.at, reason="")]


def _at(owned: Owned, at: datetime) -> Owned:
    return msgspec.structs.replace(owned, at=at, released=True)


def _ended(owned: Owned, record: Undone | Reaped) -> list[Change]:
    """What the manager must hear. Of an undone attachment only central addresses: it knows nothing of the others."""
    if isinstance(record, Reaped):
        return [Change(kind=ChangeKind.GONE, owned=_at(owned, record.at), reason=record.reason)]
    central = [address for address in owned.addresses if address.block is None]
    if not central:
        return []
    undone = msgspec.structs.replace(_at(owned, record.at), addresses=central)
    return [Change(kind=kind, owned=undone, reason="undo") for kind in (ChangeKind.RELEASED, ChangeKind.GONE)]
