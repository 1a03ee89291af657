"""Every changing and every denied request is recorded, off the request's path.

What nobody reads one by one is counted: denials of one source, and what a node's agent reports. Such a row is written when its window
ends, with the number of requests it stands for. A crash can cost the last PERIOD of rows; the log line of each request is written at once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fabricmgr.loop import Loop, Outcome
from fabricmgr.store import audit_rows
from fabricmgr.store.audit_rows import AuditRow
from fabricmgr.store.tx import Database, Tx

log = logging.getLogger(__name__)

PERIOD = 0.5  # seconds between writes
WINDOW = timedelta(seconds=60)
MOST_WAITING = 20_000  # rows kept while the database is away
MOST_WINDOWS = 2_000  # sources counted at once; what comes beyond shares one row
DENIED = frozenset({401, 403})
CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass
class _Window:
    row: AuditRow
    count: int = 0


@dataclass
class Audit:
    """Collects rows and writes them behind the requests."""

    database: Database
    clock: Callable[[], datetime]
    dropped: int = 0
    _waiting: "deque[AuditRow]" = field(default_factory=deque)
    _windows: dict[tuple[str, ...], _Window] = field(default_factory=dict)

    def record(self, row: AuditRow, *, counted: bool) -> None:
        """Take note of a request. counted: one of many that are told by their number."""
        if row.status not in DENIED and not counted:
            self._add(row)
            return
        key: tuple[str, ...] = (row.actor, row.method, str(row.status), row.path)
        if row.status in DENIED:
            key = ("denied", row.source, str(row.status))
        if key not in self._windows and len(self._windows) >= MOST_WINDOWS:
            key, row = ("others", str(row.status)), replace(row, source="many", actor="many", path="")
        # The first is told at once, so that nobody waits a minute to see an attack begin.
        if key not in self._windows:
            self._add(row)
            self._windows[key] = _Window(row)
        else:
            self._windows[key].count += 1

    async def run(self) -> None:
        """Write until cancelled, then write what is left."""
        loop = Loop("audit", self.write, PERIOD)
        try:
            await loop.run()
        finally:
            await asyncio.shield(self.close())

    async def write(self) -> Outcome:
        """Write what waits, and the counts of windows that are over."""
        self._end_windows(self.clock() - WINDOW)
        rows = list(self._waiting)
        if not rows:
            return Outcome.done("nothing to write")

        async def insert(tx: Tx) -> None:
            await audit_rows.insert(tx, rows)

        await self.database.run(insert)
        for _ in rows:
            self._waiting.popleft()
        return Outcome.done("written")

    async def close(self) -> None:
        """Write everything, open windows too."""
        self._end_windows(None)
        try:
            await self.write()
        except Exception:  # we are going; the log says what the table lacks
            log.exception("audit rows lost", extra={"rows": len(self._waiting)})

    def _add(self, row: AuditRow) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(row)

    def _end_windows(self, before: datetime | None) -> None:
        for key, window in list(self._windows.items()):
            if before is not None and window.row.at > before:
                continue
            del self._windows[key]
            if window.count:
                self._add(replace(window.row, at=self.clock(), repeated=window.count))
