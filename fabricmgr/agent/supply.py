"""Blocks are asked for before they are needed and given back when they are not.

A block is journalled as claiming, then confirmed at the manager, and assigned from only when the manager's acknowledgement is journalled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fabricmgr.agent.holdings import OPEN, Holdings
from fabricmgr.agent.manager import Manager
from fabricmgr.agent.records import BlockHeld
from fabricmgr.domain.addresses import Family, parse_prefix
from fabricmgr.domain.errors import FabricError, HelloRequired
from fabricmgr.domain.names import PoolName
from fabricmgr.loop import Outcome
from fabricmgr.problems import sentence
from fabricmgr.wire import BlocksGranted, BlocksWanted, Decide, GrantedBlock, HeldBlock, NetworkSpec, WantedBlocks

# Seconds until blocks that the manager did not grant are asked for again.
ASK_AGAIN = 5.0


@dataclass(frozen=True)
class Marks:
    """As settings say, for blocks of 64; a small block has smaller ones: a quarter and one and a half of it. low <= high."""

    low: int
    high: int

    def of(self, block_size: int, pressed: bool) -> "Marks":
        """pressed: the pool has no unclaimed block, so nobody keeps a spare one."""
        low = min(self.low, block_size // 4)
        return Marks(low, low if pressed else min(self.high, block_size + block_size // 2))


class Supply:
    """Sees to it that every network and family has addresses at hand. must_greet: called when the manager wants a hello first."""

    def __init__(self, holdings: Holdings, manager: Manager, marks: Marks, clock: Callable[[], datetime]):
        self.must_greet: Callable[[], None] = lambda: None
        self.pressure: frozenset[str] = frozenset()
        self.short: set[tuple[str, int]] = set()
        self._holdings = holdings
        self._manager = manager
        self._marks = marks
        self._clock = clock

    async def once(self) -> Outcome:
        """One pass of asking, confirming and giving back."""
        state = self._holdings.state
        if state.desired is None:
            return Outcome.again(ASK_AGAIN, "the manager has not said yet which networks there are")
        request = self.request(state.desired.networks)
        if not (request.wanted or request.confirm or request.give_back):
            return Outcome.done(f"{len(state.blocks)} blocks are enough")
        try:
            granted = await self._manager.blocks(request)
        except FabricError as error:
            if isinstance(error, HelloRequired):
                self.must_greet()
            return Outcome.again(1.0, f"blocks could not be asked for: {sentence(error)}")
        self.pressure = frozenset(granted.pressure)
        changed = self.take(granted, request)
        if changed:
            return Outcome.again(0.0, f"{changed} blocks changed")
        return Outcome.again(ASK_AGAIN, f"the manager has no block for {sorted(self.short)} now")

    def request(self, networks: list[NetworkSpec]) -> BlocksWanted:
        """What to ask for now; blocks to give back are closed by that."""
        state, wanted, giving = self._holdings.state, [], self._useless(networks)
        self.short = set()
        for network in networks:
            if network.decide is Decide.MANAGER:
                continue
            for family in map(Family, network.families):
                count, spare = self._balance(network, family)
                giving |= spare
                if count:
                    self.short.add((network.name, family.value))
                    wanted.append(WantedBlocks(network=network.name, family=family.value, count=count))
        for prefix in giving:
            self._holdings.turn(state.blocks[prefix], "releasing")
        blocks = state.blocks.values()
        return BlocksWanted(
            life=state.header.life,
            wanted=wanted,
            confirm=[quoted(each) for each in blocks if each.state == "claiming"],
            give_back=[quoted(each) for each in blocks if each.state == "releasing" and self._holdings.is_empty(each)],
        )

    def _balance(self, network: NetworkSpec, family: Family) -> tuple[int, set[str]]:
        """How many blocks to hold if that is more than there are, else 0; and blocks to give back."""
        mine = [
            each for each in self._holdings.state.blocks.values() if _serves(each, network, family) and each.state in ("claiming", OPEN)
        ]
        if not mine:
            return 1, set()
        now, size = self._clock(), max(map(_size, mine))
        pools = [PoolName(pool) for pool in network.pools]
        free = self._holdings.stock.free(pools, family, now)
        coming = sum(_size(each) for each in mine if each.state == "claiming" or _rests(each, now))
        marks = self._marks.of(size, any(each.pool in self.pressure for each in mine))
        if free + coming < marks.low:
            return len(mine) - (free + coming - 2 * marks.low) // size, set()
        return 0, self._spare(mine, free, marks)

    def _spare(self, mine: list[BlockHeld], free: int, marks: Marks) -> set[str]:
        """Empty, rested blocks without which there are still enough."""
        spare: set[str] = set()
        if len(mine) < 2:
            return spare
        for held in mine:
            size = _size(held)
            # Half a block at least stays, or under pressure the low mark, so that it is not asked for again at once.
            if free > marks.high and free - size >= max(marks.low, marks.high - size) and self._may_go(held):
                spare.add(held.prefix)
                free -= size
        return spare

    def _useless(self, networks: list[NetworkSpec]) -> set[str]:
        """Empty, rested blocks of pools that no network takes addresses from any more: it was deleted, or has other pools now."""
        used = {pool for network in networks for pool in network.pools}
        return {each.prefix for each in self._holdings.state.blocks.values() if each.pool not in used and self._may_go(each)}

    def _may_go(self, held: BlockHeld) -> bool:
        return held.state == OPEN and not _rests(held, self._clock()) and self._holdings.is_empty(held)

    def take(self, granted: BlocksGranted, request: BlocksWanted) -> int:
        """Journal what the manager says of our blocks. Gives back how many changed, so that the next step follows at once."""
        before = {prefix: (held.state, held.claim) for prefix, held in self._holdings.state.blocks.items()}
        confirmed = {(each.prefix, each.claim) for each in request.confirm}
        for block in granted.blocks:
            self._take_one(block, (block.prefix, block.claim) in confirmed)
        listed = {block.prefix for block in granted.blocks}
        for prefix, held in list(self._holdings.state.blocks.items()):
            if prefix not in listed:
                self.lose(held)
        return len({(p, (h.state, h.claim)) for p, h in self._holdings.state.blocks.items()} ^ set(before.items()))

    def _take_one(self, block: GrantedBlock, asked_to_confirm: bool) -> None:
        held = self._holdings.state.blocks.get(block.prefix)
        if block.state == "held_back":
            self._holdings.hold(block, "held_back")
        elif block.state == "releasing":
            self._released(block, held)
        elif held is None or held.claim != block.claim:
            self._holdings.hold(block, "claiming")
        elif held.state == "claiming" and asked_to_confirm and block.state == "confirmed":
            self._holdings.hold(block, OPEN)
        else:
            self._holdings.hold(block, OPEN if held.state == "held_back" else held.state)

    def _released(self, block: GrantedBlock, held: BlockHeld | None) -> None:
        """Ours no more once it is empty; an operator may take one back in which pods still live."""
        if held is None:
            return
        self._holdings.hold(block, "releasing")
        if held.state == "releasing" and self._holdings.is_empty(held):
            self._holdings.drop(block.prefix)

    def lose(self, held: BlockHeld) -> None:
        """The manager does not know it as ours: nothing is assigned in it any more, and pods in it keep what they have."""
        if held.state in ("claiming", "releasing") or self._holdings.is_empty(held):
            self._holdings.drop(held.prefix)
        else:
            self._holdings.turn(held, "held_back")


def quoted(held: BlockHeld) -> HeldBlock:
    """A block as the agent names it to the manager."""
    return HeldBlock(prefix=held.prefix, claim=held.claim, generation=held.generation)


def _serves(held: BlockHeld, network: NetworkSpec, family: Family) -> bool:
    return held.pool in network.pools and parse_prefix(held.prefix).version == family.value


def _size(held: BlockHeld) -> int:
    prefix = parse_prefix(held.prefix)
    return 1 << (prefix.max_prefixlen - prefix.prefixlen)


def _rests(held: BlockHeld, now: datetime) -> bool:
    return held.rested_at is not None and held.rested_at > now
