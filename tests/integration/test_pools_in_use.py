"""Pools while writers and nodes work in them: the counts stay true, and nothing is taken away from under anybody."""

import asyncio
import random
from uuid import uuid4

import pytest

from fabricmgr.controllers import thresholds
from fabricmgr.domain.addresses import parse_prefix
from fabricmgr.domain.errors import InUse, NotFound, PoolExhausted, ReservationHeld
from fabricmgr.domain.names import pool_name
from fabricmgr.domain.pool import PrefixDraft, Usage
from fabricmgr.services import blocks, nodes, pools
from tests.support.accounting import broken
from tests.support.writing import CLUSTER, Site, held, site

PODS = pool_name("pods")


async def usage(here: Site) -> Usage:
    async with here.database.read() as tx:
        [counted] = await pools.usage(tx, PODS, here.clock())
    return counted


def assert_adds_up(counted: Usage) -> None:
    parts = (counted.held, counted.reserved, counted.cooling, counted.idle, counted.free)
    assert counted.total == sum(parts)
    assert min(parts) >= 0


class Life:
    """What may happen to a pool, by chance."""

    def __init__(self, here: Site, chance: random.Random) -> None:
        self.here = here
        self.chance = chance
        self.owners: list[str] = []
        self.names = iter(f"host{n}" for n in range(10_000))

    async def begin(self) -> None:
        pool_id = await self.here.pool("pods", "10.0.0.0/24", "10.0.2.0/26")
        await self.here.network("pods", pool_id)
        self.nodes = [await self.here.node(name) for name in ("n1", "n2", "n3")]
        self.lives = {node.node_id: uuid4() for node in self.nodes}
        for node in self.nodes:
            await self.here.hello(node, self.lives[node.node_id], uuid4())

    async def step(self) -> None:
        acts = [self.take, self.take, self.take, self.give, self.give, self.claim, self.give_back, self.wait, self.sweep, self.reserve]
        await self.chance.choice(acts)()

    async def take(self) -> None:
        for _ in range(self.chance.randint(1, 20)):
            name = next(self.names)
            try:
                await self.here.take("pods", name)
            except PoolExhausted:
                return
            self.owners.append(name)

    async def give(self) -> None:
        for _ in range(min(len(self.owners), self.chance.randint(1, 20))):
            await self.here.give("pods", self.owners.pop(self.chance.randrange(len(self.owners))))

    async def claim(self) -> None:
        node = self.chance.choice(self.nodes)
        await self.here.hold(node, self.lives[node.node_id], self.chance.randint(1, 4))

    async def give_back(self) -> None:
        node = self.chance.choice(self.nodes)
        held_now = (await self.here.want(node, self.lives[node.node_id])).blocks
        given = [held(each) for each in held_now if each.state == "confirmed" and self.chance.random() < 0.5]
        await self.here.want(node, self.lives[node.node_id], give_back=given)

    async def wait(self) -> None:
        self.here.clock.go(self.chance.choice([1, 30, 61]))

    async def sweep(self) -> None:
        now = self.here.clock()
        await self.here.database.run(lambda tx: blocks.free_rested(tx, now))
        await thresholds.empty_central(self.here.database, now)

    async def reserve(self) -> None:
        cidr = parse_prefix(f"10.0.0.{self.chance.randrange(0, 256, 4)}/30")
        try:
            await self.here.database.run(lambda tx: pools.reserve(tx, PODS, cidr, "printers", "anna", self.here.clock()))
            if self.chance.random() < 0.7:
                await self.here.database.run(lambda tx: pools.unreserve(tx, PODS, cidr, "anna", self.here.clock()))
        except ReservationHeld:
            return


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_life_the_parts_add_up_and_free_is_what_can_still_be_had(database_url: str, seed: int) -> None:
    async with site(database_url) as here:
        life = Life(here, random.Random(seed))
        await life.begin()

        for _ in range(40):
            await life.step()
            assert_adds_up(await usage(here))
            assert await broken(here) == []
        left = await usage(here)
        for n in range(left.free):
            await here.take("pods", f"last{n}")

        with pytest.raises(PoolExhausted):
            await here.take("pods", "one-more")
        full = await usage(here)
    assert (full.held, full.free) == (left.held + left.free, 0)


async def test_a_node_given_up_leaves_counts_that_add_up_and_all_is_free_after_a_cooldown(database_url: str) -> None:
    async with site(database_url) as here:
        life = Life(here, random.Random(1))
        await life.begin()
        node = life.nodes[0]
        await here.hold(node, life.lives[node.node_id], 3)

        await here.database.run(lambda tx: nodes.declare_gone(tx, CLUSTER, node.name, "anna", here.clock()))
        resting = await usage(here)
        here.clock.go(61)
        rested = await usage(here)

    assert_adds_up(resting)
    assert (resting.idle, resting.cooling) == (0, 47)
    assert (rested.cooling, rested.free) == (0, 256 + 64 - 4)


async def test_an_emptied_central_block_is_claimed_by_a_node_and_its_generations_go_on(database_url: str) -> None:
    async with site(database_url) as here:
        pool_id = await here.pool("pods", "10.0.0.0/25")
        await here.network("pods", pool_id)
        node, life = await here.node("n1"), uuid4()
        await here.hello(node, life, uuid4())
        for n in range(24):
            await here.take("pods", f"host{n}")
        for n in range(24):
            await here.give("pods", f"host{n}")
        here.clock.go(61)
        before = await here.sql.fetchval("select max(generation) from spare")

        outcome = await thresholds.empty_central(here.database, here.clock())
        granted = await here.hold(node, life, 99)

        emptied = await here.sql.fetchval("select count(*) from block where state = 'central'")
        assert await broken(here) == []
    assert outcome.sentence == "3 central blocks may be claimed again"
    assert "10.0.0.0/29" in {each.prefix for each in granted}
    assert next(each for each in granted if each.prefix == "10.0.0.0/29").generation >= before
    assert emptied <= 1


async def test_a_prefix_that_comes_and_goes_under_busy_writers_leaves_no_allocation_behind(database_url: str) -> None:
    cidr = parse_prefix("10.0.1.0/28")
    async with site(database_url) as here, site(database_url) as there:
        await here.pool("pods", "10.0.0.0/29", cooldown=0)
        busy = True
        removed = 0

        async def work(at: Site, name: str) -> None:
            while busy:
                try:
                    await at.take("pods", name)
                except PoolExhausted:
                    continue
                await at.give("pods", name)

        async def come_and_go() -> None:
            nonlocal busy, removed
            for _ in range(60):
                try:
                    await here.database.run(lambda tx: pools.add_prefix(tx, PODS, PrefixDraft(cidr), "anna", here.clock()))
                    await asyncio.sleep(0.005)
                    await here.database.run(lambda tx: pools.remove_prefix(tx, PODS, cidr, "anna", here.clock()))
                    removed += 1
                except (InUse, NotFound):
                    continue
            busy = False

        await asyncio.gather(come_and_go(), *(work(at, f"{name}{n}") for n in range(6) for at, name in ((here, "a"), (there, "b"))))

        strays = await here.sql.fetch(
            "select address4 from allocation a where not exists (select from prefix p where p.id = a.prefix4 and a.address4 <<= p.cidr)"
        )
        lost = await here.sql.fetch("select from spare s where not exists (select from prefix p where p.id = s.prefix_id)")
        assert await broken(here) == []
    assert (strays, lost) == ([], [])
    assert removed > 0
