"""Names of nodes by id."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select

from fabricmgr.store.tables import node
from fabricmgr.store.tx import Tx


async def node_names(tx: Tx, ids: Sequence[int]) -> Mapping[int, str]:
    """Those that are there."""
    rows = await tx.all(select(node.c.id, node.c.name).where(node.c.id.in_(ids)))
    return {row.id: row.name for row in rows}
