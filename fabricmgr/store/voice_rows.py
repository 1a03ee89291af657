"""What nodes are told to announce, and what they say of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, Row, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.election import Stage
from fabricmgr.store.announce_rows import wake
from fabricmgr.store.tx import Tx

# --- what nodes are told ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """An address that a node is to announce."""

    node_id: int
    address: Address
    term: int


_TOLD = text("""
    select node_id, address, term from announcement where node_id is not null
    union all
    select successor_id, address, term + 1 from announcement where successor_id is not null
    order by 1, 2
""")


async def told(tx: Tx) -> list[Told]:
    """Of all nodes, by address. A successor knows the term that it would have."""
    return [Told(row.node_id, row.address, row.term) for row in await tx.all(_TOLD)]


# --- what nodes say ----------------------------------------------------------------------------------------------------------------

_BEAT = text("""
    with known as (
      select r.life = :life as current from report r join node n on n.id = r.node_id where r.node_id = :node and n.state <> 'gone'
    ),
    beat as (
      insert into announcer (node_id, beat_at) select :node, clock_timestamp() from known where current
      on conflict (node_id) do update set beat_at = excluded.beat_at
    )
    select current from known
""").bindparams(bindparam("life", type_=PG_UUID), bindparam("node", type_=Integer))
_SAID = text("""
    select coalesce(v.address, a.address) as address, v.term, v.stage, v.conflict, v.reason, a.term as decided,
      coalesce(a.node_id = :node, false) as holds, coalesce(a.successor_id = :node, false) as succeeds, a.successor_id is null as alone
    from (select * from voice where node_id = :node) v
    full join (select * from announcement where cluster_id = (select cluster_id from node where id = :node)
      and (node_id = :node or successor_id = :node or address = any (cast(:named as inet[])))) a
      on a.cluster_id = v.cluster_id and a.address = v.address
""").bindparams(bindparam("node", type_=Integer), bindparam("named", type_=ARRAY(Text)))
_SAY = text("""
    insert into voice as v (cluster_id, address, node_id, term, stage, conflict, reason, told_at, failed_at)
    select n.cluster_id, address, :node, term, stage, conflict, reason, clock_timestamp(), case when failed then clock_timestamp() end
    from node n, jsonb_to_recordset(:rows) as d (address inet, term bigint, stage text, conflict text, reason text, failed boolean)
    where n.id = :node order by address
    on conflict (cluster_id, address, node_id) do update set term = excluded.term, stage = excluded.stage, conflict = excluded.conflict,
      reason = excluded.reason, failed_at = coalesce(excluded.failed_at, v.failed_at)
""").bindparams(bindparam("node", type_=Integer), bindparam("rows", type_=JSONB))


@dataclass(frozen=True)
class Said:
    """What a node said last of an address (stage None: nothing), and what part it has in it."""

    address: Address
    term: int
    stage: Stage | None
    conflict: str
    reason: str
    decided: int
    holds: bool
    succeeds: bool
    alone: bool


@dataclass(frozen=True)
class Say:
    """What a node says anew."""

    address: Address
    term: int
    stage: Stage
    conflict: str = ""
    reason: str = ""
    failed: bool = False


async def beat(tx: Tx, node_id: int, life: UUID) -> bool | None:
    """Note that its announcer was heard. False: another life speaks for the node. None: none has said hello, or it is gone."""
    current: bool | None = await tx.value(_BEAT, {"life": life, "node": node_id})
    return current


async def said(tx: Tx, node_id: int, named: Iterable[Address]) -> dict[Address, Said]:
    """Of a node, by address: what it said, what it has a part in, and those named that are announced by anybody."""
    rows = await tx.all(_SAID, {"node": node_id, "named": [str(each) for each in named]})
    return {row.address: _said(row) for row in rows}


def _said(row: Row[Any]) -> Said:
    stage = None if row.stage is None else Stage(row.stage)
    return Said(
        row.address,
        row.term or 0,
        stage,
        row.conflict or "",
        row.reason or "",
        row.decided or 0,
        row.holds,
        row.succeeds,
        bool(row.alone),
    )


async def say(tx: Tx, node_id: int, words: Sequence[Say]) -> None:
    """Write what is new, and wake who decides."""
    rows = [{**vars(each), "address": str(each.address), "stage": each.stage.value} for each in words]
    await tx.change(_SAY, {"node": node_id, "rows": rows})
    await wake(tx)
