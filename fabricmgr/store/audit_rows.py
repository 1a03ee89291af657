"""The audit log: who changed what, and whom we refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select

from fabricmgr.domain.events import Json
from fabricmgr.domain.log import Audited, AuditFilter, Severity
from fabricmgr.store.tables import audit
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class AuditRow:
    """One request, or `repeated` of them that differ in nothing that matters. path: of the first."""

    at: datetime
    actor: str
    source: str
    method: str
    path: str
    status: int
    repeated: int = 1
    detail: dict[str, Json] = field(default_factory=dict)


async def insert(tx: Tx, rows: Sequence[AuditRow]) -> None:
    """All in one statement."""
    await tx.change(audit.insert(), [vars(row) for row in rows])


_STATUSES = {Severity.OK: (0, 399), Severity.WARNING: (400, 499), Severity.CRITICAL: (500, 599)}


async def ids(tx: Tx, wanted: AuditFilter, skip: int, limit: int) -> tuple[list[int], int]:
    """From `skip` on, with how many there are."""
    conditions = _conditions(wanted)
    rows = await tx.all(select(audit.c.id).where(*conditions).order_by(audit.c.id).offset(skip).limit(limit))
    total = await tx.value(select(func.count()).select_from(audit).where(*conditions))
    return [row.id for row in rows], int(total)


async def some(tx: Tx, wanted: Sequence[int]) -> list[Audited]:
    """By id; what is not there is left out."""
    return [_audited(row) for row in await tx.all(select(audit).where(audit.c.id.in_(wanted)).order_by(audit.c.id))]


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    columns = ((audit.c.id, wanted.id), (audit.c.at, wanted.at), (audit.c.actor, wanted.actor), (audit.c.source, wanted.source))
    found: list[ColumnElement[bool]] = [column == value for column, value in columns if value is not None]
    if wanted.severity is not None:
        found.append(audit.c.status.between(*_STATUSES[wanted.severity]))
    return found


def _audited(row: Row[Any]) -> Audited:
    reason, certificate = (str(row.detail.get(name, "")) for name in ("reason", "certificate"))
    return Audited(row.id, row.at, row.actor, row.source, row.method, row.path, row.status, row.repeated, reason, certificate)
