"""A process with a writer of its own, for tests of many managers at once."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from fabricmgr.domain.owner import OwnerKind, owner_key
from fabricmgr.store.writer import Writer
from fabricmgr.store.writer_allocate import Want


def direct(name: str) -> Want:
    """What a client of the API that chose this name wants."""
    return Want(owner_key(OwnerKind.DIRECT, name), "direct", name, name=name)


def allocate(url: str, pool: int, names: list[str]) -> list[tuple[UUID, str]]:
    """Allocate for all names at once, and give who was told which address."""

    async def go() -> list[tuple[UUID, str]]:
        writer = await Writer.open(url, clock=lambda: datetime.now(UTC), connections=2)
        try:
            wants = [direct(name) for name in names]
            got = await asyncio.gather(*(writer.allocate((pool, None), want) for want in wants))
            return [(want.owner, str(each.addresses[0].address)) for want, each in zip(wants, got, strict=True)]
        finally:
            await writer.close()

    return asyncio.run(go())
