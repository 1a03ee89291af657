"""The audit log: who changed what, and whom we refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fabricmgr.domain.events import Json
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
