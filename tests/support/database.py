"""The use cases' side of a test database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fabricmgr.store.tx import Database

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@asynccontextmanager
async def opened(url: str, *, now: datetime = NOW, connections: int = 8) -> AsyncIterator[Database]:
    """A Database whose clock stands still."""
    database = await Database.open(url, clock=lambda: now, connections=connections, name="test", chance=lambda: 0.0)
    try:
        yield database
    finally:
        await database.close()
