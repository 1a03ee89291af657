"""Addresses that somebody asks for by name: who decides depends on where they lie, and every row of that table is a test."""

import asyncio
from ipaddress import ip_address
from uuid import uuid4

import pytest

from fabricmgr import wire
from fabricmgr.domain.errors import (
    AddressCooling,
    AddressHeld,
    AddressInNodeBlock,
    AddressInTransition,
    AddressOutside,
    AddressReserved,
    AlreadyExists,
    FabricError,
    Invalid,
    PoolExhausted,
)
from fabricmgr.problems import problem_of
from tests.support.accounting import broken
from tests.support.writing import Site, held, site

pytestmark = pytest.mark.anyio


async def pods(here: Site, *prefixes: str, reserved: tuple[str, ...] = (), cooldown: float = 60) -> None:
    await here.network("pods", await here.pool("pods", *(prefixes or ("10.10.0.0/24",)), block=28, reserved=reserved, cooldown=cooldown))


async def refused(here: Site, address: str, owner: str = "x") -> FabricError:
    with pytest.raises(FabricError) as error:
        await here.take("pods", owner, address=address)
    return error.value


async def test_above_the_cursor_it_is_assigned_and_those_between_are_spare(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        await here.take("pods", "first")

        got = await here.take("pods", "asked", address="10.10.0.9")
        rest = {str((await here.take("pods", f"more{n}")).addresses[0].address) for n in range(13)}

        assert str(got.addresses[0].address) == "10.10.0.9"
        assert rest == {f"10.10.0.{n}" for n in range(2, 16)} - {"10.10.0.9"}
        assert await broken(here) == []


async def test_in_a_central_block_a_rested_spare_is_assigned(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        first = await here.take("pods", "first")
        await here.give("pods", "first")
        here.clock.go(61)

        got = await here.take("pods", "asked", address="10.10.0.1")

        assert got.addresses[0].generation == first.addresses[0].generation + 1
        assert await broken(here) == []


async def test_held_it_is_refused_with_the_holders_name(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        await here.take("pods", "first")

        error = await refused(here, "10.10.0.1")

        assert isinstance(error, AddressHeld)
        assert (error.holder, problem_of(error).http, problem_of(error).cni) == ("first", 409, 100)


async def test_cooling_it_is_refused_with_the_time_it_is_due(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        await here.take("pods", "first")
        await here.give("pods", "first")

        error = await refused(here, "10.10.0.1")

        assert isinstance(error, AddressCooling)
        assert ((error.due - here.clock()).total_seconds(), problem_of(error).cni) == (60, 11)


async def test_in_an_unclaimed_block_the_block_becomes_central_with_it(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)

        got = await here.take("pods", "asked", address="10.10.0.77")
        states = await here.sql.fetch("select cidr::text, state from block")
        spares = await here.sql.fetchval("select count(*) from spare")

        assert str(got.addresses[0].address) == "10.10.0.77"
        assert [tuple(row) for row in states] == [("10.10.0.64/28", "central")]
        assert spares == 15
        assert await broken(here) == []


async def test_in_another_nodes_block_it_is_refused_and_named(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life = await here.node("n1"), uuid4()
        await here.hello(node, life, uuid4())
        await here.hold(node, life, 1)

        error = await refused(here, "10.10.0.5")

        assert isinstance(error, AddressInNodeBlock)
        assert (error.node, error.block, problem_of(error).http, problem_of(error).cni) == ("n1", "10.10.0.0/28", 409, 100)


@pytest.mark.parametrize("state", ["pending", "releasing", "held_back"])
async def test_in_a_block_on_its_way_it_is_refused_for_the_moment(database_url: str, state: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life = await here.node("n1"), uuid4()
        await here.hello(node, life, uuid4())
        await here.hold(node, life, 1)
        await here.sql.execute("update block set state = $1", state)

        error = await refused(here, "10.10.0.5")

        assert isinstance(error, AddressInTransition)
        assert (problem_of(error).http, problem_of(error).cni) == (503, 11)


async def test_reserved_or_outside_it_is_refused(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, reserved=("10.10.0.32/30",))

        errors = [await refused(here, each) for each in ("10.10.0.33", "10.10.0.0", "10.10.0.255", "10.11.0.1")]

        assert [type(each) for each in errors] == [AddressReserved, AddressReserved, AddressReserved, AddressOutside]
        assert {problem_of(each).cni for each in errors} == {101}


async def test_another_spelling_is_the_same_address_and_a_zone_or_a_mapped_form_is_none(database_url: str) -> None:
    """F015."""
    async with site(database_url) as here:
        await pods(here, "2001:db8::/120")
        first = await here.take("pods", "first", address="2001:DB8:0::0005")

        again = await here.take("pods", "first", address="2001:db8::5")
        held_by = await refused(here, "2001:0db8:0000::5")
        wrong = [await refused(here, each) for each in ("2001:db8::5%eth0", "::ffff:10.20.0.5", "2001:db8::5/64", "")]

        assert first == again
        assert str(first.addresses[0].address) == "2001:db8::5"
        assert isinstance(held_by, AddressHeld)
        assert all(isinstance(each, Invalid) for each in wrong)


async def test_an_owner_that_holds_another_address_is_told_so(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        await here.take("pods", "first")

        with pytest.raises(AlreadyExists):
            await here.take("pods", "first", address="10.10.0.7")

        assert await here.sql.fetchval("select count(*) from allocation") == 1


async def test_both_asked_for_or_neither(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, "10.10.0.0/24", "2001:db8::/120")
        node = await here.node("n1")
        await here.take("pods", "first", address="2001:db8::5")

        with pytest.raises(AddressHeld):
            await here.attach(node, "c1", asked=["10.10.0.9", "2001:db8::5"])
        got = await here.attach(node, "c1", asked=["10.10.0.9", "2001:db8::6"])

        assert [each.address for each in got.addresses] == ["10.10.0.9", "2001:db8::6"]
        assert await broken(here) == []


@pytest.mark.parametrize("asked", ["10.10.0.9", "2001:db8::9"])
async def test_one_asked_for_and_any_of_the_other_family(database_url: str, asked: str) -> None:
    async with site(database_url) as here:
        await pods(here, "10.10.0.0/24", "2001:db8::/120")
        node = await here.node("n1")

        got = await here.attach(node, "c1", asked=[asked])

        assert asked in [each.address for each in got.addresses]
        assert [ip_address(each.address).version for each in got.addresses] == [4, 6]
        assert await broken(here) == []


async def test_one_asked_for_and_none_left_of_the_other_family_takes_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, "10.10.0.0/24", "2001:db8::1/128")
        node = await here.node("n1")
        await here.attach(node, "c0")

        with pytest.raises(PoolExhausted):
            await here.attach(node, "c1", asked=["10.10.0.9"])

        assert await here.sql.fetchval("select count(*) from allocation") == 1
        assert await broken(here) == []


async def test_any_and_asked_for_in_a_race_for_the_same_addresses_never_deadlock_and_double_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here, "10.10.0.0/27", cooldown=0)
        node = await here.node("n1")

        async def one(number: int) -> list[wire.BlockAddress]:
            asked = [f"10.10.0.{1 + number % 30}"] if number % 2 else []
            try:
                return (await here.attach(node, f"c{number}", asked=asked)).addresses
            except (AddressHeld, AddressInTransition, PoolExhausted):
                return []

        for lap in range(8):
            got = await asyncio.gather(*(one(lap * 100 + n) for n in range(24)))
            addresses = [each.address for held_now in got for each in held_now]
            assert len(set(addresses)) == len(addresses)
            await here.sql.execute("select end_allocations_1($1, array(select owner from allocation), 'test', 'lap')", here.clock())
            assert await broken(here) == []


async def test_a_pending_claim_of_the_same_node_is_answered_again_and_not_doubled(database_url: str) -> None:
    async with site(database_url) as here:
        await pods(here)
        node, life = await here.node("n1"), uuid4()
        await here.hello(node, life, uuid4())

        first = await here.want(node, life, ("pods", 4, 2))
        again = await here.want(node, life, ("pods", 4, 2))
        confirmed = await here.want(node, life, ("pods", 4, 2), confirm=[held(each) for each in again.blocks])

        assert first.blocks == again.blocks
        assert [each.state for each in first.blocks] == ["pending", "pending"]
        assert [each.state for each in confirmed.blocks] == ["confirmed", "confirmed"]
