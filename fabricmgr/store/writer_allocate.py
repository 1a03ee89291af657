"""Batches of allocations in central blocks: any free address."""

import logging
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.errors import FabricError, NodeIsGone, OwnerKeyClash, PoolExhausted
from fabricmgr.metrics import CONFLICTS, REUSED_EARLY
from fabricmgr.store.repeat import TRIES, Caller, Row

log = logging.getLogger(__name__)

Pair = tuple[int | None, int | None]
"""Pools by id: for the IPv4 and for the IPv6 address. One of the two may be missing."""


class Want(NamedTuple):
    """Who asks. A tuple, since a batch is turned into columns, and there may be thousands a second.

    owner: the key; kind to name: what it is made of, in the row as it is. about: JSON text. label: the owner for people.

    node_id, node and serial (of its certificate): of an attachment. actor: on whose behalf, for the history."""

    owner: UUID
    kind: str
    label: str
    cluster_id: int | None = None
    node_id: int | None = None
    node: str | None = None
    network: str | None = None
    container: str | None = None
    ifname: str | None = None
    name: str | None = None
    mac: str | None = None
    about: str = "{}"
    actor: str | None = None
    serial: str | None = None

    @property
    def fields(self) -> tuple[object, ...]:
        """What must agree where the key does."""
        return (self.kind, self.node_id, self.network, self.container, self.ifname, self.name)


class Given(NamedTuple):
    """An address, and the generation that its release quotes."""

    address: Address
    generation: int


class Taken(NamedTuple):
    """What an owner holds. made: by this call. early: an address that had not rested, as its pool allows."""

    v4: Given | None
    v6: Given | None
    made: bool
    early: bool = False

    @property
    def addresses(self) -> tuple[Given, ...]:
        return tuple(each for each in (self.v4, self.v6) if each is not None)


_ARGUMENTS = "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
_SHORT = """
select p.name, family(x.cidr) as family, p.draining, min(s.released_at) + p.cooldown as due
from pool p left join prefix x on x.pool_id = p.id and family(x.cidr) = $2
left join lateral (select released_at from spare where prefix_id = x.id order by released_at limit 1) s on true
where p.id = $1 group by p.id, family(x.cidr)
"""
_CAN = """
select exists (
  select from prefix x left join supply s on s.prefix_id = x.id join pool p on p.id = x.pool_id where x.pool_id = $1 and family(x.cidr) = $2
  and not p.draining and (s.prefix_id is null or masklen(s.next_block) is distinct from 0 or s.central_block is not null
    or exists (select from spare y where y.prefix_id = x.id and y.released_at <= $3::timestamptz - p.cooldown)))
"""
_ADDRESS = re.compile(r"=\((\d+), ([0-9a-f.:]+)\)")
MOST_CONFLICTS = 8


class Allocating:
    """Sends the batches of one lane."""

    def __init__(self, caller: Caller, pools: Pair, clock: Callable[[], datetime], function: str = "allocate_batch_1") -> None:
        self._statement = f"select * from {function}{_ARGUMENTS}"
        self._caller = caller
        self._pools = pools
        self._clock = clock

    async def send(self, wants: Sequence[Want]) -> list[Taken | Exception]:
        """One call for all, and more for those that found nothing while others had addresses in their hands for that moment."""
        answers = await self._round(wants)
        short = [want for want in wants if want.owner not in answers]
        exhausted: FabricError = OwnerKeyClash("")
        for _ in range(TRIES):
            if not short:
                break
            await self._make_room(short)
            answers |= await self._round(short)
            short = [want for want in short if want.owner not in answers]
            exhausted, sure = await self._exhausted() if short else (exhausted, True)
            if sure:
                break
        return [answers.get(want.owner, exhausted) for want in wants]

    async def _round(self, wants: Sequence[Want]) -> dict[UUID, Taken | Exception]:
        by_owner = {want.owner: want for want in wants}
        rows = await self._call(sorted(wants, key=lambda want: want.owner.int))
        read = ((row["owner"], _read(by_owner[row["owner"]], row)) for row in rows)
        return {owner: answer for owner, answer in read if answer is not None}

    async def _call(self, wants: Sequence[Want]) -> list[Row]:
        arguments = _columns(wants)
        for _ in range(MOST_CONFLICTS):
            try:
                return await self._caller.call("allocate", self._statement, *self._pools, self._clock(), *arguments)
            except asyncpg.UniqueViolationError as error:
                met = _ADDRESS.search(error.detail or "")
                if met is None or not (error.constraint_name or "").startswith("allocation_address"):
                    raise
                await self._hold_back(int(met[1]), met[2])
        return await self._caller.call("allocate", self._statement, *self._pools, self._clock(), *arguments)

    async def _hold_back(self, scope: int, address: str) -> None:
        CONFLICTS.inc()
        await self._caller.call("hold back", "select hold_back_1($1, $2, $3)", self._clock(), scope, address)

    async def _make_room(self, wants: Sequence[Want]) -> None:
        """What was released under these names and still has a link goes aside, so that the name gets another address."""
        await self._caller.call("step aside", "select step_aside_1($1)", [want.owner for want in wants])

    async def _exhausted(self) -> tuple[FabricError, bool]:
        """Which pool was short, and what its user can do; and whether that is so, or there are addresses by now."""
        asked = [(pool, family) for pool, family in zip(self._pools, (4, 6), strict=True) if pool is not None]
        can = [(await self._caller.call("look", _CAN, *each, self._clock()))[0]["exists"] for each in asked]
        pool, family = asked[can.index(False)] if False in can else asked[0]
        rows = await self._caller.call("look", _SHORT, pool, family)
        return _short(rows[0], family) if rows else PoolExhausted(str(pool), f"IPv{family}", "it was deleted"), not all(can)


_ORDER = (
    "owner",
    "kind",
    "cluster_id",
    "node_id",
    "network",
    "container",
    "ifname",
    "name",
    "mac",
    "about",
    "actor",
    "label",
    "node",
    "serial",
)
_PLACES = tuple(Want._fields.index(name) for name in _ORDER)


def _columns(wants: Sequence[Want]) -> list[list[object] | None]:
    """As the function of the database takes them. A column that is empty for all costs nothing, neither here nor there."""
    columns = list(zip(*wants, strict=True))
    return [list(columns[place]) if any(each is not None for each in columns[place]) else None for place in _PLACES]


def _read(want: Want, row: Row) -> Taken | FabricError | None:
    """None for what was released and still has a link: it is no answer."""
    if row["early"]:
        REUSED_EARLY.inc()
        log.warning("reused early", extra={"owner": want.label, "address4": row["address4"], "address6": row["address6"]})
    if row["made"]:
        return Taken(_half(row, "4"), _half(row, "6"), True, row["early"])
    if row["kind"] == "barred":
        return NodeIsGone(want.node or "")
    if want.fields != (row["kind"], row["node_id"], row["network"], row["container_id"], row["ifname"], row["name"]):
        return OwnerKeyClash(str(want.owner))
    return None if row["released_at"] is not None else Taken(_half(row, "4"), _half(row, "6"), False)


def _half(row: Row, family: str) -> Given | None:
    address = row["address" + family]
    return None if address is None else Given(address, row["generation" + family])


def _short(row: Row, family: int) -> PoolExhausted:
    if row["draining"]:
        hint = "it is draining"
    elif row["family"] is None:
        hint = f"it has no IPv{family} prefix"
    elif row["due"] is not None:
        hint = f"the next one has rested at {row['due']:%H:%M:%S} UTC"
    else:
        hint = "add a prefix, or see who holds them"
    return PoolExhausted(row["name"], f"IPv{family}", hint)
