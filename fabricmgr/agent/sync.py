"""How manager and agent keep the same picture: hello at the beginning of a life, reports upwards, the desired state downwards."""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from fabricmgr import __version__
from fabricmgr.agent.assign import Stock
from fabricmgr.agent.holdings import OPEN, Holdings, with_addresses
from fabricmgr.agent.identity import machine_id
from fabricmgr.agent.manager import Manager
from fabricmgr.agent.records import Acked, Attached, Key, Sending, Stage, Wanted
from fabricmgr.agent.supply import Supply, quoted
from fabricmgr.domain.addresses import Family, parse_address
from fabricmgr.domain.errors import FabricError, HelloRequired, ManagerUnavailable, ReportGap
from fabricmgr.domain.names import PoolName
from fabricmgr.loop import Outcome
from fabricmgr.metrics import AGENT_REPORTS
from fabricmgr.problems import sentence
from fabricmgr.wire import HEARTBEAT_PERIOD, MAX_REPORT_CHANGES, Attach, Desired, Hello, Interface, Owned, Report, Welcome

log = logging.getLogger(__name__)

# Seconds. A refused hello is said again: another life's heartbeat may be about to lapse.
GREET_AGAIN = 2.0
AGAIN = 1.0
# How often new routes alone are journalled.
ROUTES_PERIOD = timedelta(minutes=1)
# Seconds in which changes gather into one report: sending one costs as much as an ADD.
REPORT_GATHER = 0.1


class Sync:
    """One agent's side of the two channels. apply: makes the node so; it raises FabricError when it cannot, and is tried again."""

    def __init__(
        self,
        holdings: Holdings,
        manager: Manager,
        supply: Supply,
        clock: Callable[[], datetime],
        apply: Callable[[Desired], Awaitable[None]],
        interfaces: Callable[[], list[Interface]],
        journal_lost: bool,
    ):
        self.greeted = False
        self.refused = ""
        self.conflicts: list[str] = []
        self.told_interfaces: list[Interface] = []
        self._unremembered = False
        self._routes_due = clock()
        self.acted_on = ""
        self.busy: Callable[[Key], bool] = lambda key: False
        self.faults: Callable[[], list[str]] = list
        self.told_faults: list[str] = []
        self._told_free: dict[str, int] | None = None
        self._holdings = holdings
        self._manager = manager
        self._supply = supply
        self._clock = clock
        self._apply = apply
        self._interfaces = interfaces
        self._journal_lost = journal_lost

    @property
    def life(self) -> UUID:
        return self._holdings.state.header.life

    def standing_conflicts(self) -> list[str]:
        """Addresses that the manager says another has. One in an open block of ours is settled by our report: there we are the truth."""
        holder = self._holdings.stock.holder
        return [each for each in self.conflicts if (stored := holder(parse_address(each))) is None or not stored.open]

    # --- hello ---

    async def greet(self) -> Outcome:
        """Say hello once for each life, and again when the manager asks for it."""
        if self.greeted:
            return Outcome.done("the manager knows this life")
        try:
            welcome = await self._manager.hello(self.hello())
        except FabricError as error:
            self.refused = "" if isinstance(error, ManagerUnavailable) else sentence(error)
            return Outcome.again(GREET_AGAIN, f"hello was not taken: {sentence(error)}")
        self.welcomed(welcome)
        return Outcome.done(f"the manager knows this life; {len(welcome.blocks)} blocks")

    def hello(self) -> Hello:
        """All that the journal and the kernel say."""
        state = self._holdings.state
        self.told_interfaces = interfaces = self._interfaces()
        self.told_faults = faults = self.faults()
        addresses = [address.partition("/")[0] for each in interfaces for address in each.addresses]
        return Hello(
            life=self.life,
            boot_id=state.header.boot_id,
            machine_id=machine_id(),
            agent_version=__version__,
            now=self._clock(),
            last_number=state.number,
            mark=state.mark,
            journal_lost=self._journal_lost,
            blocks=[quoted(each) for each in state.blocks.values() if each.state != "claiming"],
            attachments=[owned for each in state.attachments.values() if (owned := told(each)) is not None],
            addresses=first_of_each_family(addresses),
            interfaces=interfaces,
            faults=faults,
        )

    def welcomed(self, welcome: Welcome) -> None:
        """Take the manager's answer into the journal."""
        self.greeted, self.refused, self._journal_lost = True, "", False
        self.conflicts = welcome.conflicts
        self._renumber(welcome.last_number, welcome.mark)
        blocks = self._holdings.state.blocks
        for prefix in welcome.lost:
            if prefix in blocks:
                self._supply.lose(blocks[prefix])
        for granted in welcome.blocks:
            held = blocks.get(granted.prefix)
            if held is None or held.claim != granted.claim:
                self._holdings.hold(granted, "claiming")
            elif granted.state == "held_back":
                self._holdings.hold(granted, "held_back")
            else:
                self._holdings.hold(granted, OPEN if held.state == "held_back" else held.state)

    def _renumber(self, last: int, mark: str) -> None:
        """Go on after the last batch that the manager has: a restored database may know of fewer than were acknowledged."""
        state = self._holdings.state
        sending = state.sending
        if sending is not None and last >= sending.number:
            self._write(Acked(number=last, count=sending.count, mark=mark))
        elif last != state.number or mark != state.mark:
            self._write(Acked(number=last, count=0, mark=mark))
            if sending is not None:
                self._write(Sending(number=last + 1, count=sending.count))

    # --- reports ---

    async def report(self) -> Outcome:
        """Send the next batch, or the one that was not acknowledged, as it was."""
        state = self._holdings.state
        if not self.greeted:
            return Outcome.again(AGAIN, "hello comes first")
        if not state.unreported and (state.sending is None and self.free() == self._told_free):
            return Outcome.done("all is reported")
        if state.sending is None:
            self._write(Sending(number=state.number + 1, count=min(len(state.unreported), MAX_REPORT_CHANGES)))
        try:
            await self._send_batch()
        except FabricError as error:
            AGENT_REPORTS.labels(type(error).__name__).inc()
            return self._not_taken(error)
        AGENT_REPORTS.labels("acknowledged").inc()
        if not state.unreported:
            return Outcome.done("all is reported")
        return Outcome.again(0.0 if len(state.unreported) >= MAX_REPORT_CHANGES else REPORT_GATHER, "more to report")

    async def _send_batch(self) -> None:
        state, sending = self._holdings.state, self._holdings.state.sending
        if sending is None:
            return
        batch = Report(
            life=self.life,
            number=sending.number,
            changes=state.unreported[: sending.count],
            age_ms=self.age_ms(),
            free=self.free(),
        )
        answer = await self._manager.report(batch)
        self._told_free = batch.free
        # A hello in between may have settled this very batch.
        if state.sending == sending and answer.number >= sending.number:
            self._write(Acked(number=sending.number, count=sending.count, mark=answer.mark))
        self._supply.pressure = frozenset(answer.pressure)

    def _not_taken(self, error: FabricError) -> Outcome:
        if isinstance(error, HelloRequired):
            self.greeted = False
        if isinstance(error, ReportGap):
            self._renumber(error.expected - 1, self._holdings.state.mark)
            return Outcome.again(0.0, f"numbered anew from {error.expected}")
        return Outcome.again(AGAIN, f"the report was not taken: {sentence(error)}")

    def age_ms(self) -> int:
        """How far the manager's picture trails: milliseconds since the oldest unreported change."""
        unreported = self._holdings.state.unreported
        if not unreported:
            return 0
        return max(0, int((self._clock() - unreported[0].owned.at).total_seconds() * 1000))

    def free(self) -> dict[str, int]:
        """Free rested addresses in held blocks, by network and family."""
        desired = self._holdings.state.desired
        now = self._clock()
        return {
            f"{network.name}/{family}": free_of(self._holdings.stock, network.pools, Family(family), now)
            for network in (desired.networks if desired else [])
            for family in network.families
        }

    # --- what the manager may hold for us ---

    async def settle(self) -> Outcome:
        """Ask again where the manager's answer is not known, since the same question has the same answer: for intents that failed while
        they asked, to give back what it says; for attachments found in the kernel, to learn their generations."""
        if not self.greeted:
            return Outcome.again(AGAIN, "hello comes first")
        attachments = self._holdings.state.attachments
        asking = [each for key, each in attachments.items() if self._holdings.only_manager_knows(each) and not self.busy(key)]
        try:
            for each in asking:
                await self._settle(each)
        except ManagerUnavailable as error:
            return Outcome.again(AGAIN, f"{len(asking)} questions to the manager are open: {sentence(error)}")
        return Outcome.done("no question is open" if not asking else f"{len(asking)} questions were settled")

    async def _settle(self, attached: Attached) -> None:
        key = attached.place.key
        try:
            answer = await self._manager.attach(*key, Attach())
        except ManagerUnavailable:
            raise
        except FabricError as error:
            log.info("the manager has no address for an attachment", extra={"container": key[1], "reason": sentence(error)})
            if attached.stage is Stage.INTENT:
                self._holdings.undo(key)
            return
        if self._holdings.get(key) is not attached or self.busy(key):
            return
        if attached.stage is Stage.INTENT:
            self._holdings.learn(attached.place, answer.addresses)
            self._holdings.undo(key)
        elif {each.address for each in answer.addresses} == {each.address for each in attached.place.owned.addresses}:
            self._holdings.adopt(with_addresses(attached.place, answer.addresses))
        else:
            if not answer.repeated:
                await self._manager.detach(*key, max(each.generation for each in answer.addresses))
            self.conflicts = sorted({*self.conflicts, *(each.address for each in attached.place.owned.addresses)})

    # --- desired state ---

    async def follow(self) -> Outcome:
        """One long poll. It names the life, so it is the heartbeat too; the version it quotes is the one that was acted on."""
        try:
            desired = await self._manager.desired(self.life, self.acted_on, HEARTBEAT_PERIOD)
        except HelloRequired as error:
            self.greeted = False
            return Outcome.again(AGAIN, f"hello comes first: {sentence(error)}")
        except FabricError as error:
            self.refused = "" if isinstance(error, ManagerUnavailable) else sentence(error)
            return Outcome.again(AGAIN, f"the desired state is not known: {sentence(error)}")
        self.refused = ""
        if desired is None:
            known = self._holdings.state.desired
            if known is not None and self._clock() >= self._routes_due:
                self._remember(known)
            return Outcome.again(0.0, "nothing else is desired")
        return await self.act_on(desired)

    async def act_on(self, desired: Desired) -> Outcome:
        """Journal a desired state and make the node so."""
        self._remember(desired)
        self._terms(desired)
        try:
            await self._apply(desired)
        except FabricError as error:
            return Outcome.again(AGAIN, f"the node could not be made so: {sentence(error)}")
        self.acted_on = desired.version
        return Outcome.again(0.0, f"the node is as desired by version {desired.version}")

    def _remember(self, desired: Desired) -> None:
        """Journal it, unless only routes differ from what stands there: in a cluster of thousands they change with every node's block and
        are a megabyte, so those wait for a minute. An agent that starts while the manager is away has the older ones so long."""
        state, now = self._holdings.state, self._clock()
        if desired != state.desired:
            if state.desired is not None and without_routes(desired) == without_routes(state.desired) and now < self._routes_due:
                state.apply(Wanted(desired=desired))
                self._unremembered = True
                return
            self._unremembered = True
        if self._unremembered:
            self._write(Wanted(desired=desired))
            self._unremembered, self._routes_due = False, now + ROUTES_PERIOD

    def _terms(self, desired: Desired) -> None:
        """Reservations, cooldown and hold-back of blocks we have. Which blocks are ours, hello and supply settle."""
        for granted in desired.blocks:
            held = self._holdings.state.blocks.get(granted.prefix)
            if held is None or held.claim != granted.claim or held.state == "claiming":
                continue
            if granted.state == "held_back":
                self._holdings.hold(granted, "held_back")
            elif granted.state == "confirmed":
                self._holdings.hold(granted, OPEN if held.state == "held_back" else held.state)

    def _write(self, record: Acked | Sending | Wanted) -> None:
        self._holdings.journal.write(record)


def told(attached: Attached) -> Owned | None:
    """An attachment as hello names it. Of one that is still being made only what the manager itself gave: the rest is not true yet."""
    owned = attached.place.owned
    if attached.stage is Stage.DONE:
        return owned
    if attached.stage is Stage.GOING:
        return msgspec.structs.replace(owned, released=True)
    central = [each for each in owned.addresses if each.block is None]
    return msgspec.structs.replace(owned, addresses=central) if central else None


def without_routes(desired: Desired) -> Desired:
    return msgspec.structs.replace(desired, routes=[], version="")


def first_of_each_family(addresses: list[str]) -> list[str]:
    """The node's next hops: the first of each family, then the rest."""
    first: dict[bool, str] = {}
    for address in addresses:
        first.setdefault(":" in address, address)
    return [*first.values(), *(each for each in addresses if each not in first.values())]


def free_of(stock: Stock, pools: list[str], family: Family, now: datetime) -> int:
    return stock.free([PoolName(pool) for pool in pools], family, now)
