"""Pools that run full are told once, and empty central blocks can be claimed again."""

import asyncio
from datetime import timedelta
from ipaddress import ip_address, ip_network

from sqlalchemy import select

from fabricmgr.controllers import identities, thresholds
from fabricmgr.domain.addresses import parse_prefix
from fabricmgr.domain.names import pool_name
from fabricmgr.domain.pool import PoolDraft, PrefixDraft
from fabricmgr.services import clusters, pools
from fabricmgr.store import connect
from fabricmgr.store.tables import allocation, block, certificate, outbox, pool_mark, spare, supply, token
from fabricmgr.store.tx import Database, Tx
from tests.support.database import NOW, opened
from tests.support.rows import insert_allocation, insert_block, insert_node, insert_spare, prefix_of


async def create(database: Database, *prefixes: str) -> None:
    draft = PoolDraft(pool_name("pods"), tuple(PrefixDraft(parse_prefix(text)) for text in prefixes))
    await database.run(lambda tx: pools.create(tx, draft, "anna", NOW))


async def told(database: Database) -> list[tuple[str, int | None]]:
    async with database.read() as tx:
        rows = await tx.all(select(outbox).where(outbox.c.what != "PoolCreated").order_by(outbox.c.id))
    return [(row.what, row.about.get("threshold")) for row in rows]


async def test_each_threshold_is_told_once_and_its_end_too(database_url: str) -> None:
    async with opened(database_url) as database:
        await create(database, "10.0.0.0/28", "2001:db8::/64")

        async def hold(tx: Tx) -> None:
            for n in range(1, 13):
                await insert_allocation(tx, f"10.0.0.{n}")

        await database.run(hold)
        await asyncio.gather(thresholds.watch(database, NOW), thresholds.watch(database, NOW))
        at_85 = await told(database)
        await database.run(lambda tx: insert_allocation(tx, "10.0.0.13"))
        await database.run(lambda tx: insert_allocation(tx, "10.0.0.14"))
        await thresholds.watch(database, NOW)
        at_100 = await told(database)
        await thresholds.watch(database, NOW)
        again = await told(database)
        await database.run(lambda tx: tx.change(allocation.delete()))
        outcome = await thresholds.watch(database, NOW)
        after = await told(database)

        async with database.read() as tx:
            assert await tx.all(select(pool_mark)) == []
    assert at_85 == [("PoolThresholdCrossed", 80)]
    assert at_100 == again == [*at_85, ("PoolThresholdCrossed", 95), ("PoolExhausted", None)]
    assert after[3:] == [("PoolThresholdCleared", 80), ("PoolThresholdCleared", 95), ("PoolRelieved", None)]
    assert outcome.sentence == "3 thresholds were crossed"


async def central(tx: Tx, cidr: str, *, but: tuple[str, ...] = ()) -> None:
    """A central block of which every address that may be handed out waits since a minute."""
    await insert_block(tx, cidr, "central")
    network = ip_network(cidr)
    prefix = ip_network("10.0.0.0/24")
    for address in network:
        if str(address) not in but and address not in (prefix[0], prefix[-1]):
            await insert_spare(tx, str(address), NOW - timedelta(seconds=60))


async def test_only_a_central_block_that_stands_wholly_empty_can_be_claimed_again(database_url: str) -> None:
    async with opened(database_url) as database:
        await create(database, "10.0.0.0/24")

        async def fill(tx: Tx) -> None:
            await central(tx, "10.0.0.0/28")
            await central(tx, "10.0.0.16/28", but=("10.0.0.20",))
            await insert_allocation(tx, "10.0.0.20")
            await central(tx, "10.0.0.32/28", but=("10.0.0.40",))
            await insert_spare(tx, "10.0.0.40", NOW - timedelta(seconds=59))
            await central(tx, "10.0.0.48/28")
            prefix_id, _, _ = await prefix_of(tx, "10.0.0.48")
            await tx.change(supply.update().where(supply.c.prefix_id == prefix_id).values(central_block=ip_network("10.0.0.48/28")))
            await central(tx, "10.0.0.64/28", but=("10.0.0.70",))
            await central(tx, "10.0.0.240/28")
            await central(tx, "10.0.0.80/28")
            await pools.reserve(tx, pool_name("pods"), parse_prefix("10.0.0.81/32"), "printers", "anna", NOW)
            await tx.change(spare.update().where(spare.c.address == ip_address("10.0.0.5")).values(generation=77))

        await database.run(fill)
        outcome = await thresholds.empty_central(database, NOW)
        again = await thresholds.empty_central(database, NOW)

        async with database.read() as tx:
            freed = await tx.all(select(block).where(block.c.state == "unclaimed").order_by(block.c.cidr))
            [used] = await pools.usage(tx, pool_name("pods"), NOW)
            left = await tx.all(select(spare).where(spare.c.address <= ip_address("10.0.0.15")))
    assert [str(row.cidr) for row in freed] == ["10.0.0.0/28", "10.0.0.80/28"]
    assert (freed[0].generation, freed[0].rested_at) == (77, NOW)
    assert left == []
    assert outcome.sentence == "2 central blocks may be claimed again"
    assert again.sentence == "no central block stands empty"
    assert used.total == used.held + used.reserved + used.cooling + used.idle + used.free


async def test_a_block_of_which_an_address_is_just_being_handed_out_is_left_alone(database_url: str) -> None:
    async with opened(database_url) as database:
        await create(database, "10.0.0.0/24")
        await database.run(lambda tx: central(tx, "10.0.0.0/28"))
        writer = await connect.connect(database_url, "writer")
        await writer.execute("begin; delete from spare where address = '10.0.0.7'")

        outcome = await thresholds.empty_central(database, NOW)
        await writer.execute("rollback")
        await writer.close()
        after = await thresholds.empty_central(database, NOW)

    assert outcome.sentence == "no central block stands empty"
    assert after.sentence == "1 central blocks may be claimed again"


async def test_tokens_and_certificates_are_forgotten_some_days_after_their_end(database_url: str) -> None:
    async with opened(database_url) as database:

        async def fill(tx: Tx) -> None:
            cluster_id = (await clusters.ensure_default(tx, NOW)).id
            node_id = await insert_node(tx, cluster_id, "n1")
            for days in (6, 7):
                ended = NOW - timedelta(days=days)
                row = {"node_id": node_id, "created_at": ended, "expires_at": ended, "digest": bytes([days])}
                await tx.change(token.insert(), row)
                made = {"serial": str(days), "node_id": node_id, "machine_id": "m", "fingerprint": str(days).encode(), "pem": ""}
                await tx.change(certificate.insert(), made | {"not_before": ended, "not_after": ended})

        await database.run(fill)
        outcome = await identities.forget(database, NOW)

        async with database.read() as tx:
            assert [row.digest for row in await tx.all(select(token))] == [b"\x06"]
            assert [row.serial for row in await tx.all(select(certificate))] == ["6"]
    assert outcome.sentence == "forgot 1 expired tokens and 1 ended certificates"
