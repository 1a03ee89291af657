"""Rows of blocks that nodes hold, and of the lives that hold them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Integer, Row, Text, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import CIDR, INET, JSONB
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.types import TypeEngine

from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.domain.errors import NodeIsGone, Unauthenticated
from fabricmgr.domain.events import Json
from fabricmgr.store.mark import MARK
from fabricmgr.store.tx import Tx
from fabricmgr.wire import GrantedBlock

# What a generation grows by where the last one given out is not known: more than any block will ever give out.
UNKNOWN_GENERATIONS = 2**40

_TYPES: dict[str, TypeEngine[Any]] = {
    "now": DateTime(timezone=True),
    "since": DateTime(timezone=True),
    "cidr": CIDR(),
    "cidrs": ARRAY(CIDR),
    "pools": ARRAY(Integer),
    "life": UUID_TYPE(),
    "boot": UUID_TYPE(),
    "owners": ARRAY(UUID_TYPE),
    "addresses": ARRAY(INET),
    "interfaces": JSONB(),
    "faults": ARRAY(Text),
}


def _sql(statement: str) -> TextClause:
    """A statement whose parameters have the types their names stand for everywhere in this file."""
    made = text(statement)
    return made.bindparams(*(bindparam(name, type_=kind) for name, kind in _TYPES.items() if re.search(rf"(?<!:):{name}\b", statement)))


@dataclass(frozen=True)
class Life:
    """Which journal speaks for a node, and how far its reports have come. seen_at: the node's last sign of life."""

    id: UUID
    boot_id: UUID
    last_number: int


@dataclass(frozen=True)
class BlockRow:
    """A block as it stands. prefix_id and pool: also of a block without a row, whose state is unclaimed and whose claim is 0."""

    prefix_id: int
    cidr: Prefix
    pool: str
    cooldown: timedelta
    state: str = "unclaimed"
    node_id: int | None = None
    claim: int = 0
    generation: int = 0


_NODE = _sql("select id, state, seen_at from node where id = :id for no key update")
_VALID = _sql("select exists (select from certificate where serial = :serial and node_id = :id and revoked_at is null)")


async def lock_node(tx: Tx, node_id: int, name: str, serial: str) -> datetime | None:
    """Lock a node for its own agent, and look its certificate up in this very transaction. Gives when it was last seen.

    Raises NodeIsGone and Unauthenticated."""
    row = await tx.first(_NODE, {"id": node_id})
    if row is None or row.state == "gone":
        raise NodeIsGone(name)
    if not await tx.value(_VALID, {"serial": serial, "id": node_id}):
        raise Unauthenticated("the certificate was revoked")
    seen: datetime | None = row.seen_at
    return seen


_LIFE = _sql("select life, boot_id, last_number from report where node_id = :id for update")
_BEGIN = _sql("""
    insert into report (node_id, life, boot_id, last_number, at) values (:id, :life, :boot, :number, :now)
    on conflict (node_id) do update set life = excluded.life, boot_id = excluded.boot_id, last_number = excluded.last_number,
      at = excluded.at
""")


async def life_of(tx: Tx, node_id: int) -> Life | None:
    row = await tx.first(_LIFE, {"id": node_id})
    return None if row is None else Life(row.life, row.boot_id, row.last_number)


async def begin_life(tx: Tx, node_id: int, life: Life, now: datetime) -> None:
    await tx.change(_BEGIN, {"id": node_id, "life": life.id, "boot": life.boot_id, "number": life.last_number, "now": now})


_SEEN = _sql("update node set seen_at = :now where id = :id")
_DESCRIBE = _sql("""
    update node set seen_at = :now, agent_version = :version, addresses = :addresses, interfaces = :interfaces, faults = :faults
    where id = :id
""")


async def seen(tx: Tx, node_id: int, now: datetime) -> None:
    await tx.change(_SEEN, {"id": node_id, "now": now})


async def describe(
    tx: Tx, node_id: int, version: str, addresses: Sequence[Address], interfaces: Json, faults: Sequence[str], now: datetime
) -> None:
    """What an agent says of its node."""
    about = {"version": version, "addresses": list(addresses), "interfaces": interfaces, "faults": list(faults)}
    await tx.change(_DESCRIBE, {"id": node_id, "now": now} | about)


_BLOCKS = """
    select b.prefix_id, b.cidr, q.name as pool, q.cooldown, b.state, b.node_id, b.claim, b.generation
    from block b join prefix p on p.id = b.prefix_id join pool q on q.id = p.pool_id
"""
_OF_NODE = _sql(f"{_BLOCKS} where b.node_id = :id order by b.prefix_id, b.cidr for update of b")
_NAMED = _sql(f"{_BLOCKS} where b.cidr = any (:cidrs) order by b.prefix_id, b.cidr for update of b")
_ROOM = _sql("""
    select p.id, q.name, q.cooldown from prefix p join pool q on q.id = p.pool_id
    where :cidr <<= p.cidr and masklen(:cidr) = p.block_len and not p.central
      and exists (select from network_pool k join network w on w.id = k.network_id join node n on n.cluster_id = w.cluster_id
        where k.pool_id = q.id and n.id = :id)
""")


def _block(row: Row[Any]) -> BlockRow:
    return BlockRow(row.prefix_id, row.cidr, row.pool, row.cooldown, row.state, row.node_id, row.claim, row.generation)


async def blocks_of(tx: Tx, node_id: int) -> list[BlockRow]:
    return [_block(row) for row in await tx.all(_OF_NODE, {"id": node_id})]


async def blocks_named(tx: Tx, cidrs: Sequence[Prefix]) -> dict[Prefix, BlockRow]:
    """Those that have a row, whoever holds them."""
    return {row.cidr: _block(row) for row in await tx.all(_NAMED, {"cidrs": list(cidrs)})}


async def room_for(tx: Tx, node_id: int, cidr: Prefix) -> BlockRow | None:
    """A block that has no row, where a network of the node's cluster has such a one."""
    row = await tx.first(_ROOM, {"cidr": cidr, "id": node_id})
    return None if row is None else BlockRow(row.id, cidr, row.name, row.cooldown)


_PUT = _sql("""
    insert into block as b (prefix_id, cidr, len, scope, state, node_id, claim, generation, since)
    select p.id, :cidr, p.block_len, p.scope, 'confirmed', :id, :claim, :generation, :now from prefix p where p.id = :prefix
    on conflict (prefix_id, cidr) do update set state = 'confirmed', node_id = excluded.node_id, claim = excluded.claim,
      generation = greatest(b.generation, excluded.generation), since = excluded.since, rested_at = null
""")
_SUPPLY = _sql("select lock_supply_1(:prefix)")


async def adopt(tx: Tx, node_id: int, row: BlockRow, claim: int, generation: int, now: datetime) -> None:
    """It is the node's, with the claim its agent remembers."""
    await tx.all(_SUPPLY, {"prefix": row.prefix_id})
    held = {"prefix": row.prefix_id, "cidr": row.cidr, "id": node_id, "claim": claim, "generation": generation, "now": now}
    await tx.change(_PUT, held)


_CHANGE = """
    update block set state = :state, claim = claim + :claims, generation = greatest(generation, :least) + :generations, since = :now
"""
_MOVE = _sql(f"{_CHANGE} where prefix_id = :prefix and cidr = :cidr")
_REST = _sql(f"{_CHANGE}, rested_at = :since where prefix_id = :prefix and cidr = :cidr")
_LEAVE = _sql(f"{_CHANGE}, rested_at = :since, node_id = null where prefix_id = :prefix and cidr = :cidr")


async def move(
    tx: Tx,
    row: BlockRow,
    state: str,
    now: datetime,
    *,
    anew: bool = False,
    forgotten: bool = False,
    least: int = 0,
    rests_until: datetime | None = None,
    leaves: bool = False,
) -> None:
    """Put a block into another state. anew: with the next claim. forgotten: nobody knows the last generation it gave out.

    least: the generation its holder knows. leaves: no node holds it from now on."""
    statement = _LEAVE if leaves else _MOVE if rests_until is None else _REST
    values = {"state": state, "claims": int(anew), "least": least, "generations": UNKNOWN_GENERATIONS if forgotten else 0, "now": now}
    rest = {} if statement is _MOVE else {"since": rests_until or now}
    await tx.change(statement, values | rest | {"prefix": row.prefix_id, "cidr": row.cidr})


_CLAIM = _sql("select claim_1(:now, :id, :pools, :family, :wanted)")


async def claim(tx: Tx, node_id: int, pools: Sequence[int], family: int, wanted: int, now: datetime) -> int:
    """Claim until the node has as many; how many it has then."""
    return int(await tx.value(_CLAIM, {"now": now, "id": node_id, "pools": list(pools), "family": family, "wanted": wanted}))


_STALE = _sql(f"{_BLOCKS} where b.state = 'pending' and b.since <= :since order by b.prefix_id, b.cidr for update of b skip locked")
_RESTED = _sql(f"""
    {_BLOCKS} where b.state = 'releasing' and b.rested_at <= :now
      and not exists (select from allocation a where a.node_id = b.node_id and (a.address4 <<= b.cidr or a.address6 <<= b.cidr))
    order by b.prefix_id, b.cidr for update of b skip locked
""")


async def unconfirmed(tx: Tx, since: datetime) -> list[BlockRow]:
    """Claimed at this time or before, and never confirmed. Locked."""
    return [_block(row) for row in await tx.all(_STALE, {"since": since})]


async def rested(tx: Tx, now: datetime) -> list[BlockRow]:
    """Given back, empty, and rested. Locked."""
    return [_block(row) for row in await tx.all(_RESTED, {"now": now})]


_GRANTED = _sql("""
    select q.name as pool, b.cidr, b.claim, b.state, b.generation, b.rested_at, q.cooldown, array(
      select case when b.cidr <<= r.cidr then b.cidr else r.cidr end from reservation r where r.prefix_id = p.id and r.cidr && b.cidr
      union select g from (values (p.gateway::cidr)) x (g) where g <<= b.cidr
      union select e from (values (set_masklen(p.cidr::inet, w)::cidr), (set_masklen(broadcast(p.cidr), w)::cidr)) x (e)
        where q.skip_ends and masklen(p.cidr) < w - 1 and e <<= b.cidr
      order by 1) as reserved
    from block b join prefix p on p.id = b.prefix_id join pool q on q.id = p.pool_id
    cross join lateral (select case family(p.cidr) when 4 then 32 else 128 end as w) y
    where b.node_id = :id order by q.name, b.cidr
""")


async def granted(tx: Tx, node_id: int) -> list[GrantedBlock]:
    """The blocks of a node as it is told of them."""
    return [_granted(row) for row in await tx.all(_GRANTED, {"id": node_id})]


def _granted(row: Row[Any]) -> GrantedBlock:
    return GrantedBlock(
        pool=row.pool,
        prefix=str(row.cidr),
        claim=row.claim,
        state=row.state,
        generation=row.generation,
        rested_at=row.rested_at,
        reserved=[str(each.network_address) if each.num_addresses == 1 else str(each) for each in row.reserved],
        cooldown_seconds=row.cooldown.total_seconds(),
    )


async def mark(tx: Tx) -> str:
    """How far the log has come, this transaction not included."""
    return str(await tx.value(text(MARK)))


_OWNED = _sql("select owner, address4, address6, released_at from allocation where node_id = :id order by owner for update")
_END = _sql("select end_allocations_1(:now, :owners, :actor, :reason)")


async def owned(tx: Tx, node_id: int) -> list[Row[Any]]:
    """What the attachments of a node hold in our copy. Locked."""
    return await tx.all(_OWNED, {"id": node_id})


async def end(tx: Tx, owners: Sequence[UUID], actor: str, reason: str, now: datetime) -> int:
    """End allocations that no link carries any more: central addresses rest from now. How many there were."""
    if not owners:
        return 0
    return int(await tx.value(_END, {"now": now, "owners": list(owners), "actor": actor, "reason": reason}))


_RETIRE = _sql("select retire_central_1(:now)")


async def retire_central(tx: Tx, now: datetime) -> int:
    """Let nodes have central blocks again of which every address waits and has rested."""
    return int(await tx.value(_RETIRE, {"now": now}))
