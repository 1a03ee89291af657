"""Everything at once on a real Postgres: two managers, three agents at the level of the wire, time that passes, and late messages.

The model remembers what callers were told and asks nothing of the database: an address has one owner; the same owner gets the same answer;
nothing is used before its cooldown is over; each assignment of an address has a higher generation than all before."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.block import Block
from fabricmgr.domain.errors import (
    AddressCooling,
    AddressHeld,
    AddressInNodeBlock,
    AddressInTransition,
    AddressReserved,
    AlreadyExists,
    HelloRequired,
    NodeIsGone,
    PoolExhausted,
    Unauthenticated,
)
from fabricmgr.domain.names import PoolName
from fabricmgr.services import blocks
from fabricmgr.store.tx import Tx
from tests.support.accounting import broken
from tests.support.writing import Clock, Site, change, held, site

T = TypeVar("T")

COOLDOWN = timedelta(seconds=20)
V4, V6 = "10.0.0.0/26", "2001:db8::/122"
TABLES = (
    *("allocation", "spare", "supply", "block", "report", "certificate", "node", "history", "outbox"),
    *("network_pool", "network", "reservation", "prefix", "pool"),
)
REFUSED = (
    AddressHeld,
    AddressCooling,
    AddressInNodeBlock,
    AddressInTransition,
    AddressReserved,
    AlreadyExists,
    PoolExhausted,
)


@dataclass
class Agent:
    """What one agent knows: blocks with their slots, pods in them, attachments by the manager, and changes to tell."""

    node: NodePrincipal
    life: UUID
    boot: UUID
    number: int = 0
    blocks: dict[str, Block] = field(default_factory=dict)
    pods: dict[str, tuple[str, int, wire.BlockAddress]] = field(default_factory=dict)
    central: dict[str, list[wire.BlockAddress]] = field(default_factory=dict)
    going: list[tuple[str, list[wire.BlockAddress]]] = field(default_factory=list)
    unreported: list[wire.Change] = field(default_factory=list)
    made: int = 0

    def addresses(self) -> list[wire.BlockAddress]:
        alone = [each for _, _, each in self.pods.values()]
        return [*alone, *(a for each in self.central.values() for a in each), *(a for _, each in self.going for a in each)]


@dataclass
class World:
    """Two managers on one database. They outlive examples; rows do not."""

    runner: asyncio.Runner
    sites: tuple[Site, Site]
    clock: Clock


class Fabric(RuleBasedStateMachine):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.clock = world.clock
        self.live: dict[str, str] = {}
        self.gone_at: dict[str, datetime] = {}
        self.generations: dict[str, int] = {}
        self.direct: dict[str, list[str]] = {}
        self.reserved: set[str] = set()
        self.count = 0
        self.steps = 0
        self.agents: list[Agent] = [self.run(self._enrol(f"n{n}")) for n in self.run(self._begin())]

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.world.runner.run(what)

    def at(self, manager: int) -> Site:
        return self.world.sites[manager]

    async def _begin(self) -> list[int]:
        here = self.at(0)
        tables = (
            "allocation, spare, supply, block, report, certificate, node, history, outbox, network_pool, network, reservation, prefix, pool"
        )
        for table in tables.split(", "):
            await here.sql.execute(f"delete from {table}")
        pool = await here.pool("pods", V4, V6, block=29, cooldown=COOLDOWN.total_seconds())
        await here.network("pods", pool)
        return [0, 1, 2]

    async def _enrol(self, name: str) -> Agent:
        node = await self.at(0).node(name)
        agent = Agent(node, uuid4(), uuid4())
        await self.at(0).hello(node, agent.life, agent.boot)
        return agent

    # --- what callers are told ---------------------------------------------------------------------------------------

    def given(self, address: str, owner: str, generation: int) -> None:
        assert address not in self.live, f"{address} has two owners: {self.live[address]} and {owner}"
        assert address not in self.gone_at or self.gone_at[address] + COOLDOWN <= self.clock(), f"{address} was used before its cooldown"
        assert generation > self.generations.get(address, 0), f"{address}: generation {generation} is not new"
        assert address not in self.reserved
        self.live[address] = owner
        self.generations[address] = generation

    def ended(self, address: str) -> None:
        del self.live[address]
        self.gone_at[address] = self.clock()

    def fresh(self) -> str:
        self.count += 1
        return f"c{self.count}"

    # --- direct clients ----------------------------------------------------------------------------------------------

    @rule(manager=st.integers(0, 1), name=st.sampled_from("abcdefgh"), families=st.sampled_from([(4,), (6,), (4, 6)]))
    def take(self, manager: int, name: str, families: tuple[int, ...]) -> None:
        try:
            got = self.run(self.at(manager).take("pods", name, families=families))
        except PoolExhausted:
            return
        self._told(name, [(str(each.address), each.generation) for each in got.addresses])
        assert {ip_address(each).version for each in self.direct[name]} >= set(families)

    @rule(manager=st.integers(0, 1), name=st.sampled_from("abcdefgh"), offset=st.integers(0, 63), family=st.sampled_from([V4, V6]))
    def take_asked(self, manager: int, name: str, offset: int, family: str) -> None:
        address = str(ip_network(family)[offset])
        try:
            got = self.run(self.at(manager).take("pods", name, address=address))
        except REFUSED:
            return
        self._told(name, [(str(each.address), each.generation) for each in got.addresses])
        assert address in self.direct[name]

    def _told(self, name: str, got: list[tuple[str, int]]) -> None:
        known = self.direct.setdefault(name, [])
        assert set(known) <= {address for address, _ in got}, f"{name} was told {known}, now {got}"
        for address, generation in got:
            if address not in known:
                self.given(address, name, generation)
                known.append(address)

    @rule(manager=st.integers(0, 1), name=st.sampled_from("abcdefgh"))
    def give(self, manager: int, name: str) -> None:
        freed = self.run(self.at(manager).give("pods", name))
        assert freed == (name in self.direct)
        for address in self.direct.pop(name, []):
            self.ended(address)

    @rule(manager=st.integers(0, 1), count=st.integers(2, 40))
    def crowd(self, manager: int, count: int) -> None:
        """Many at once, each name at both managers."""
        names = [f"crowd{n}" for n in range(count)]
        asked = [self.at((manager + twice) % 2).take("pods", name, families=(4,)) for twice in (0, 1) for name in names]
        got = self.run(_all(asked))
        for each in got:
            if not isinstance(each, PoolExhausted):
                self._told(each.owner, [(str(a.address), a.generation) for a in each.addresses])

    # --- attachments by the manager ----------------------------------------------------------------------------------

    @rule(manager=st.integers(0, 1), who=st.integers(0, 2), families=st.sampled_from([[4], [4, 6]]))
    def attach(self, manager: int, who: int, families: list[int]) -> None:
        agent, container = self.agents[who], self.fresh()
        try:
            got = self.run(self.at(manager).attach(agent.node, container, families=families))
        except PoolExhausted:
            return
        again = self.run(self.at(1 - manager).attach(agent.node, container, families=families))
        assert again.repeated
        assert again.addresses == got.addresses
        for each in got.addresses:
            self.given(each.address, container, each.generation)
        agent.central[container] = got.addresses

    @rule(manager=st.integers(0, 1), who=st.integers(0, 2), data=st.data())
    def detach(self, manager: int, who: int, data: st.DataObject) -> None:
        agent = self.agents[who]
        if agent.central:
            container = data.draw(st.sampled_from(sorted(agent.central)))
            addresses = agent.central.pop(container)
            self.run(self.at(manager).detach(agent.node, container, max(each.generation for each in addresses)))
            agent.going.append((container, addresses))

    @rule(who=st.integers(0, 2))
    def link_gone(self, who: int) -> None:
        agent = self.agents[who]
        if agent.going:
            container, addresses = agent.going.pop(0)
            agent.unreported += [change(kind, container, *addresses, at=self.clock()) for kind in ("released", "gone")]
            for each in addresses:
                # The manager's clock starts with the report, which comes later: never earlier than this.
                self.ended(each.address)

    # --- blocks ------------------------------------------------------------------------------------------------------

    @rule(manager=st.integers(0, 1), who=st.integers(0, 2), family=st.sampled_from([4, 6]), count=st.integers(1, 3), confirm=st.booleans())
    def claim(self, manager: int, who: int, family: int, count: int, confirm: bool) -> None:
        agent, here = self.agents[who], self.at(manager)
        granted = self.run(here.want(agent.node, agent.life, ("pods", family, count))).blocks
        again = self.run(self.at(1 - manager).want(agent.node, agent.life, ("pods", family, count))).blocks
        assert granted == again
        if confirm:
            pending = [held(each) for each in granted if each.state == "pending"]
            granted = self.run(here.want(agent.node, agent.life, confirm=pending)).blocks
        self._hold(agent, granted)

    def _hold(self, agent: Agent, granted: list[wire.GrantedBlock]) -> None:
        for each in granted:
            known = agent.blocks.get(each.prefix)
            if each.state != "confirmed" or (known is not None and known.claim == each.claim):
                continue
            prefix = ip_network(each.prefix)
            kept_out = frozenset(int(ip_address(text)) - int(prefix.network_address) for text in each.reserved)
            agent.blocks[each.prefix] = Block(
                PoolName("pods"), prefix, each.claim, each.generation, reserved=kept_out, rested_at=each.rested_at
            )

    @rule(who=st.integers(0, 2), data=st.data())
    def assign_in_block(self, who: int, data: st.DataObject) -> None:
        agent = self.agents[who]
        if not agent.blocks:
            return
        prefix = data.draw(st.sampled_from(sorted(agent.blocks)))
        container = self.fresh()
        found = agent.blocks[prefix].allocate(container, self.clock(), COOLDOWN)
        if found is None:
            return
        block, ordinal = found
        agent.blocks[prefix] = block
        spot = wire.BlockAddress(address=str(block.address_of(ordinal)), generation=block.generation, block=prefix, claim=block.claim)
        self.given(spot.address, container, spot.generation)
        agent.pods[container] = (prefix, ordinal, spot)
        agent.unreported.append(change("assigned", container, spot, at=self.clock()))

    @rule(who=st.integers(0, 2), data=st.data())
    def end_in_block(self, who: int, data: st.DataObject) -> None:
        agent = self.agents[who]
        if not agent.pods:
            return
        container = data.draw(st.sampled_from(sorted(agent.pods)))
        prefix, ordinal, spot = agent.pods.pop(container)
        block = agent.blocks[prefix].release(ordinal, spot.generation)
        agent.blocks[prefix] = block.link_gone(ordinal, spot.generation, self.clock())
        agent.unreported += [change(kind, container, spot, at=self.clock()) for kind in ("released", "gone")]
        self.ended(spot.address)

    @rule(manager=st.integers(0, 1), who=st.integers(0, 2), twice=st.booleans())
    def report(self, manager: int, who: int, twice: bool) -> None:
        agent = self.agents[who]
        agent.number += 1
        for at in (manager, 1 - manager) if twice else (manager,):
            answer = self.run(self.at(at).report(agent.node, agent.life, agent.number, *agent.unreported))
            assert answer.number == agent.number
        agent.unreported.clear()
        if agent.number > 1:
            old = self.run(self.at(manager).report(agent.node, agent.life, agent.number - 1, change("gone", "c1")))
            assert old.number == agent.number

    @rule(manager=st.integers(0, 1), who=st.integers(0, 2), data=st.data())
    def give_back(self, manager: int, who: int, data: st.DataObject) -> None:
        agent = self.agents[who]
        empty = [prefix for prefix, block in agent.blocks.items() if block.is_empty(self.clock(), COOLDOWN)]
        if empty and not agent.unreported:
            prefix = data.draw(st.sampled_from(sorted(empty)))
            block = agent.blocks.pop(prefix)
            back = wire.HeldBlock(prefix=prefix, claim=block.claim, generation=block.generation)
            self.run(self.at(manager).want(agent.node, agent.life, give_back=[back]))

    # --- things that happen ------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 5, 21, 70]), manager=st.integers(0, 1))
    def time_passes(self, seconds: int, manager: int) -> None:
        self.clock.go(seconds)
        here = self.at(manager)
        self.run(here.database.run(lambda tx: blocks.withdraw_unconfirmed(tx, here.clock())))
        self.run(here.database.run(lambda tx: blocks.free_rested(tx, here.clock())))

    @rule(manager=st.integers(0, 1), who=st.integers(0, 2))
    def lose_the_journal(self, manager: int, who: int) -> None:
        """The node starts again with nothing: no link of before is there."""
        agent = self.agents[who]
        self.clock.go(wire.HEARTBEAT_LAPSE + 1)
        self._forget(agent)
        agent.life, agent.boot, agent.number = uuid4(), uuid4(), 0
        welcome = self.run(self.at(manager).hello(agent.node, agent.life, agent.boot, journal_lost=True))
        self._hold(agent, welcome.blocks)

    @rule(manager=st.integers(0, 1), who=st.integers(0, 2))
    def say_hello_again(self, manager: int, who: int) -> None:
        """The manager forgot, or the agent is not sure: the same life shows all it has."""
        agent = self.agents[who]
        known = [held_block(block) for block in agent.blocks.values()]
        shown = [self._owned(container, [spot]) for container, (_, _, spot) in agent.pods.items()]
        shown += [self._owned(container, each) for container, each in agent.central.items()]
        shown += [self._owned(container, each, released=True) for container, each in agent.going]
        said = {"blocks": known, "attachments": shown, "last_number": agent.number}
        welcome = self.run(self.at(manager).hello(agent.node, agent.life, agent.boot, **said))
        assert (welcome.lost, welcome.conflicts, welcome.last_number) == ([], [], agent.number)
        assert set(agent.blocks) <= {each.prefix for each in welcome.blocks if each.state == "confirmed"}
        self._hold(agent, welcome.blocks)

    def _owned(self, container: str, addresses: list[wire.BlockAddress], released: bool = False) -> wire.Owned:
        return wire.Owned(network="pods", container=container, ifname="eth0", addresses=addresses, at=self.clock(), released=released)

    def _forget(self, agent: Agent) -> None:
        for each in agent.addresses():
            self.ended(each.address)
        for kept in (agent.pods, agent.central, agent.blocks):
            kept.clear()
        agent.going.clear()
        agent.unreported.clear()

    @rule(manager=st.integers(0, 1), who=st.integers(0, 2))
    def declare_gone(self, manager: int, who: int) -> None:
        """Switched off for good; what it still says is too late; then another machine comes under a new name."""
        agent, here = self.agents[who], self.at(manager)

        async def gone(tx: Tx) -> None:
            await blocks.take_back(tx, agent.node.node_id, "admin", "declared gone", here.clock())

        self.run(_declare(here, agent.node))
        self.run(here.database.run(gone))
        late = list(agent.unreported)
        life, number, node = agent.life, agent.number + 1, agent.node
        self._forget(agent)
        for words in (self.at(1 - manager).report(node, life, number, *late), here.want(node, life), here.attach(node, "late")):
            answer = self.run(_all([words]))[0]
            assert isinstance(answer, NodeIsGone | Unauthenticated | HelloRequired)
        self.agents[who] = self.run(self._enrol(f"n{self.fresh()}"))

    @rule(offset=st.integers(1, 62), back=st.booleans())
    def reserve(self, offset: int, back: bool) -> None:
        address = str(ip_network(V4)[offset])
        in_block = any(ip_address(address) in ip_network(prefix) for agent in self.agents for prefix in agent.blocks)
        if address in self.reserved and back:
            self.run(_unreserve(self.at(0), address))
            self.reserved.discard(address)
        elif address not in self.live and address not in self.reserved and not in_block:
            self.run(_reserve(self.at(0), address))
            self.reserved.add(address)

    @rule(draining=st.booleans())
    def drain(self, draining: bool) -> None:
        self.run(_execute(self.at(0), "update pool set draining = $1", draining))

    # --- always ------------------------------------------------------------------------------------------------------

    @invariant()
    def every_address_of_a_central_block_is_in_one_place(self) -> None:
        self.steps += 1
        if self.steps % 5 == 0:
            self._account()

    def teardown(self) -> None:
        self._account()

    def _account(self) -> None:
        assert self.run(broken(self.at(0))) == []

    @invariant()
    def no_address_lies_in_blocks_of_two_agents(self) -> None:
        prefixes = [prefix for agent in self.agents for prefix in agent.blocks]
        assert len(set(prefixes)) == len(prefixes)

    @invariant()
    def what_was_answered_is_in_the_database(self) -> None:
        rows = self.run(_fetch(self.at(1), "select host(address4) as a from allocation union all select host(address6) from allocation"))
        stored = {row for row in rows if row is not None}
        answered = {address for each in self.direct.values() for address in each}
        answered |= {each.address for agent in self.agents for held_now in agent.central.values() for each in held_now}
        assert answered <= stored


def held_block(block: Block) -> wire.HeldBlock:
    return wire.HeldBlock(prefix=str(block.prefix), claim=block.claim, generation=block.generation)


async def _all(what: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    got = await asyncio.gather(*what, return_exceptions=True)
    for each in got:
        if isinstance(each, BaseException) and not isinstance(each, (*REFUSED, NodeIsGone, Unauthenticated, HelloRequired)):
            raise each
    return got


async def _declare(here: Site, node: NodePrincipal) -> None:
    await here.sql.execute("update node set state = 'gone' where id = $1", node.node_id)


async def _execute(here: Site, statement: str, *arguments: object) -> None:
    await here.sql.execute(statement, *arguments)


async def _fetch(here: Site, statement: str) -> list[str | None]:
    return [row[0] for row in await here.sql.fetch(statement)]


async def _reserve(here: Site, address: str) -> None:
    await here.sql.execute(
        "insert into reservation select id, $1::cidr, 'test', now() from prefix where cidr >> $1::cidr", ip_network(address)
    )


async def _unreserve(here: Site, address: str) -> None:
    await here.sql.execute("delete from reservation where cidr = $1::cidr", ip_network(address))
    await here.sql.execute("select unreserved_1($1, id, $2::cidr) from prefix where cidr >> $2::cidr", here.clock(), ip_network(address))


def test_whatever_managers_and_agents_do_no_address_has_two_owners(database_url: str) -> None:
    clock = Clock()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def opened() -> tuple[Site, Site]:
            return (await stack.enter_async_context(site(database_url, clock)), await stack.enter_async_context(site(database_url, clock)))

        world = World(runner, runner.run(opened()), clock)

        class Here(Fabric):
            def __init__(self) -> None:
                super().__init__(world)

        steady = settings(max_examples=12, stateful_step_count=30, suppress_health_check=list(HealthCheck), print_blob=True)
        try:
            run_state_machine_as_test(Here, settings=steady)
        finally:
            runner.run(stack.aclose())
