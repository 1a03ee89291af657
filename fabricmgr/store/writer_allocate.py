"""Batches of allocations in central blocks: any free address."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import repeat
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

    def __init__(self, caller: Caller, pools: Pair, clock: Callable[[], datetime], function: str = "allocate_batch_2") -> None:
        self._statement = f"select * from {function}{_ARGUMENTS}"
        self._caller = caller
        self._pools = pools
        self._clock = clock

    async def send(self, wants: Sequence[Want]) -> list[Taken | Exception]:
        """One call for all, and more for those that found nothing while others had addresses in their hands for that moment."""
        answers = await self._round(wants)
        exhausted: FabricError = OwnerKeyClash("")
        for _ in range(TRIES):
            short = [place for place, answer in enumerate(answers) if answer is None]
            if not short:
                break
            again = [wants[place] for place in short]
            await self._make_room(again)
            for place, answer in zip(short, await self._round(again), strict=True):
                answers[place] = answer
            exhausted, sure = await self._exhausted() if None in answers else (exhausted, True)
            if sure:
                break
        return [exhausted if answer is None else answer for answer in answers]

    async def _round(self, wants: Sequence[Want]) -> list[Taken | Exception | None]:
        """An answer for each, in their order. None: there was none."""
        numbers = [want.owner.int for want in wants]
        order = sorted(range(len(wants)), key=numbers.__getitem__)
        answers: list[Taken | Exception | None] = [None] * len(wants)
        for row in await self._call([wants[place] for place in order]):
            if row["owner"] is None:
                _hand_out(wants, answers, order, row)
            else:
                place = numbers.index(row["owner"].int)
                answers[place] = _read(wants[place], row)
        return answers

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


def _columns(wants: Sequence[Want]) -> list[Sequence[object] | None]:
    """As the function of the database takes them: a column that is alike for all costs next to nothing, neither here nor there."""
    columns = list(zip(*wants, strict=True))
    return [_column(columns[place]) for place in _PLACES]


def _column(values: tuple[object, ...]) -> Sequence[object] | None:
    # The last one first: it tells most columns apart without a look at the others.
    if values[0] != values[-1] or values.count(values[0]) < len(values):
        return values
    return None if values[0] is None else values[:1]


def _hand_out(wants: Sequence[Want], answers: list[Taken | Exception | None], order: Sequence[int], row: Row) -> None:
    """What was made, to whom it is for. order: of the batch as it was sent, as places in the one that was asked."""
    places = order if row["places"] is None else [order[place - 1] for place in row["places"]]
    made = list(map(Taken, _halves(row, "4"), _halves(row, "6"), repeat(True), row["earlies"] or repeat(False)))
    for place, taken in zip(places, made, strict=True):
        answers[place] = taken
        if taken.early:
            _tell_early(wants[place], taken)


def _halves(row: Row, family: str) -> Iterable[Given | None]:
    addresses = row["addresses" + family]
    return repeat(None) if addresses is None else map(Given, addresses, row["generations" + family])


def _tell_early(want: Want, taken: Taken) -> None:
    REUSED_EARLY.inc()
    log.warning("reused early", extra={"owner": want.label, "addresses": [str(each.address) for each in taken.addresses]})


def _read(want: Want, row: Row) -> Taken | FabricError | None:
    """What an owner holds already. None for what was released and still has a link: it is no answer."""
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
