"""Addresses for clients of the API, who choose a name for what they want one for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import NoReturn

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.names import ClusterName, owner_name, pool_name
from fabricmgr.domain.owner import Direct
from fabricmgr.services.attachments import Desk, choose
from fabricmgr.store import asked
from fabricmgr.store.asked import Choice
from fabricmgr.store.tx import Tx
from fabricmgr.store.writer_allocate import Given, Taken, Want
from fabricmgr.store.writer_release import End, Ended


@dataclass(frozen=True)
class Allocation:
    """What a direct client holds."""

    pool: str
    owner: str
    addresses: tuple[Given, ...]


async def allocate(
    desk: Desk, cluster: ClusterName, pool: str, owner: str, families: Sequence[int], address: str | None, by: str, now: datetime
) -> tuple[Allocation, bool]:
    """One address of each family (the pool's where none is named), or the one asked for. True: it was made by this call.

    The same name again gets the same, whoever asks. Raises NotFound, Invalid, and what `Desk.any` raises."""
    want, choice = await _read(desk, cluster, pool, owner, families, address, by)
    taken = await desk.any(want, choice, now)
    return Allocation(pool, owner, taken.addresses), taken.made


async def preview(
    desk: Desk, cluster: ClusterName, pool: str, owner: str, families: Sequence[int], address: str | None, by: str, now: datetime
) -> tuple[Allocation, bool]:
    """What `allocate` would give at this moment, and whether it would be made. Nothing is taken. Raises as `allocate` does."""
    want, choice = await _read(desk, cluster, pool, owner, families, address, by)
    try:
        await desk.database.run(partial(_try, want=want, choice=choice, now=now))
    except _RolledBack as outcome:
        return Allocation(pool, owner, outcome.taken.addresses), outcome.taken.made


async def release(desk: Desk, cluster: ClusterName, pool: str, owner: str, generation: int | None, by: str) -> bool:
    """Give it back; it rests for the pool's cooldown from now, since no link of ours carries it.

    False: there was none, or another by now."""
    key = Direct(cluster, pool_name(pool), owner_name(owner)).key
    return await desk.writer.release(End(key, generation, free=True, actor=by)) is Ended.FREED


async def get(tx: Tx, cluster: ClusterName, pool: str, owner: str) -> Allocation:
    """What a name holds. Raises NotFound."""
    direct = Direct(cluster, pool_name(pool), owner_name(owner))
    held = await asked.find(tx, Want(direct.key, "direct", str(direct), name=direct.name))
    if held is None:
        raise NotFound("allocation", owner)
    return Allocation(pool, owner, held.addresses)


async def _read(
    desk: Desk, cluster: ClusterName, pool: str, owner: str, families: Sequence[int], address: str | None, by: str
) -> tuple[Want, Choice]:
    direct = Direct(cluster, pool_name(pool), owner_name(owner))
    place = await desk.places.pool(cluster, direct.pool)
    pools = {family: (place,) if family in place.families else () for family in (4, 6)}
    asked_for = [] if address is None else [address]
    if asked_for and not families:
        families = [choose((), asked_for, pools, f"pool {pool}").addresses[0].version]
    choice = choose(families, asked_for, pools, f"pool {pool}")
    return Want(direct.key, "direct", str(direct), place.cluster_id, name=direct.name, actor=by), choice


class _RolledBack(Exception):
    def __init__(self, taken: Taken) -> None:
        super().__init__()
        self.taken = taken


async def _try(tx: Tx, want: Want, choice: Choice, now: datetime) -> NoReturn:
    raise _RolledBack(await asked.assign_any(tx, want, choice, now))
