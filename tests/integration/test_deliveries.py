"""Events posted to subscribers, on a clock that is moved by hand: a receiver that is down, slow, wrong or gone, by each policy."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography import x509

from fabricmgr.controllers.deliveries import Deliveries, Post
from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.events import PoolChanged, ReservationAdded
from fabricmgr.domain.subscription import Filters, Policy, Subscription, SubscriptionChange, SubscriptionDraft
from fabricmgr.services import subscriptions
from fabricmgr.services.certificates import Authority, load_key, new_authority
from fabricmgr.store import tables
from fabricmgr.store.leadership import lead
from fabricmgr.store.positions import move
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database, Tx
from fabricmgr.web.outbound import Outbound
from tests.support.database import NOW, opened
from tests.support.receiver import Receiver, receiver
from tests.support.serve_process import free_port

DOWN = timedelta(minutes=10)
STEP = timedelta(seconds=5)
SEALER = Sealer(b"k" * 32)
POOLS = Filters(registries=("Fabric",))


@dataclass
class Hand:
    """A database whose events are positioned, and deliveries from it, at a time that is moved by hand."""

    url: str
    database: Database
    now: datetime = NOW
    post: Post = field(default_factory=lambda: Post(Outbound((ip_network("127.0.0.0/8"),)), SEALER))
    deliveries: Deliveries = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """As another leader begins."""
        self.deliveries = Deliveries(self.database, self.post, lambda: self.now)

    async def subscribe(
        self,
        to: str,
        policy: Policy = Policy.FOREVER,
        filters: Filters = POOLS,
        headers: tuple[tuple[str, str], ...] = (),
        heartbeat: int | None = None,
    ) -> UUID:
        draft = SubscriptionDraft(to, "mine", policy, filters, headers=headers, heartbeat_minutes=heartbeat)
        make = partial(subscriptions.create, draft=draft, sealer=SEALER, new_id=uuid4, by="boss", now=self.now)
        return (await self.database.run(make)).id

    async def happen(self, *pools: str) -> None:
        """A change of each of these pools, positioned."""

        async def use(tx: Tx) -> None:
            for pool in pools:
                tx.emit(PoolChanged(pool, ("cooldown",), "boss"))

        await self.database.run(use)
        async with lead(self.url, "test") as leading:
            await move(leading)

    async def turn(self) -> None:
        """One look, and what each courier makes of it."""
        await self.deliveries.look()
        await asyncio.gather(*(each.loop.step() for each in list(self.deliveries.couriers.values())))

    async def wait(self, time: timedelta, *, while_happens: bool = False) -> list[str]:
        """Let time pass, step by step. Gives back the pools that changed meanwhile."""
        changed = []
        ends = self.now + time
        while self.now < ends:
            self.now += STEP
            if while_happens and self.now.second % 30 == 0:
                changed.append(f"at-{self.now:%H-%M-%S}")
                await self.happen(changed[-1])
            await self.turn()
        return changed

    async def of(self, id_: UUID) -> Subscription:
        async with self.database.read() as tx:
            return await subscriptions.get(tx, id_)

    async def service(self, attempts: int, seconds: int) -> None:
        change = partial(
            subscriptions.change_settings,
            enabled=None,
            attempts=attempts,
            interval=timedelta(seconds=seconds),
            if_version=None,
            by="boss",
        )
        await self.database.run(change)


@asynccontextmanager
async def hand(url: str) -> AsyncIterator[Hand]:
    async with opened(url) as database:
        made = Hand(url, database)
        await made.happen("before")
        yield made


def pools_told(taking: Receiver) -> list[str]:
    return [record["MessageArgs"][0] for record in taking.records if record["MessageId"].endswith("AddressPoolModified")]


@pytest.mark.parametrize("policy", Policy)
async def test_a_receiver_that_was_down_for_ten_minutes_gets_everything_afterwards(database_url: str, policy: Policy) -> None:
    """Attempts for longer than it was down: no policy has ended."""
    async with hand(database_url) as by_hand:
        await by_hand.service(attempts=1000, seconds=30)
        port = free_port()
        id_ = await by_hand.subscribe(f"http://127.0.0.1:{port}/events", policy)

        changed = await by_hand.wait(DOWN, while_happens=True)
        down = await by_hand.of(id_)
        with receiver(port) as taking:
            await by_hand.wait(timedelta(minutes=6))

        assert len(changed) == 20
        assert "ConnectError" in down.reason
        assert down.attempts >= (3 if policy is Policy.BACKOFF else 19)
        assert pools_told(taking) == changed
        assert (await by_hand.of(id_)).attempts == 0


async def test_suspend_after_retries_keeps_everything_for_when_it_is_resumed(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        await by_hand.service(attempts=3, seconds=30)
        port = free_port()
        id_ = await by_hand.subscribe(f"http://127.0.0.1:{port}/events", Policy.SUSPEND)
        changed = await by_hand.wait(DOWN, while_happens=True)
        suspended = await by_hand.of(id_)

        with receiver(port) as taking:
            await by_hand.wait(timedelta(minutes=5))
            before = taking.asked
            await by_hand.database.run(lambda tx: subscriptions.resume(tx, id_, None, "boss"))
            await by_hand.turn()
            await by_hand.turn()

        assert suspended.suspended
        assert suspended.attempts == 4
        assert before == 0
        assert pools_told(taking) == changed


async def test_terminate_after_retries_ends_the_subscription_and_says_so(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        await by_hand.service(attempts=3, seconds=30)
        id_ = await by_hand.subscribe(f"http://127.0.0.1:{free_port()}/events", Policy.TERMINATE)

        with receiver() as witness:
            await by_hand.subscribe(witness.url, filters=Filters(keys=("ResourceEvent.ResourceRemoved",)))
            await by_hand.wait(DOWN, while_happens=True)

        with pytest.raises(NotFound):
            await by_hand.of(id_)
        assert [each["OriginOfCondition"]["@odata.id"].rpartition("/")[2] for each in witness.records] == [str(id_)]


async def test_back_off_grows_up_to_five_minutes(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        await by_hand.service(attempts=0, seconds=10)
        asked: list[datetime] = []
        with receiver() as taking:

            def refuse(_: int) -> int:
                asked.append(by_hand.now)
                return 503

            taking.answers = refuse
            await by_hand.subscribe(taking.url, Policy.BACKOFF)
            await by_hand.happen("pods")
            await by_hand.turn()
            await by_hand.wait(timedelta(minutes=25))

        pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(asked)]
        assert pauses[:6] == [10, 20, 40, 80, 160, 300]
        assert set(pauses[6:]) == {300}


async def test_a_dead_and_a_slow_receiver_hold_up_nobody(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        with receiver() as quick, receiver() as failing:
            failing.answers = lambda _: 500
            for to in (f"http://127.0.0.1:{free_port()}/", failing.url, quick.url):
                await by_hand.subscribe(to)
            names = [f"pool-{number}" for number in range(250)]
            for name in names:
                await by_hand.happen(name)
            await by_hand.turn()

        assert pools_told(quick) == names
        assert quick.most_at_once == 1
        assert max(len(payload["Events"]) for payload in quick.payloads) == 100
        assert failing.payloads == []


async def test_a_leader_that_ends_between_post_and_note_tells_again_with_the_same_ids(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        with receiver() as taking:
            id_ = await by_hand.subscribe(taking.url)
            await by_hand.happen("a", "b")
            await by_hand.deliveries.look()
            stale = await by_hand.of(id_)
            await by_hand.turn()
            # As if the position had never been noted.
            await by_hand.database.run(lambda tx: tx.change(tables.subscription.update().values(position=stale.position)))
            by_hand.restart()
            await by_hand.turn()

        first, second = taking.payloads
        assert [each["EventId"] for each in first["Events"]] == [each["EventId"] for each in second["Events"]]
        assert [each["MessageArgs"][0] for each in second["Events"]] == ["a", "b"]


async def test_a_new_subscriber_is_told_what_happens_from_then_on(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        await by_hand.happen("earlier")
        with receiver() as taking:
            await by_hand.subscribe(taking.url)
            await by_hand.turn()
            await by_hand.happen("later")
            await by_hand.turn()

        assert pools_told(taking) == ["later"]


async def test_events_that_are_kept_no_longer_are_said_to_be_lost(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        with receiver() as taking:
            id_ = await by_hand.subscribe(taking.url)
            await by_hand.database.run(lambda tx: subscriptions.suspend(tx, id_, "boss"))
            for name in ("a", "b", "c"):
                await by_hand.happen(name)
            event = tables.event
            await by_hand.database.run(lambda tx: tx.change(event.delete().where(event.c.about["pool"].astext.is_distinct_from("c"))))
            await by_hand.database.run(lambda tx: subscriptions.resume(tx, id_, None, "boss"))
            by_hand.restart()
            await by_hand.turn()

        assert taking.records[0]["MessageId"] == "Base.1.22.EventBufferExceeded"
        assert pools_told(taking) == ["c"]


async def test_a_subscription_that_is_resumed_may_skip_what_is_older(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        with receiver() as taking:
            id_ = await by_hand.subscribe(taking.url)
            await by_hand.database.run(lambda tx: subscriptions.suspend(tx, id_, "boss"))
            await by_hand.happen("missed")
            later = by_hand.now + timedelta(minutes=1)
            await by_hand.database.run(lambda tx: subscriptions.resume(tx, id_, later, "boss"))
            await by_hand.turn()
            await by_hand.happen("wanted")
            await by_hand.turn()

        assert pools_told(taking) == ["wanted"]


async def test_headers_are_sent_and_lie_sealed_in_the_database(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        with receiver() as taking:
            id_ = await by_hand.subscribe(taking.url, headers=(("Authorization", "Bearer hidden"),))
            await by_hand.happen("pods")
            await by_hand.turn()

        stored = (await by_hand.of(id_)).headers
        assert stored is not None
        assert b"hidden" not in stored
        assert taking.headers[0]["Authorization"] == "Bearer hidden"
        assert taking.headers[0]["Content-Type"] == "application/json"


async def test_heartbeats_come_while_nothing_happens(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        with receiver() as taking:
            await by_hand.subscribe(taking.url, heartbeat=2)
            await by_hand.wait(DOWN)

        assert [each["MessageId"] for each in taking.records] == ["HeartbeatEvent.1.1.RedfishServiceFunctional"] * 5
        assert len({each["EventId"] for each in taking.records}) == 5


async def test_a_disabled_service_delivers_nothing_and_loses_nothing(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        switch = partial(subscriptions.change_settings, attempts=None, interval=None, if_version=None, by="boss")
        with receiver() as taking:
            await by_hand.subscribe(taking.url)
            await by_hand.database.run(partial(switch, enabled=False))
            await by_hand.happen("pods")
            await by_hand.wait(timedelta(minutes=1))
            before = taking.asked
            await by_hand.database.run(partial(switch, enabled=True))
            await by_hand.turn()

        assert before == 0
        assert pools_told(taking) == ["pods"]


async def test_a_destination_that_the_policy_refuses_now_is_never_reached(database_url: str) -> None:
    async with hand(database_url) as by_hand:
        with receiver() as taking:
            id_ = await by_hand.subscribe(taking.url)
            by_hand.post = Post(Outbound((ip_network("192.0.2.0/24"),)), SEALER)
            by_hand.restart()
            await by_hand.happen("pods")
            await by_hand.turn()

        assert taking.asked == 0
        assert "outbound_allow" in (await by_hand.of(id_)).reason


async def test_messages_of_one_pool_are_told_in_the_order_of_their_making(database_url: str) -> None:
    async with hand(database_url) as by_hand:

        async def use(tx: Tx) -> None:
            for number in range(20):
                tx.emit(ReservationAdded("pods", f"10.0.0.{number}/32", "kept", "boss"))

        with receiver() as taking:
            await by_hand.subscribe(taking.url, filters=Filters(origins=("/redfish/v1/Fabrics/ethernet",), subordinates=True))
            await by_hand.database.run(use)
            await by_hand.happen("last")
            await by_hand.turn()

        said = [each["Message"] for each in taking.records]
        assert [text.split()[1] for text in said[:20]] == [f"10.0.0.{number}/32" for number in range(20)]


@pytest.mark.parametrize(("trusted", "verify", "taken"), [(True, True, True), (False, True, False), (False, False, True)])
async def test_a_receivers_certificate_is_verified_unless_the_subscription_says_otherwise(
    database_url: str, tmp_path: Path, trusted: bool, verify: bool, taken: bool
) -> None:
    certificate, key = new_authority("receivers", datetime.now(UTC))
    authority = Authority(load_key(key), x509.load_pem_x509_certificate(certificate.encode()))
    pem, own = authority.issue_server(["127.0.0.1"], datetime.now(UTC))
    file = tmp_path / "receiver.pem"
    file.write_text(own + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    async with hand(database_url) as by_hand:
        by_hand.post = Post(Outbound((ip_network("127.0.0.0/8"),)), SEALER, certificate if trusted else "")
        by_hand.restart()
        with receiver(tls=context) as taking:
            id_ = await by_hand.subscribe(taking.url)
            change = SubscriptionChange(verify_certificate=verify)
            await by_hand.database.run(lambda tx: subscriptions.change(tx, id_, change, SEALER, None, "boss"))
            await by_hand.happen("pods")
            await by_hand.turn()

        assert pools_told(taking) == (["pods"] if taken else [])
        assert ("certificate" in (await by_hand.of(id_)).reason.lower()) is not taken
