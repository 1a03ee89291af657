"""Pools in which nodes find no block any more: their agents keep none to spare then."""

import time
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import DateTime, bindparam, text

from fabricmgr.store.places import Remembered
from fabricmgr.store.tx import Database, Tx

REMEMBERED = 2.0  # seconds; it is said with each acknowledgement, and changes with claims alone

_PRESSED = text("select pressed_1(:now, c.id) as name from cluster c where c.name = :cluster").bindparams(
    bindparam("now", type_=DateTime(timezone=True))
)


class Pressure:
    """One for each process."""

    def __init__(self, database: Database, now: Callable[[], datetime], clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._now = now
        self._known = Remembered[str, tuple[str, ...]](self._find, clock, REMEMBERED)

    async def of(self, cluster: str) -> tuple[str, ...]:
        """Names of the pools, as they were a moment ago."""
        return await self._known.get(cluster)

    async def _find(self, cluster: str) -> tuple[str, ...]:
        async with self._database.read() as tx:
            return await pressed(tx, cluster, self._now())


async def pressed(tx: Tx, cluster: str, now: datetime) -> tuple[str, ...]:
    """Names of the pools of this cluster's networks."""
    return tuple(row.name for row in await tx.all(_PRESSED, {"now": now, "cluster": cluster}))
