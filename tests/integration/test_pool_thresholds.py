"""A pool's own thresholds: set by any way in, and told by."""

from functools import partial

import pytest
from sqlalchemy import select

from fabricmgr.controllers import thresholds
from fabricmgr.domain.addresses import parse_prefix
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.names import pool_name
from fabricmgr.domain.pool import PoolChange, PoolDraft, PrefixDraft
from fabricmgr.services import pools
from fabricmgr.store.tables import outbox
from fabricmgr.store.tx import Database, Tx
from tests.support.database import NOW, opened
from tests.support.rows import insert_allocation

NAME = pool_name("small")
OUTBOX = select(outbox).order_by(outbox.c.id)


async def half_full(database: Database) -> None:
    """14 addresses that can be assigned, of which seven are held."""

    async def rows(tx: Tx) -> None:
        draft = PoolDraft(NAME, (PrefixDraft(parse_prefix("10.7.0.0/28"), central=True),))
        await pools.create(tx, draft, "test", NOW)
        for number in range(7):
            await insert_allocation(tx, f"10.7.0.{number + 1}")

    await database.run(rows)


async def change(database: Database, warning: int | None, critical: int | None) -> None:
    await database.run(
        partial(pools.change, name=NAME, wanted=PoolChange(warning=warning, critical=critical), if_version=None, by="a", now=NOW)
    )


async def told(database: Database) -> list[tuple[str, object]]:
    """What was told of thresholds so far."""
    async with database.read() as tx:
        found = await tx.all(OUTBOX)
    return [(row.what, row.about.get("threshold")) for row in found if "Threshold" in row.what]


async def test_a_pool_that_warns_early_tells_it_is_full_early_and_no_longer_when_it_warns_late(database_url: str) -> None:
    async with opened(database_url) as database:
        await half_full(database)

        await thresholds.watch(database, NOW)
        before = await told(database)
        await change(database, 40, 60)
        await thresholds.watch(database, NOW)
        early = await told(database)
        await change(database, 80, 95)
        await thresholds.watch(database, NOW)
        late = await told(database)

    assert before == []
    assert early == [("PoolThresholdCrossed", 40)]
    assert late == [*early, ("PoolThresholdCleared", 40)]


@pytest.mark.parametrize(("warning", "critical"), [(0, None), (95, None), (None, 80), (None, 100), (90, 85)])
async def test_thresholds_out_of_order_are_refused_and_nothing_changes(
    database_url: str, warning: int | None, critical: int | None
) -> None:
    async with opened(database_url) as database:
        await half_full(database)

        with pytest.raises(Invalid):
            await change(database, warning, critical)

        async with database.read() as tx:
            pool = await pools.get(tx, NAME)
        assert (pool.warning, pool.critical, pool.version) == (80, 95, 1)
