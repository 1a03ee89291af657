"""How Services let go of addresses: whoever announces one falls silent before it is given back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.events import DomainEvent, ServiceAddressWithdrawn
from fabricmgr.domain.names import ClusterName
from fabricmgr.store import announce_rows, leaving_rows, service_rows
from fabricmgr.store.service_rows import ServiceRow
from fabricmgr.store.tx import Tx

# So long the status shows the address that a Service had, while nobody announces the one that it is to have.
MOVES_FOR = timedelta(seconds=2)

Name = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class Stays:
    """Where a Service is on its way to another address. ready: its status may show that one."""

    shows_former: bool
    ready: bool


@dataclass(frozen=True)
class Withdrawn:
    """told: what is new. waits: it still holds its addresses, since somebody may answer for them."""

    told: Sequence[DomainEvent] = ()
    waits: bool = False


async def release(tx: Tx, owner: UUID | None, now: datetime) -> None:
    """What no Service has or has to be silent about rests from now."""
    if owner is not None and not await service_rows.is_used(tx, owner):
        await service_rows.release(tx, owner, "Services", now)


async def going(tx: Tx, cluster_id: int, now: datetime) -> Mapping[Name, bool]:
    """Services that wait until somebody speaks, or fell silent; whether the next step of each can be done."""
    return await leaving_rows.going(tx, cluster_id, now - MOVES_FOR)


@dataclass(frozen=True)
class Leaving:
    """One transaction's way of letting go, of Services of one cluster."""

    tx: Tx
    cluster_id: int
    cluster: ClusterName
    now: datetime

    async def must_fall_silent(self, name: Name, owner: UUID) -> bool:
        """Whether a node announces what this Service alone has, or may still do."""
        addresses = await self._alone(name, owner)
        return bool(addresses) and await announce_rows.heard(self.tx, self.cluster_id, addresses)

    async def moving(self, row: ServiceRow) -> Stays | None:
        """None: the way is done, and what it had can be given back."""
        if row.state == "moving":
            holding = await service_rows.holding(self.tx, row.owner)
            late = row.assigned_at is None or self.now - row.assigned_at > MOVES_FOR
            ready = late or not await announce_rows.awaited(self.tx, self.cluster_id, [each.address for each in holding])
            return Stays(shows_former=not ready, ready=ready)
        name = (row.namespace, row.name)
        silent = row.former is None or not await self.must_fall_silent(name, row.former)
        return None if silent else Stays(shows_former=False, ready=False)

    async def leave(self, namespace: str, name: str) -> None:
        """Its status shows the new address: the former one is to fall silent."""
        await service_rows.lock(self.tx, self.cluster_id)
        row = await service_rows.find(self.tx, self.cluster_id, namespace, name)
        if row is None or row.state != "moving" or row.former is None:
            return
        await service_rows.put(self.tx, self.cluster_id, replace(row, state="leaving"))
        await announce_rows.withdraw(self.tx, self.cluster_id, await self._alone((namespace, name), row.former))

    async def left(self, row: ServiceRow) -> Sequence[DomainEvent]:
        """What it had and nobody answers for any more rests from now."""
        if row.former is None:
            return ()
        held = await service_rows.holding(self.tx, row.former)
        has = {each.address for each in await service_rows.holding(self.tx, row.owner)}
        await service_rows.put(self.tx, self.cluster_id, replace(row, state="assigned", former=None))
        await release(self.tx, row.former, self.now)
        names = (self.cluster, row.namespace, row.name)
        return self._tell([ServiceAddressWithdrawn(*names, str(each.address), each.pool) for each in held if each.address not in has])

    async def withdraw(self, namespace: str, name: str) -> Withdrawn:
        """It wants none any more. What it alone has is given back once nobody answers for it; until then it waits (`going`)."""
        await service_rows.lock(self.tx, self.cluster_id)
        row = await service_rows.find(self.tx, self.cluster_id, namespace, name)
        if row is None:
            return Withdrawn()
        owners = [each for each in (row.owner, row.former) if each is not None]
        if row.state != "withdrawing":
            await service_rows.put(self.tx, self.cluster_id, replace(row, state="withdrawing"))
            for owner in owners:
                await announce_rows.withdraw(self.tx, self.cluster_id, await self._alone((namespace, name), owner))
        if [each for each in owners if await self.must_fall_silent((namespace, name), each)]:
            return Withdrawn(waits=True)
        held = [each for owner in owners for each in await service_rows.holding(self.tx, owner)]
        await service_rows.delete(self.tx, self.cluster_id, namespace, name)
        for owner in owners:
            await release(self.tx, owner, self.now)
        return Withdrawn(
            self._tell([ServiceAddressWithdrawn(self.cluster, namespace, name, str(each.address), each.pool) for each in held])
        )

    def _tell(self, events: Sequence[DomainEvent]) -> Sequence[DomainEvent]:
        for event in events:
            self.tx.emit(event)
        return events

    async def _alone(self, name: Name, owner: UUID) -> list[Address]:
        """Addresses of an allocation that no other Service has."""
        if await service_rows.is_wanted(self.tx, self.cluster_id, owner, name):
            return []
        return [each.address for each in await service_rows.holding(self.tx, owner)]
