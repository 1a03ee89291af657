"""What is recorded one by one, and what is counted."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from fabricmgr.domain.errors import DatabaseUnavailable
from fabricmgr.store.audit_rows import AuditRow
from fabricmgr.store.tx import Database
from fabricmgr.web.audit import MOST_WINDOWS, WINDOW, Audit

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class FakeTx:
    rows: list[dict[str, Any]] = field(default_factory=list)

    async def change(self, statement: object, parameters: list[dict[str, Any]]) -> int:
        self.rows += parameters
        return len(parameters)


@dataclass
class FakeDatabase:
    """Keeps what is written; can be away."""

    tx: FakeTx = field(default_factory=FakeTx)
    away: bool = False

    async def run(self, use_case: Callable[[FakeTx], Awaitable[None]]) -> None:
        if self.away:
            raise DatabaseUnavailable("away")
        await use_case(self.tx)


@dataclass
class Clock:
    now: datetime = BEGIN

    def __call__(self) -> datetime:
        return self.now


def made(database: FakeDatabase, clock: Clock) -> Audit:
    return Audit(cast(Database, database), clock)


def row(status: int = 201, source: str = "192.0.2.1", path: str = "/v1/pools", actor: str = "alice") -> AuditRow:
    return AuditRow(BEGIN, actor, source, "POST", path, status)


async def test_each_change_is_written() -> None:
    database = FakeDatabase()
    audit = made(database, Clock())

    for number in range(3):
        audit.record(row(path=f"/v1/pools/{number}"), counted=False)
    await audit.write()

    assert [each["path"] for each in database.tx.rows] == ["/v1/pools/0", "/v1/pools/1", "/v1/pools/2"]


async def test_denials_of_a_source_are_told_at_once_and_then_by_their_number() -> None:
    database, clock = FakeDatabase(), Clock()
    audit = made(database, clock)

    for number in range(1000):
        audit.record(row(401, path=f"/{number}"), counted=False)
    await audit.write()
    at_once = len(database.tx.rows)
    clock.now += WINDOW + timedelta(seconds=1)
    await audit.write()

    assert at_once == 1
    assert [each["repeated"] for each in database.tx.rows] == [1, 999]


async def test_many_sources_share_a_row_beyond_a_limit() -> None:
    database, clock = FakeDatabase(), Clock()
    audit = made(database, clock)

    for number in range(MOST_WINDOWS + 500):
        audit.record(row(401, source=f"s{number}"), counted=False)
    await audit.close()

    assert sum(each["repeated"] for each in database.tx.rows) == MOST_WINDOWS + 500
    assert len(database.tx.rows) <= MOST_WINDOWS + 2


async def test_nothing_is_lost_while_the_database_is_away() -> None:
    database = FakeDatabase(away=True)
    audit = made(database, Clock())
    audit.record(row(), counted=False)

    with pytest.raises(DatabaseUnavailable):
        await audit.write()
    database.away = False
    await audit.write()

    assert len(database.tx.rows) == 1


async def test_what_is_counted_is_written_at_the_end() -> None:
    database = FakeDatabase()
    audit = made(database, Clock())
    for _ in range(10):
        audit.record(row(200, actor="node default/w1", path="/v1/nodes/self/reports"), counted=True)

    await audit.close()

    assert [each["repeated"] for each in database.tx.rows] == [1, 9]
