"""The agent's process: builds everything once, starts it in order, ends it in order.

Order: lock, journal, kernel, manager (where it answers; else what the journal says is served), spool, socket.
"""

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from fabricmgr.agent import conflist, process, server
from fabricmgr.agent.announce import Announcer
from fabricmgr.agent.beats import Beats
from fabricmgr.agent.central import Central
from fabricmgr.agent.flows import PERIOD, Flows
from fabricmgr.agent.ground import Ground
from fabricmgr.agent.holdings import Holdings
from fabricmgr.agent.host import Severity
from fabricmgr.agent.identity import Identity
from fabricmgr.agent.journal import Found, Journal, Writable, boot_id, lock
from fabricmgr.agent.leaving import Leaving
from fabricmgr.agent.links import Kernel
from fabricmgr.agent.manager import Manager
from fabricmgr.agent.operations import Operations, Parts
from fabricmgr.agent.readiness import Readiness
from fabricmgr.agent.reaper import Reaper
from fabricmgr.agent.reconcile import Reconcile
from fabricmgr.agent.records import Key
from fabricmgr.agent.report import Reporter
from fabricmgr.agent.spool import Spool
from fabricmgr.agent.status import SOCKET, Admin
from fabricmgr.agent.supply import Marks, Supply
from fabricmgr.agent.sync import REPORT_GATHER, Sync
from fabricmgr.agent.telemetry import MetricsPage
from fabricmgr.agent.verbs import Turns
from fabricmgr.domain.addresses import Family
from fabricmgr.domain.errors import FabricError, KernelRefused
from fabricmgr.domain.names import PoolName
from fabricmgr.loop import Loop, Outcome
from fabricmgr.netlink import conntrack
from fabricmgr.netlink.sockets import NetlinkSocket
from fabricmgr.problems import sentence
from fabricmgr.settings import AgentSettings
from fabricmgr.wire import ANNOUNCING_PERIOD, Announce, Desired

log = logging.getLogger(__name__)

# Seconds that start-up waits for the manager before it serves what the journal says.
GREET_LIMIT = 3.0
LAST_WORDS_LIMIT = 2.0
# Seconds in which ADDs gather before one look decides on more blocks: it walks every address held.
SUPPLY_GATHER = 0.02
# Seconds that a report waits for calls to end.
REPORT_PATIENCE = 0.25

# New objects before the collector looks for cycles, and how many looks make it look at older ones: the agent makes few cycles.
COLLECTION = (5000, 20, 50)

OpenJournal = Callable[[Path, UUID], tuple[Writable, Found]]
OpenSocket = Callable[[int], NetlinkSocket]


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Doors:
    """Where the outside comes in. A test hands in ones that end the process at a chosen moment."""

    open_journal: OpenJournal = Journal.open
    open_socket: OpenSocket = NetlinkSocket


class Agent:
    """All of one agent. `run` serves until it is told to end."""

    def __init__(self, settings: AgentSettings, identity: Identity, doors: Doors | None = None):
        """Reads the journal and the kernel. Raises InUse when another agent runs here, JournalUnusable, KernelRefused."""
        doors = doors or Doors()
        self.settings = settings
        self.ended = asyncio.Event()
        server.prepare_directory(settings.run_dir)
        boot = boot_id()
        self._lock = lock(settings.run_dir / "agent.lock", boot)
        self.journal, found = doors.open_journal(settings.run_dir / "journal", boot)
        log.info("journal read", extra={"life": str(self.journal.state.header.life), "found": found.sentence})
        self._build(identity, doors, found)

    def _build(self, identity: Identity, doors: Doors, found: Found) -> None:
        settings = self.settings
        self.turns = Turns()
        self.kernel = Kernel(doors.open_socket)
        self.reaper: Reaper[Key | None] = Reaper(self._gone, doors.open_socket)
        self.holdings = Holdings(self.journal, now)
        self.manager = Manager(identity, time.monotonic)
        self.ground = Ground(self.kernel, self.holdings, settings.accept_forward)
        self.central = Central(self.holdings, self.manager, time.monotonic)
        self.flows = Flows(self.holdings, lambda addresses: conntrack.forget(self.kernel.netfilter, addresses), now)
        self.leaving = Leaving(self.kernel, self.holdings, self.reaper.take)
        self.reconcile = Reconcile(self.kernel, self.holdings, self.leaving, now, self.turns.busy)
        self.supply = Supply(self.holdings, self.manager, Marks(settings.low_mark, settings.high_mark), now)
        self.sync = Sync(self.holdings, self.manager, self.supply, now, self._apply, self.ground.interfaces, found.lost)
        self.sync.busy = self.turns.busy
        self.sync.faults = self._faults
        self._looks: int | None = None
        self.readiness = Readiness(self.holdings, self.ground, self.central, now, self._heard, self._journal_trouble)
        parts = Parts(self.kernel, self.holdings, self.ground, self.central, self.leaving, self.readiness, self.turns)
        self.announcer = Announcer(self.kernel, self._announcements, self.ground.bridges)
        self.beats = Beats(lambda: self.sync.life, self.announcer.voices, self.manager.announcing, self.announcer.leased)
        self.operations = Operations(parts, now, self.manager.url)
        self.spool = Spool(settings.socket_path.parent / "spool", self.operations.delete, self.turns)
        self.server = server.Server(self.operations, settings.socket_path, self.spool, self.turns)
        self.loops = self._loops()
        self._wire()
        reporter = Reporter(self)
        self.admin = Admin(settings.run_dir / SOCKET, reporter.status)
        self.page = MetricsPage(settings.metrics_listen, reporter.status) if settings.metrics_listen else None

    def _loops(self) -> dict[str, Loop]:
        passes: Sequence[tuple[str, Callable[[], Awaitable[Outcome]], float]] = (
            ("hello", self._greet, 1.0),
            ("report", self._report, 5.0),
            ("desired", self.sync.follow, 1.0),
            ("supply", self.supply.once, 5.0),
            ("ground", self._ground, 10.0),
            ("leaving", self.leaving.again, 5.0),
            ("flows", self.flows.once, PERIOD),
            ("reconcile", self.reconcile.once, 30.0),
            ("settle", self.sync.settle, 5.0),
            ("spool", self.spool.once, 1.0),
            ("conflist", self._conflist, 5.0),
            ("renew", self._renew, 60.0),
            ("announce", self.announcer.once, 60.0),
            ("announcing", self.beats.once, ANNOUNCING_PERIOD),
        )
        return {name: Loop(name, once, period) for name, once, period in passes}

    def _wire(self) -> None:
        """Who wakes whom."""
        self.holdings.changed = partial(self.loops["report"].wake_within, REPORT_GATHER)
        self.holdings.taken = self._taken
        self.holdings.blocks_changed = self.ground.widen
        self.supply.must_greet = self._must_greet
        self.leaving.left = self._left
        self.announcer.woken = self.loops["announce"].wake
        self.announcer.changed = self.loops["announcing"].wake

    def _announcements(self) -> list[Announce]:
        """Also those that the journal knows, when the manager is away from the start."""
        desired = self.holdings.state.desired
        return desired.announcements if desired else []

    def _must_greet(self) -> None:
        self.sync.greeted = False
        self.loops["hello"].wake()

    def _taken(self, pools: Sequence[str], families: Iterable[Family]) -> None:
        names = [PoolName(pool) for pool in pools]
        if any(self.holdings.stock.at_hand(names, family) < 2 * self.settings.low_mark for family in families):
            self.loops["supply"].wake_within(SUPPLY_GATHER)

    def _left(self) -> None:
        """They left in a bunch, so there is nothing to gather: the manager may have their addresses rest."""
        self.loops["supply"].wake()
        self.loops["report"].wake()

    def _gone(self, keys: Sequence[Key | None]) -> None:
        """Called in the reaper's thread."""
        with suppress(RuntimeError):  # the loop has ended: the next start finds the links gone
            self._loop.call_soon_threadsafe(self.leaving.reaped, list(keys))

    async def _apply(self, desired: Desired) -> None:
        self.loops["announce"].wake()
        await self.ground.apply(desired)
        await self._look_again(desired.looks)
        self.loops["supply"].wake()
        self.loops["conflist"].wake()

    async def _look_again(self, looks: int) -> None:
        """The manager doubts what it knows of our attachments: what journal and kernel say now counts. A start has just looked."""
        before, self._looks = self._looks, looks
        if before is not None and looks != before:
            await self.reconcile.once()
            self._must_greet()

    def clock(self) -> datetime:
        return now()

    def seconds_since(self, heard_at: float) -> float:
        """Since a moment of the monotonic clock."""
        return time.monotonic() - heard_at

    def _heard(self) -> float | None:
        heard = self.manager.heard_at
        return None if heard is None else self.seconds_since(heard)

    def _journal_trouble(self) -> str:
        return self.journal.usable()

    # --- passes of its own ---

    async def _greet(self) -> Outcome:
        before = self.sync.greeted
        outcome = await self.sync.greet()
        if self.sync.greeted and not before:
            for name in ("report", "supply", "desired", "settle"):
                self.loops[name].wake()
        return outcome

    async def _report(self) -> Outcome:
        """A report costs as much as several ADDs, and they come first."""
        await self.server.lull(REPORT_PATIENCE)
        return await self.sync.report()

    async def _ground(self) -> Outcome:
        """The manager hears of another address of this node too: it is where others send our pods' packets."""
        outcome = await self.ground.once()
        if self.sync.greeted and (self.ground.interfaces() != self.sync.told_interfaces or self._faults() != self.sync.told_faults):
            self._must_greet()
        return outcome

    def _faults(self) -> list[str]:
        """What makes pods' packets be lost here, in sentences: such a node is to get no more of them."""
        try:
            return [each.sentence for each in self.ground.findings(None, "") if each.severity is Severity.FAULT]
        except KernelRefused as refused:
            return [sentence(refused)]

    async def _conflist(self) -> Outcome:
        """The runtime learns of a network when it can be served, and keeps it from then on."""
        installed = conflist.remembered(self.settings.data_dir)
        if installed is None:
            return Outcome.done("no plugin is installed by `agent install`")
        if self.ground.plan(installed.network) is None:
            return Outcome.done(f"network {installed.network} cannot be served yet")
        try:
            wrote = conflist.ensure(installed)
        except OSError as error:
            return Outcome.again(5.0, f"{installed.path} cannot be written: {error.strerror}")
        return Outcome.done(f"{installed.path} was written" if wrote else f"{installed.path} stands")

    async def _renew(self) -> Outcome:
        due = self.manager.identity.about.renew_at
        if now() < due:
            return Outcome.done(f"the certificate is renewed at {due.isoformat(timespec='seconds')}")
        try:
            await self.manager.renew()
        except FabricError as error:
            return Outcome.again(60.0, f"the certificate could not be renewed: {sentence(error)}")
        return Outcome.done("the certificate was renewed")

    # --- from start to end ---

    async def run(self) -> None:
        """Serve until `ended` is set."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._start()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(loop.run(), name=name) for name, loop in self.loops.items()]
                await self.ended.wait()
                self.announcer.stop()
                await self.server.stop()
                for task in tasks:
                    task.cancel()
            await self._last_words()
        finally:
            await self._close()

    async def _start(self) -> None:
        self.reaper.start()
        self.reconcile.at_start()
        self.ground.widen()
        with suppress(TimeoutError):
            async with asyncio.timeout(GREET_LIMIT):
                await self.sync.greet()
        await self.spool.once()
        if self.page is not None:
            log.info("metrics", extra={"port": await self.page.start()})
        await self.admin.start()
        # What was made up to here stays: the collector need not walk it again in the middle of an ADD.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECTION)
        process.use_large_pages()
        await self.server.start()
        log.info("serving", extra={"node": self.manager.identity.about.node, "socket": str(self.settings.socket_path)})

    async def _last_words(self) -> None:
        """Report what is not reported, where the manager answers at once."""
        self.reaper.stop()
        await asyncio.sleep(0)  # what the reaper's thread handed over
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_LIMIT):
                await self.beats.farewell()
                while self.sync.greeted and self.holdings.state.unreported:
                    if (await self.sync.report()).sentence not in ("more to report", "all is reported"):
                        return

    async def _close(self) -> None:
        await self.server.stop()
        await self.admin.stop()
        if self.page is not None:
            await self.page.stop()
        await self.manager.close()
        self.kernel.close()
        self.journal.close()
        os.close(self._lock)


async def serve(settings: AgentSettings, doors: Doors | None = None) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises NotEnrolled, InUse, JournalUnusable, KernelRefused."""
    agent = Agent(settings, Identity.load(settings.data_dir), doors)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.ended.set)
    await agent.run()
    log.info("ended")
