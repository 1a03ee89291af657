"""Rows of managers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert as upsert

from fabricmgr.domain.errors import NotFound, VersionConflict
from fabricmgr.domain.replica import Replica, Sign
from fabricmgr.store.tables import manager_process
from fabricmgr.store.tx import Tx


def _replica(row: Row[Any]) -> Replica:
    return Replica(row.id, row.host, row.software, row.url, row.certificate, tuple(row.ntp_servers), row.seen_at, row.version)


async def beat(tx: Tx, sign: Sign, now: datetime) -> None:
    values = {**vars(sign), "seen_at": now}
    told = upsert(manager_process).values(values)
    await tx.change(told.on_conflict_do_update(index_elements=["id"], set_={name: values[name] for name in values if name != "id"}))


async def forget_before(tx: Tx, seen_at: datetime) -> int:
    return await tx.change(manager_process.delete().where(manager_process.c.seen_at < seen_at))


async def get(tx: Tx, replica: UUID) -> Replica:
    """Raises NotFound."""
    row = await tx.first(select(manager_process).where(manager_process.c.id == replica))
    if row is None:
        raise NotFound("manager", str(replica))
    return _replica(row)


async def every(tx: Tx) -> list[Replica]:
    """By host, then by id."""
    return [_replica(row) for row in await tx.all(select(manager_process).order_by(manager_process.c.host, manager_process.c.id))]


async def show_certificate(tx: Tx, replica: UUID, chain: str) -> None:
    await tx.change(manager_process.update().where(manager_process.c.id == replica).values(certificate=chain))


async def change_ntp(tx: Tx, replica: UUID, servers: Sequence[str], quoted: int | None) -> None:
    """Raises NotFound and VersionConflict."""
    row = await tx.first(select(manager_process).where(manager_process.c.id == replica).with_for_update())
    if row is None:
        raise NotFound("manager", str(replica))
    if quoted is not None and quoted != row.version:
        raise VersionConflict("manager", str(replica), str(quoted), str(row.version))
    wanted = {"ntp_servers": list(servers), "version": manager_process.c.version + 1}
    await tx.change(manager_process.update().where(manager_process.c.id == replica).values(wanted))
