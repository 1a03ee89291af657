"""Batches are numbered and sent again as they were; hello settles where both stand; routes alone do not fill the journal."""

from datetime import datetime
from typing import cast

import pytest

from fabricmgr.agent.holdings import Holdings
from fabricmgr.agent.manager import Manager
from fabricmgr.agent.records import Acked, AnyRecord, Sending, State, Wanted
from fabricmgr.agent.supply import Marks, Supply
from fabricmgr.agent.sync import Sync, first_of_each_family, told
from fabricmgr.domain.errors import HelloRequired, ManagerUnavailable, ReportGap
from fabricmgr.loop import Outcome
from fabricmgr.wire import Acknowledged, ChangeKind, Desired, Hello, NetworkSpec, Report, Route, Welcome
from tests.support.agent_records import BLOCK, HEADER, NOW, address, later, place


class Memory:
    """A journal that keeps what was written."""

    def __init__(self) -> None:
        self.state = State(HEADER)
        self.written: list[AnyRecord] = []

    def write(self, record: AnyRecord) -> None:
        self.written.append(record)
        self.state.apply(record)

    def usable(self) -> str:
        return ""

    def close(self) -> None:
        return


class Scripted:
    """A manager that remembers one life's reports, and can be away or old."""

    def __init__(self) -> None:
        self.last = 0
        self.batches: list[Report] = []
        self.fault: Exception | None = None
        self.lost_answer = False

    async def hello(self, said: Hello) -> Welcome:
        self.last = max(self.last, said.last_number)
        return Welcome(node="n1", cluster="default", last_number=self.last, blocks=[], mark="m1", now=NOW)

    async def report(self, said: Report) -> Acknowledged:
        if self.fault is not None:
            raise self.fault
        if said.number > self.last + 1:
            raise ReportGap("n1", said.number, self.last + 1)
        if said.number == self.last + 1:
            self.last = said.number
            self.batches.append(said)
        if self.lost_answer:
            self.lost_answer = False
            raise ManagerUnavailable("https://m", "the connection broke")
        return Acknowledged(number=self.last, mark="m2")


class Desk:
    def __init__(self) -> None:
        self.now = NOW
        self.journal, self.manager = Memory(), Scripted()
        self.journal.write(BLOCK)
        self.holdings = Holdings(self.journal, self.clock)
        manager = cast("Manager", self.manager)
        self.supply = Supply(self.holdings, manager, Marks(16, 96), self.clock)
        self.applied: list[Desired] = []
        self.sync = Sync(self.holdings, manager, self.supply, self.clock, self.apply, list, False)
        self.sync.greeted = True

    def clock(self) -> datetime:
        return self.now

    async def apply(self, desired: Desired) -> None:
        self.applied.append(desired)

    def done(self, *containers: str) -> None:
        for number, name in enumerate(containers):
            self.holdings.done(place(name, address(number + 1, number + 8)))

    def written(self, kind: type[AnyRecord]) -> int:
        return sum(isinstance(record, kind) for record in self.journal.written)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def containers(report: Report) -> list[str]:
    return [change.owned.container for change in report.changes]


async def test_a_batch_whose_answer_was_lost_is_sent_again_as_it_was(desk: Desk) -> None:
    desk.done("a")
    desk.manager.lost_answer = True
    await desk.sync.report()

    desk.done("b")
    await desk.sync.report()
    await desk.sync.report()

    assert [(batch.number, containers(batch)) for batch in desk.manager.batches] == [(1, ["a"]), (2, ["b"])]
    assert not desk.journal.state.unreported
    assert desk.journal.state.mark == "m2"


async def test_a_batch_is_journalled_before_it_is_sent_and_after_it_was_taken(desk: Desk) -> None:
    desk.done("a")

    await desk.sync.report()

    kinds = [type(record) for record in desk.journal.written[-2:]]
    assert kinds == [Sending, Acked]


async def test_a_manager_that_asks_for_a_hello_gets_one_before_the_next_report(desk: Desk) -> None:
    desk.done("a")
    desk.manager.fault = HelloRequired("n1", "another life")
    await desk.sync.report()

    assert not desk.sync.greeted
    desk.manager.fault = None
    assert (await desk.sync.report()).sentence == "hello comes first"
    await desk.sync.greet()
    await desk.sync.report()

    assert [containers(batch) for batch in desk.manager.batches] == [["a"]]


async def test_a_manager_with_an_older_memory_gets_its_next_number(desk: Desk) -> None:
    for name in ("a", "b"):
        desk.done(name)
        await desk.sync.report()
    desk.manager.last = 0
    desk.done("c")

    outcome: Outcome = await desk.sync.report()
    assert outcome.after == 0.0
    await desk.sync.report()

    assert (desk.manager.batches[-1].number, containers(desk.manager.batches[-1])) == (1, ["c"])


async def test_hello_settles_a_batch_that_the_manager_had_taken(desk: Desk) -> None:
    desk.done("a")
    desk.manager.lost_answer = True
    await desk.sync.report()
    desk.sync.greeted = False

    await desk.sync.greet()

    assert not desk.journal.state.unreported
    assert desk.journal.state.number == 1


def test_hello_tells_what_is_true_and_of_what_is_being_made_only_the_managers_own(desk: Desk) -> None:
    desk.done("a")
    desk.holdings.intend(place("b", address(9, 30), address(200, 5, None)))
    desk.holdings.intend(place("c", address(10, 31)))
    desk.holdings.done(place("d", address(11, 32)))
    desk.holdings.going(("podnet", "d", "eth0"), "DEL")

    said = {owned.container: owned for owned in desk.sync.hello().attachments}

    assert set(said) == {"a", "b", "d"}
    assert [each.address for each in said["b"].addresses] == ["10.1.0.200"]
    assert said["d"].released
    assert told(desk.journal.state.attachments["podnet", "c", "eth0"]) is None


async def test_released_and_gone_are_two_facts_told_in_order(desk: Desk) -> None:
    desk.done("a")
    desk.holdings.going(("podnet", "a", "eth0"), "DEL")
    desk.holdings.reaped(("podnet", "a", "eth0"))

    await desk.sync.report()

    assert [change.kind for change in desk.manager.batches[0].changes] == [ChangeKind.ASSIGNED, ChangeKind.RELEASED, ChangeKind.GONE]


def desired(*via: str, mtu: int = 1500) -> Desired:
    network = NetworkSpec(name="podnet", pools=["pods"], families=[4], prefixes=["10.1.0.0/16"], mtu=mtu)
    routes = [Route(prefix=f"10.1.{number}.0/26", via=address, network="podnet") for number, address in enumerate(via)]
    return Desired(version=f"{via}{mtu}", node="n1", cluster="default", networks=[network], blocks=[], routes=routes)


async def test_routes_alone_are_journalled_once_a_minute_and_applied_at_once(desk: Desk) -> None:
    first, second = desired("192.0.2.1"), desired("192.0.2.1", "192.0.2.2")
    await desk.sync.act_on(first)
    await desk.sync.act_on(second)

    assert desk.written(Wanted) == 1
    assert desk.applied == [first, second]
    assert desk.journal.state.desired == second
    desk.now = later(61)
    await desk.sync.act_on(second)
    assert desk.written(Wanted) == 2
    await desk.sync.act_on(second)
    assert desk.written(Wanted) == 2
    await desk.sync.act_on(desired("192.0.2.1", mtu=1400))
    assert desk.written(Wanted) == 3


def test_the_first_address_of_each_family_comes_first() -> None:
    given = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]

    assert first_of_each_family(given) == ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"]


def test_how_far_the_picture_trails_is_the_age_of_the_oldest_change(desk: Desk) -> None:
    assert desk.sync.age_ms() == 0
    desk.done("a")

    desk.now = later(2.5)

    assert desk.sync.age_ms() == 2500


async def test_what_is_free_is_told_though_nothing_was_assigned(desk: Desk) -> None:
    """A cooldown ends without a change of any attachment; the manager would go on believing that the node has none."""
    network = NetworkSpec(name="pods", pools=[BLOCK.pool], families=[4], prefixes=[BLOCK.prefix])
    desk.journal.state.desired = Desired(version="v", node="n1", cluster="default", networks=[network], blocks=[], routes=[])

    await desk.sync.report()
    await desk.sync.report()
    (batch,) = desk.manager.batches

    assert batch.changes == []
    assert batch.free == desk.sync.free()
    assert desk.journal.state.sending is None


async def test_faults_of_the_network_are_said_with_hello(desk: Desk) -> None:
    desk.sync.faults = lambda: ["FORWARD drops"]

    assert desk.sync.hello().faults == ["FORWARD drops"]
    assert desk.sync.told_faults == ["FORWARD drops"]
