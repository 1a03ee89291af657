"""Pools: addresses one may allocate from, their prefixes and what is kept out of them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from ipaddress import collapse_addresses
from itertools import pairwise

from fabricmgr.domain.addresses import (
    Address,
    Family,
    Prefix,
    block_length,
    blocks_are_central,
    family_of,
    parse_address,
    parse_prefix,
    range_to_prefixes,
    skips_ends,
)
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.names import ClusterName, PoolName
from fabricmgr.domain.selectors import Candidate, Selectors

DEFAULT_COOLDOWN = timedelta(seconds=60)
LONGEST_COOLDOWN = timedelta(days=7)
WARNING, CRITICAL = 80, 95  # percent of what can be assigned, unless a pool says otherwise
LARGEST_SCOPE = 2**31 - 2
HIGHEST_PRIORITY = 1_000_000
MOST_PREFIXES = 256  # a Range with odd ends is at most 254 CIDRs; more is a slip of the finger


class Purpose(Enum):
    """What a pool's addresses are for. Nodes claim blocks of pools for pods only."""

    POD = "Pod"
    SERVICE = "Service"
    NODE = "Node"
    FABRIC_LINK = "FabricLink"
    LOOPBACK = "Loopback"
    MANAGEMENT = "Management"


def purpose(text: str) -> Purpose:
    """Parse a purpose. Raises Invalid."""
    try:
        return Purpose(text)
    except ValueError:
        raise Invalid("purpose", text, f"one of {', '.join(each.value for each in Purpose)}") from None


@dataclass(frozen=True)
class Reservation:
    """Addresses of a prefix that are never handed out."""

    cidr: Prefix
    reason: str
    at: datetime


@dataclass(frozen=True)
class PoolPrefix:
    """A prefix of a pool, cut into blocks of one length. central: nodes claim none of them. gateway: the router of a real segment."""

    id: int
    cidr: Prefix
    block_length: int
    central: bool
    gateway: Address | None
    created_at: datetime
    reservations: tuple[Reservation, ...] = ()

    def kept_out(self, skip_ends: bool) -> tuple[Prefix, ...]:
        """What is never handed out, each address once: reservations, and first and last address where they are skipped."""
        ends = (self.cidr[0], self.cidr[-1]) if skip_ends and skips_ends(self.cidr) else ()
        return collapse([*(each.cidr for each in self.reservations), *(alone(end) for end in ends)])


@dataclass(frozen=True)
class Pool:
    """cluster: who may use it; None: all. cooldown: rest of a released address. scope: 0, unless two address spaces are really apart.

    warning, critical: percent of what can be assigned, at which it is told to run full. selectors: who may have addresses of it; priority:
    the higher is asked first. auto_assign: off, it is taken only where an annotation names it."""

    id: int
    name: PoolName
    cluster: ClusterName | None
    scope: int
    purpose: Purpose
    cooldown: timedelta
    skip_ends: bool
    reuse_early: bool
    draining: bool
    created_at: datetime
    version: int
    prefixes: tuple[PoolPrefix, ...] = ()
    warning: int = WARNING
    critical: int = CRITICAL
    selectors: Selectors = field(default_factory=Selectors)
    priority: int = 0
    auto_assign: bool = True

    def families(self) -> tuple[Family, ...]:
        """Those it has prefixes of."""
        return tuple(family for family in Family if any(family_of(each.cidr) is family for each in self.prefixes))

    def of(self, family: Family) -> tuple[PoolPrefix, ...]:
        """Its prefixes of one family."""
        return tuple(each for each in self.prefixes if family_of(each.cidr) is family)

    def prefix_around(self, cidr: Prefix) -> PoolPrefix | None:
        """The prefix that a smaller one lies in."""
        return next((each for each in self.prefixes if inside(cidr, each.cidr)), None)

    def candidate(self, place: int = 0) -> Candidate:
        """What deciding needs to know of it. place: in a network's list."""
        families = tuple(family.value for family in self.families())
        return Candidate(self.name, self.selectors, self.priority, self.auto_assign, families, self.draining, place)


@dataclass(frozen=True)
class PrefixDraft:
    """A prefix to be. block_length: None for the default."""

    cidr: Prefix
    block_length: int | None = None
    central: bool = False
    gateway: Address | None = None

    def __post_init__(self) -> None:
        if self.gateway is not None and (self.gateway.version != self.cidr.version or self.gateway not in self.cidr):
            raise Invalid("gateway", str(self.gateway), f"an address of {self.cidr}")
        block_length(self.cidr, self.block_length)

    def length(self) -> int:
        """Of its blocks."""
        return block_length(self.cidr, self.block_length)

    def is_central(self, purpose: Purpose) -> bool:
        """Whether nodes may claim none of its blocks: it is said, the pool is not for pods, or the blocks are too small."""
        return self.central or purpose is not Purpose.POD or blocks_are_central(self.cidr, self.length())


@dataclass(frozen=True)
class ReservationDraft:
    cidr: Prefix
    reason: str


@dataclass(frozen=True)
class PoolDraft:
    """A pool to be. Raises Invalid where its prefixes overlap each other, or its times and numbers cannot be."""

    name: PoolName
    prefixes: tuple[PrefixDraft, ...] = ()
    purpose: Purpose = Purpose.POD
    cluster: ClusterName | None = None
    scope: int = 0
    cooldown: timedelta = DEFAULT_COOLDOWN
    skip_ends: bool = True
    reuse_early: bool = False
    reservations: tuple[ReservationDraft, ...] = ()
    warning: int = WARNING
    critical: int = CRITICAL
    selectors: Selectors = field(default_factory=Selectors)
    priority: int = 0
    auto_assign: bool = True

    def __post_init__(self) -> None:
        check_cooldown(self.cooldown)
        check_thresholds(self.warning, self.critical)
        check_selectors(self.selectors, self.priority, self.purpose)
        if not 0 <= self.scope <= LARGEST_SCOPE:
            raise Invalid("scope", self.scope, f"a number from 0 to {LARGEST_SCOPE}")
        if len(self.prefixes) > MOST_PREFIXES:
            raise Invalid("prefixes", len(self.prefixes), f"at most {MOST_PREFIXES} prefixes")
        check_apart([each.cidr for each in self.prefixes])


@dataclass(frozen=True)
class PoolChange:
    """What to change; None leaves it."""

    cooldown: timedelta | None = None
    skip_ends: bool | None = None
    reuse_early: bool | None = None
    draining: bool | None = None
    warning: int | None = None
    critical: int | None = None
    selectors: Selectors | None = None
    priority: int | None = None
    auto_assign: bool | None = None

    def __post_init__(self) -> None:
        if self.cooldown is not None:
            check_cooldown(self.cooldown)

    def given(self) -> dict[str, timedelta | bool | int | Selectors]:
        """Field and new value of what is to change."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class PoolFilter:
    """None: any."""

    purpose: Purpose | None = None
    cluster: ClusterName | None = None
    scope: int | None = None


@dataclass(frozen=True)
class Usage:
    """Addresses of one family. total is the sum of the others, and may exceed 64 bits.

    held: somebody has it. reserved: never handed out. cooling: released, rests. idle: free, in a block that a node holds or that is held
    back. free: may be allocated now."""

    family: Family
    total: int
    held: int
    reserved: int
    cooling: int
    idle: int
    free: int


@dataclass(frozen=True)
class PoolBlock:
    """A block as the manager's table has it."""

    prefix: Prefix
    state: str
    node: str | None
    cluster: str | None
    claim: int
    generation: int
    since: datetime
    rested_at: datetime | None


@dataclass(frozen=True)
class BlockFilter:
    """None: any. Every one given must fit. among: one of these."""

    among: tuple[Prefix, ...] | None = None
    state: str | None = None
    node: str | None = None
    cluster: str | None = None


def check_cooldown(cooldown: timedelta) -> None:
    """Raises Invalid."""
    if not timedelta(0) <= cooldown <= LONGEST_COOLDOWN:
        raise Invalid("cooldown", cooldown.total_seconds(), f"0 to {LONGEST_COOLDOWN.total_seconds():.0f} seconds")


def check_thresholds(warning: int, critical: int) -> None:
    """Raises Invalid."""
    if not 1 <= critical <= 99:
        raise Invalid("critical", critical, "1 to 99 percent")
    if not 1 <= warning < critical:
        raise Invalid("warning", warning, f"1 percent to less than the critical threshold, {critical}")


def check_selectors(selectors: Selectors, priority: int, purpose: Purpose) -> None:
    """Whether a pool of this purpose may have them. Raises Invalid."""
    if not -HIGHEST_PRIORITY <= priority <= HIGHEST_PRIORITY:
        raise Invalid("priority", priority, f"a number from {-HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}")
    if selectors and purpose not in (Purpose.POD, Purpose.SERVICE):
        raise Invalid("selectors", purpose.value, "a pool of purpose Pod or Service: nobody selects among others")
    if selectors.services and purpose is not Purpose.SERVICE:
        raise Invalid("selectors.services", ", ".join(selectors.services), "no labels of Services in a pool for pods")
    if selectors.node_labels and purpose is not Purpose.POD:
        raise Invalid("selectors.node_labels", ", ".join(selectors.node_labels), "no labels of nodes in a pool for Services")


def check_apart(prefixes: list[Prefix]) -> None:
    """Refuse prefixes of one draft that overlap each other. Raises Invalid."""
    ordered = sorted(prefixes, key=lambda p: (p.version, int(p.network_address), p.prefixlen))
    for one, other in pairwise(ordered):
        if one.version == other.version and one.overlaps(other):
            raise Invalid("prefixes", f"{one} and {other}", "prefixes that do not overlap each other")


def parse_prefixes(text: str, field: str = "prefix") -> tuple[Prefix, ...]:
    """A CIDR, or a Range such as 10.0.0.10-10.0.0.99 as the fewest CIDRs. Raises Invalid."""
    if "-" not in text:
        return (parse_prefix(text, field),)
    lower, _, upper = text.partition("-")
    return tuple(range_to_prefixes(parse_address(lower.strip(), field), parse_address(upper.strip(), field)))


def inside(small: Prefix, large: Prefix) -> bool:
    """Whether a prefix lies in another one, or is it."""
    return small.version == large.version and small.prefixlen >= large.prefixlen and small.network_address in large


def alone(address: Address) -> Prefix:
    """An address as a prefix."""
    return parse_prefix(f"{address}/{address.max_prefixlen}")


def collapse(prefixes: list[Prefix]) -> tuple[Prefix, ...]:
    """The same addresses, each once, in order."""
    four = [each for each in prefixes if each.version == 4]
    six = [each for each in prefixes if each.version == 6]
    return (*collapse_addresses(four), *collapse_addresses(six))


@dataclass(frozen=True)
class BlockTally:
    """Of the blocks of a prefix in one state: addresses in all, and those of them that are kept out."""

    size: int = 0
    kept_out: int = 0


@dataclass(frozen=True)
class PrefixTally:
    """What the tables say of one prefix. `inside_*` count allocations in node blocks (and not kept out)."""

    cidr: Prefix
    kept_out: int
    held: int = 0
    waiting: int = 0  # released, a link may still carry it
    taken_kept_out: int = 0  # held or waiting although it is kept out
    taken_in_node_blocks: int = 0
    node_blocks: BlockTally = field(default_factory=BlockTally)
    resting_blocks: BlockTally = field(default_factory=BlockTally)
    resting_spares: int = 0

    def usage(self) -> Usage:
        """The five parts; free is the rest."""
        total = self.cidr.num_addresses
        reserved = self.kept_out - self.taken_kept_out
        idle = self.node_blocks.size - self.node_blocks.kept_out - self.taken_in_node_blocks
        cooling = self.waiting + self.resting_blocks.size - self.resting_blocks.kept_out + self.resting_spares
        free = total - self.held - reserved - cooling - idle
        return Usage(family_of(self.cidr), total, self.held, reserved, cooling, idle, free)


def add_up(family: Family, usages: list[Usage]) -> Usage:
    """Of several prefixes of one family."""
    names = ("total", "held", "reserved", "cooling", "idle", "free")
    return Usage(family, **{name: sum(getattr(each, name) for each in usages) for name in names})
