"""Events are posted to subscribers: to each in order and one POST at a time, to all of them side by side.

At least once: a position is noted after its POST was answered, so a leader that ends in between posts it again, with the same event ids."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import httpx2

from fabricmgr.domain.errors import DestinationRefused, FabricError
from fabricmgr.domain.subscription import Subscription
from fabricmgr.loop import Loop, Outcome
from fabricmgr.metrics import DELIVERIES
from fabricmgr.problems import sentence
from fabricmgr.redfish.feed import Feed, Happened
from fabricmgr.redfish.messages import Message, alive, lost, payload
from fabricmgr.services import subscriptions
from fabricmgr.store import subscription_rows
from fabricmgr.store.leadership import Leading
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database, Tx
from fabricmgr.store.wake import EVENT_CHANNEL
from fabricmgr.web.outbound import Outbound
from fabricmgr.web.responses import encode

PERIOD = 1.0  # seconds; also how soon a change of a subscription is seen where no event tells of it
SWEEP_PERIOD = 15.0
AT_ONCE = 100  # positions in one POST
NOTED = 1000  # positions that nobody wanted, after which this is noted
GATHER = 0.02  # seconds in which events are gathered before they are looked at
IDLE = 60.0
ANSWER_LIMIT = 500  # characters of a reason that are kept

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Post:
    """How a POST is made. authorities: PEM of CAs that receivers may have their certificates from, beside the system's."""

    outbound: Outbound
    sealer: Sealer
    authorities: str = ""
    _verified: list[ssl.SSLContext] = field(default_factory=list)
    _unverified: list[ssl.SSLContext] = field(default_factory=list)

    async def send(self, to: Subscription, id_: str, messages: Sequence[Message]) -> str:
        """Why it failed; "" where the receiver took it."""
        try:
            headers = [*subscriptions.headers(self.sealer, to), ("Content-Type", "application/json"), ("OData-Version", "4.0")]
            answer = await self.outbound.send(
                "POST",
                to.destination,
                content=encode(payload(id_, to.context, messages)),
                headers=headers,
                verify=self._context(to.verify_certificate),
            )
        except DestinationRefused as error:
            return sentence(error)
        except FabricError as error:
            return sentence(error)
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError, UnicodeError) as error:
            return f"{type(error).__name__}: {error}"[:ANSWER_LIMIT]
        return "" if answer.is_success else f"it answered {answer.status_code}"

    def _context(self, verify: bool) -> ssl.SSLContext:
        """Made once: reading the system's authorities takes longer than a POST."""
        kept = self._verified if verify else self._unverified
        if not kept:
            context = ssl.create_default_context()
            if verify and self.authorities:
                context.load_verify_locations(cadata=self.authorities)
            if not verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            kept.append(context)
        return kept[0]


class Courier:
    """Brings one subscriber what it wants. `to`: the subscription as it was last seen."""

    def __init__(self, to: Subscription, database: Database, feed: Feed, post: Post, clock: Clock) -> None:
        self.to = to
        self.loop = Loop("delivery", self.once, IDLE)
        self._database = database
        self._feed = feed
        self._post = post
        self._clock = clock
        self.notes = 0  # what it wrote of its subscription: a look that began before knows less
        self._at = to.position
        self._beat: datetime | None = None

    def see(self, to: Subscription) -> None:
        """The subscription as it is now. Wakes the courier where it has something to do."""
        resumed = self.to.suspended and not to.suspended
        if resumed:
            self._at = to.position
        changed = to != self.to
        self.to = to
        if changed or resumed or self._feed.newest > self._at:
            self.loop.wake()

    async def once(self) -> Outcome:
        """Deliver until there is nothing left, or the receiver fails."""
        while not self.to.suspended:
            now = self._clock()
            if self.to.next_try_at is not None and self.to.next_try_at > now:
                return Outcome.again((self.to.next_try_at - now).total_seconds(), "a receiver failed and is tried again later")
            found = await self._feed.after(self._at, AT_ONCE)
            if not found:
                return await self._idle(now)
            if not await self._deliver(found):
                break
        return Outcome.done("nothing is to be delivered")

    async def _deliver(self, found: Sequence[Happened]) -> bool:
        """Whether to go on."""
        last = found[-1].position
        messages = [message for each in found for message in each.messages if self.to.filters.wants(message)]
        if found[0].position > self._at + 1:
            messages.insert(0, lost(found[0].position - 1, found[0].at))
        if not messages:
            self._at = last
            if last - self.to.position >= NOTED:
                return await self._note(last)
            return True
        reason = await self._post.send(self.to, str(messages[-1].id), messages)
        return await (self._failed(reason) if reason else self._delivered(last))

    async def _delivered(self, last: int) -> bool:
        DELIVERIES.labels("delivered").inc()
        self._at = last
        self._beat = self._clock()
        return await self._note(last)

    async def _note(self, last: int) -> bool:
        after = await self._database.run(lambda tx: subscriptions.delivered(tx, self.to, last))
        self.notes += 1
        if after is None:
            return False
        self.to = after
        return True

    async def _failed(self, reason: str) -> bool:
        DELIVERIES.labels("failed").inc()
        now = self._clock()
        after = await self._database.run(lambda tx: subscriptions.failed(tx, self.to, reason, now))
        self.notes += 1
        if after is None:
            return False
        self.to = after
        return True

    async def _idle(self, now: datetime) -> Outcome:
        if self.to.heartbeat_minutes is None:
            return Outcome.done("nothing is to be delivered")
        every = timedelta(minutes=self.to.heartbeat_minutes)
        due = (self._beat or self.to.created_at) + every
        if due <= now:
            # It says that the service works now: one that does not arrive is not tried again.
            self._beat = now
            beat = alive(self._at, now)
            reason = await self._post.send(self.to, beat.id, [beat])
            DELIVERIES.labels("failed" if reason else "delivered").inc()
            due = now + every
        return Outcome.again((due - now).total_seconds(), "nothing but heartbeats is to be delivered")


class Deliveries:
    """All couriers of one reign: one for each subscription that events are posted to."""

    name = "deliveries"

    def __init__(self, database: Database, post: Post, clock: Clock, leading: Leading | None = None) -> None:
        self.couriers: dict[UUID, Courier] = {}
        self._database = database
        self._post = post
        self._clock = clock
        self._leading = leading
        self._listening = False
        self._feed = Feed(database)
        self._loop = Loop(self.name, self.look, PERIOD)
        self._tasks: dict[UUID, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled; then no POST is under way any more."""
        try:
            await self._loop.run()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def look(self) -> Outcome:
        """One pass: what happened is read, and each courier is shown its subscription as it is now."""
        if self._leading is not None and not self._listening:
            await self._leading.listen(EVENT_CHANNEL, lambda: self._loop.wake_within(GATHER))
            self._listening = True
        notes = {id_: courier.notes for id_, courier in self.couriers.items()}
        async with self._database.read() as tx:
            settings = await subscription_rows.settings(tx)
            wanted = {each.id: each for each in await subscription_rows.pushes(tx)} if settings.enabled else {}
        if wanted:
            await self._feed.refresh()
        for gone in self.couriers.keys() - wanted.keys():
            self._dismiss(gone)
        for id_, each in wanted.items():
            courier = self.couriers.get(id_)
            if courier is None:
                self._send_out(each)
            elif courier.notes == notes[id_]:
                courier.see(each)
        return Outcome.done("subscribers are told what happens")

    def _send_out(self, to: Subscription) -> None:
        courier = self.couriers[to.id] = Courier(to, self._database, self._feed, self._post, self._clock)
        if self._leading is not None:
            self._tasks[to.id] = asyncio.create_task(courier.loop.run(), name=f"delivery {to.id}")

    def _dismiss(self, id_: UUID) -> None:
        del self.couriers[id_]
        task = self._tasks.pop(id_, None)
        if task is not None:
            task.cancel()


async def sweep(database: Database, unseen: timedelta, now: datetime) -> Outcome:
    """Subscriptions of streams whose worker was killed."""

    async def use(tx: Tx) -> int:
        return await subscription_rows.remove_unseen(tx, now - unseen)

    gone = await database.run(use)
    return Outcome.done(f"{gone} streams ended without a word" if gone else "every stream is open")
