"""Addresses that somebody asks for by name: decided one by one, in a transaction of their own."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, DateTime, Integer, Row, Text, bindparam, text
from sqlalchemy.dialects.postgresql import INET, JSONB, UUID

from fabricmgr.domain.addresses import Address, Family, family_of
from fabricmgr.domain.errors import (
    AddressCooling,
    AddressHeld,
    AddressInNodeBlock,
    AddressInTransition,
    AddressOutside,
    AddressReserved,
    AlreadyExists,
    Busy,
    FabricError,
    NodeIsGone,
    OwnerKeyClash,
    PoolExhausted,
)
from fabricmgr.domain.events import AddressAllocated
from fabricmgr.store.places import PoolPlace
from fabricmgr.store.tx import HistoryRow, Tx
from fabricmgr.store.writer_allocate import Given, Taken, Want

_NOW = bindparam("now", type_=DateTime(timezone=True))
_ADDRESS = bindparam("address", type_=INET)


@dataclass(frozen=True)
class Choice:
    """What is asked for. pools: by family, in order of preference. addresses: at most one of each family; the others are any free ones.

    returning: keys of owners. An address that rests since one of them held it last may be had before it has rested."""

    families: tuple[int, ...]
    addresses: tuple[Address, ...]
    pools: Mapping[int, Sequence[PoolPlace]]
    where: str
    returning: frozenset[uuid.UUID] = frozenset()

    def of(self, family: int) -> Address | None:
        return next((each for each in self.addresses if each.version == family), None)


@dataclass
class _Row:
    """The allocation to be."""

    scope: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    given: list[tuple[str, Given]] = field(default_factory=list)

    def put(self, pool: str, prefix_id: int, given: Given) -> None:
        family = given.address.version
        self.given.append((pool, given))
        self.values |= {f"prefix{family}": prefix_id, f"address{family}": given.address, f"generation{family}": given.generation}


async def assign(tx: Tx, want: Want, choice: Choice, now: datetime) -> Taken:
    """These very addresses, and any of the families that name none, all or nothing. The same owner again changes nothing.

    Raises AddressHeld, AddressInNodeBlock, AddressInTransition, AddressCooling, AddressReserved, AddressOutside, PoolExhausted,
    AlreadyExists where the owner holds others, OwnerKeyClash, NodeIsGone."""
    await _check_node(tx, want)
    held = await find(tx, want)
    if held is not None:
        return _repeat(want, choice, held)
    await _lock(tx, choice)
    row = _Row()
    for address in sorted(choice.addresses, key=lambda each: each.version):
        await _reach(tx, want, choice, address, row, now)
    await _insert(tx, want, row, now)
    _tell(tx, want, row)
    for family in choice.families:
        if choice.of(family) is None:
            await _add(tx, want, choice.pools[family], family, now)
    found = await find(tx, want)
    if found is None:
        raise Busy("the allocation", 1)
    return Taken(found.v4, found.v6, True)


_ANY = text("""
    select coalesce(addresses4[1], address4), coalesce(generations4[1], generation4), coalesce(addresses6[1], address6),
      coalesce(generations6[1], generation6)
    from allocate_batch_2(
      :pool4, :pool6, :now, array[:owner], array[:kind], array[:cluster_id], null, null, null, null, array[:name], null,
      array['{}'::jsonb], array[:actor], array[:label], null, null)
""").bindparams(
    _NOW,
    bindparam("owner", type_=UUID),
    *(bindparam(name, type_=Integer) for name in ("pool4", "pool6", "cluster_id")),
    *(bindparam(name, type_=Text) for name in ("kind", "name", "actor", "label")),
)


async def assign_any(tx: Tx, want: Want, choice: Choice, now: datetime) -> Taken:
    """For a client that names no address, outside the lanes: `assign` with the first pool of each family. Raises as it does."""
    if choice.addresses:
        return await assign(tx, want, choice, now)
    held = await find(tx, want)
    if held is not None:
        return held
    pools = {f"pool{family}": choice.pools[family][0].id if family in choice.families else None for family in (4, 6)}
    fields = {name: getattr(want, name) for name in ("owner", "kind", "cluster_id", "name", "actor", "label")}
    row = await tx.first(_ANY, {"now": now, **pools, **fields})
    if row is None:
        raise PoolExhausted(choice.pools[choice.families[0]][0].name, f"IPv{choice.families[0]}", "add a prefix, or see who holds them")
    halves = [Given(row[i], row[i + 1]) if row[i] is not None else None for i in (0, 2)]
    return Taken(halves[0], halves[1], True)


async def add_families(tx: Tx, want: Want, choice: Choice, now: datetime) -> Taken:
    """Families that an owner asks for though it holds another one by now. Raises PoolExhausted, NodeIsGone, Busy."""
    await _check_node(tx, want)
    for family in choice.families:
        await _add(tx, want, choice.pools[family], family, now)
    found = await find(tx, want)
    if found is None:
        raise Busy("the allocation", 1)
    return found


_FIND = text(
    "select kind, node_id, network, container_id, ifname, name, address4, generation4, address6, generation6, released_at "
    "from allocation where owner = :owner"
).bindparams(bindparam("owner", type_=UUID))


async def find(tx: Tx, want: Want) -> Taken | None:
    """What the owner holds. What was released makes room. Raises OwnerKeyClash."""
    row = await tx.first(_FIND, {"owner": want.owner})
    if row is None:
        return None
    if want.fields != (row.kind, row.node_id, row.network, row.container_id, row.ifname, row.name):
        raise OwnerKeyClash(str(want.owner))
    if row.released_at is not None:
        await tx.all(text("select step_aside_1(:owners)").bindparams(bindparam("owners", type_=ARRAY(UUID))), {"owners": [want.owner]})
        return None
    v4 = None if row.address4 is None else Given(row.address4, row.generation4)
    v6 = None if row.address6 is None else Given(row.address6, row.generation6)
    return Taken(v4, v6, False)


def _repeat(want: Want, choice: Choice, held: Taken) -> Taken:
    holds = {each.address for each in held.addresses}
    if not set(choice.addresses) <= holds:
        raise AlreadyExists("an allocation of", f"{want.label} ({', '.join(map(str, sorted(holds, key=lambda each: each.version)))})")
    return held


_NODE = text("""
select exists (select from certificate c join node d on d.id = c.node_id
  where c.serial = :serial and d.id = :node and c.revoked_at is null and d.state <> 'gone')
""")


async def _check_node(tx: Tx, want: Want) -> None:
    if want.serial is None:
        return
    await tx.all(text("select id from node where id = :node for key share"), {"node": want.node_id})
    if not await tx.value(_NODE, {"serial": want.serial, "node": want.node_id}):
        raise NodeIsGone(want.node or "")


_LOCK = text("""
    select lock_supply_1(id)
    from (select id from prefix where pool_id = any (:pools) and family(cidr) = any (:families) order by family(cidr), id) x
""").bindparams(bindparam("pools", type_=ARRAY(Integer)), bindparam("families", type_=ARRAY(Integer)))

_KEEP = text("select id from pool where id = any (:pools) order by id for key share").bindparams(bindparam("pools", type_=ARRAY(Integer)))


async def _lock(tx: Tx, choice: Choice) -> None:
    """The cursors that will be needed, in the order in which everybody takes them."""
    pools = [pool.id for family in choice.families for pool in choice.pools[family]]
    await tx.all(_KEEP, {"pools": pools})
    await tx.all(_LOCK, {"pools": pools, "families": list(choice.families)})


_PREFIX = text("select id, pool_id, scope from prefix where pool_id = any (:pools) and :address <<= cidr").bindparams(
    bindparam("pools", type_=ARRAY(Integer)), _ADDRESS
)
_REACH = text("select * from reach_1(:now, :prefix, :address)").bindparams(_NOW, _ADDRESS)


async def _reach(tx: Tx, want: Want, choice: Choice, address: Address, row: _Row, now: datetime) -> None:
    pools = choice.pools[address.version]
    found = await tx.first(_PREFIX, {"pools": [pool.id for pool in pools], "address": address})
    if found is None:
        raise AddressOutside(str(address), choice.where)
    pool = next(each for each in pools if each.id == found.pool_id)
    reached = await tx.only(_REACH, {"now": now, "prefix": found.id, "address": address})
    if reached.verdict == "cooling" and await _returns(tx, choice, found.scope, address, reached):
        reached = await tx.only(_REACH, {"now": reached.due, "prefix": found.id, "address": address})
    if reached.verdict != "free":
        raise await _refusal(tx, pool, found.id, address, reached)
    given = Given(address, reached.generation + 1)
    row.scope = found.scope
    row.put(pool.name, found.id, given)


# What reach_1 says of an address, without taking it.
_LOOK = text("""
select x.id as prefix_id, around.cidr as block, coalesce(b.state, 'unclaimed') as state, b.node_id, s.due, case
    when not is_assignable_1(x, q.skip_ends, :address) then 'reserved'
    when q.draining then 'draining'
    when b.state in ('pending', 'confirmed', 'releasing', 'held_back') then 'elsewhere'
    when coalesce(b.state, 'unclaimed') = 'unclaimed' then case when b.rested_at > :now then 'cooling' else 'free' end
    when y.central_block = around.cidr and :address >= y.next_address then 'free'
    when s.due is null then 'held'
    when s.due > :now then 'cooling'
    else 'free' end as verdict
from prefix x
join pool q on q.id = x.pool_id
join supply y on y.prefix_id = x.id
cross join lateral (select network(set_masklen(:address, x.block_len)) as cidr) around
left join block b on b.prefix_id = x.id and b.cidr = around.cidr
left join lateral (
  select case when b.state = 'central' then p.released_at + q.cooldown else b.rested_at end as due
  from (values (1)) one left join spare p on p.prefix_id = x.id and p.address = :address
) s on true
where x.pool_id = :pool and :address <<= x.cidr
""").bindparams(_NOW, _ADDRESS)


async def look(tx: Tx, pool: PoolPlace, address: Address, now: datetime) -> FabricError | None:
    """What `assign` would say to an address of a pool; None where nobody has it. Nothing is taken, and nothing stands still meanwhile."""
    found = await tx.first(_LOOK, {"pool": pool.id, "address": address, "now": now})
    if found is None:
        return AddressOutside(str(address), f"pool {pool.name!r}")
    return None if found.verdict == "free" else await _refusal(tx, pool, found.prefix_id, address, found)


async def last_owner(tx: Tx, scope: int, address: Address) -> uuid.UUID | None:
    """Who was the last to get an address, as far back as the history goes."""
    found: uuid.UUID | None = await tx.value(_LAST, {"address": address, "scope": scope})
    return found


_LAST = text(
    "select owner from history where address = :address and scope = :scope and what = 'assigned' order by at desc, id desc limit 1"
).bindparams(_ADDRESS)


async def _returns(tx: Tx, choice: Choice, scope: int, address: Address, reached: Row[Any]) -> bool:
    """A whole block that rests is another matter: others held addresses of it."""
    if not choice.returning or reached.state != "central":
        return False
    return await last_owner(tx, scope, address) in choice.returning


def _tell(tx: Tx, want: Want, row: _Row) -> None:
    about = json.loads(want.about) | {"owner": want.label}
    for pool, given in row.given:
        tx.remember(HistoryRow("assigned", want.owner, row.scope, given.address, given.generation, want.node_id, want.actor, about))
        tx.emit(AddressAllocated(pool, str(given.address), want.label, given.generation, want.node))


async def _refusal(tx: Tx, pool: PoolPlace, prefix_id: int, address: Address, reached: Row[Any]) -> FabricError:
    if reached.verdict == "reserved":
        return AddressReserved(str(address), pool.name, await _reason(tx, prefix_id, address))
    if reached.verdict == "draining":
        return PoolExhausted(pool.name, family_of(address).label, "it is draining")
    if reached.verdict == "cooling":
        return AddressCooling(str(address), reached.due)
    if reached.verdict == "elsewhere" and reached.state == "confirmed":
        name = await tx.value(text("select name from node where id = :id"), {"id": reached.node_id})
        return AddressInNodeBlock(str(address), str(name), str(reached.block))
    if reached.verdict == "elsewhere":
        return AddressInTransition(str(address), str(reached.block), reached.state.replace("_", " "))
    holder = await tx.first(_HOLDER[Family(address.version)], {"address": address, "scope": pool.scope})
    return (
        AddressInTransition(str(address), str(reached.block), "handing it out just now")
        if holder is None
        else AddressHeld(str(address), holder[0])
    )


_RESERVED = text("select reason from reservation where prefix_id = :prefix and :address <<= cidr order by masklen(cidr) desc").bindparams(
    _ADDRESS
)
_LABEL = """
    select case a.kind
      when 'attachment' then format('container %s interface %s network %s node %s', a.container_id, a.ifname, a.network, n.name)
      when 'service' then format('Service %s', a.name)
      else a.name end
    from allocation a left join node n on n.id = a.node_id where a.scope = :scope and
"""
_HOLDER = {family: text(f"{_LABEL} a.address{family.value} = :address").bindparams(_ADDRESS) for family in Family}


async def _reason(tx: Tx, prefix_id: int, address: Address) -> str:
    found = await tx.value(_RESERVED, {"prefix": prefix_id, "address": address})
    return "it is the first or the last of its prefix" if found is None else str(found)


_COLUMNS = ("prefix4", "address4", "generation4", "prefix6", "address6", "generation6")
_INSERT = text(f"""
    insert into allocation (
      owner, scope, {", ".join(_COLUMNS)}, kind, cluster_id, node_id, network, container_id, ifname, name, mac, about, at)
    values (
      :owner, :scope, {", ".join(f":{each}" for each in _COLUMNS)}, :kind, :cluster_id, :node_id, :network, :container, :ifname, :name,
      :mac, :about, :now)
    on conflict (owner) do nothing
""").bindparams(
    _NOW,
    bindparam("owner", type_=UUID),
    bindparam("about", type_=JSONB),
    *(bindparam(f"address{each}", type_=INET) for each in (4, 6)),
    *(bindparam(f"prefix{each}", type_=Integer) for each in (4, 6)),
    *(bindparam(f"generation{each}", type_=BigInteger) for each in (4, 6)),
)


async def _insert(tx: Tx, want: Want, row: _Row, now: datetime) -> None:
    fields = ("owner", "kind", "cluster_id", "node_id", "network", "container", "ifname", "name", "mac")
    values = {name: getattr(want, name) for name in fields} | dict.fromkeys(_COLUMNS) | row.values
    if not await tx.change(_INSERT, values | {"scope": row.scope, "about": json.loads(want.about), "now": now}):
        raise Busy("the allocation", 1)


_ADD = text("select add_family_1(:now, :owner, :pool, :family, :actor)").bindparams(_NOW, bindparam("owner", type_=UUID))


async def _add(tx: Tx, want: Want, pools: Sequence[PoolPlace], family: int, now: datetime) -> None:
    for pool in pools:
        asked = {"now": now, "owner": want.owner, "pool": pool.id, "family": family, "actor": want.actor}
        if await tx.value(_ADD, asked):
            return
    raise PoolExhausted(pools[0].name if pools else "", f"IPv{family}", "add a prefix, or see who holds them")
