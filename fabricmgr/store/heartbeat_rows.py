"""Signs of life: a node's long poll names its life and what it has acted on."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Integer, Text, bindparam, text
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE

from fabricmgr.store.tx import Tx

_BEAT = text("""
    with known as (select life = :life as current from report where node_id = :node),
    beat as (
      update node set seen_at = greatest(seen_at, :now), desired_acted = :acted
      where id = :node and state <> 'gone' and exists (select from known where current)
    )
    select current from known
""").bindparams(
    bindparam("life", type_=UUID_TYPE),
    bindparam("node", type_=Integer),
    bindparam("acted", type_=Text),
    bindparam("now", type_=DateTime(timezone=True)),
)


async def beat(tx: Tx, node_id: int, life: UUID, acted: str, now: datetime) -> bool | None:
    """Note that the life was heard. False: another life speaks for the node. None: none has said hello yet. Neither changes anything."""
    current: bool | None = await tx.value(_BEAT, {"life": life, "node": node_id, "acted": acted, "now": now})
    return current
