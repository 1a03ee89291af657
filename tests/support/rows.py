"""Rows as the writer and the agents' reports leave them, for tests of those who only read them."""

from datetime import datetime
from ipaddress import ip_address, ip_network
from uuid import UUID, uuid4

from sqlalchemy import select

from fabricmgr.store.tables import allocation, block, node, prefix, spare
from fabricmgr.store.tx import Tx
from tests.support.database import NOW


async def prefix_of(tx: Tx, cidr: str) -> tuple[int, int, int]:
    """Id, block length and scope of the prefix around."""
    row = await tx.only(select(prefix).where(prefix.c.cidr.op(">>=")(ip_network(cidr))))
    return row.id, row.block_len, row.scope


async def insert_node(tx: Tx, cluster_id: int, name: str, **values: object) -> int:
    row = {"cluster_id": cluster_id, "name": name, "created_at": NOW, **values}
    return int(await tx.value(node.insert().values(row).returning(node.c.id)))


async def insert_block(
    tx: Tx, cidr: str, state: str, node_id: int | None = None, *, claim: int = 0, since: datetime = NOW, rested_at: datetime | None = None
) -> None:
    prefix_id, length, scope = await prefix_of(tx, cidr)
    row = {"prefix_id": prefix_id, "cidr": ip_network(cidr), "len": length, "scope": scope, "state": state, "node_id": node_id}
    await tx.change(block.insert(), row | {"since": since, "rested_at": rested_at, "claim": claim})


async def insert_allocation(
    tx: Tx, address: str, *, node_id: int | None = None, released_at: datetime | None = None, owner: UUID | None = None, **values: object
) -> UUID:
    family = ip_address(address).version
    prefix_id, _, scope = await prefix_of(tx, address)
    key = owner or uuid4()
    row = {
        "owner": key,
        "scope": scope,
        f"prefix{family}": prefix_id,
        f"address{family}": ip_address(address),
        f"generation{family}": 1,
        "kind": "attachment",
        "node_id": node_id,
        "at": NOW,
        "released_at": released_at,
        "about": {},
    }
    await tx.change(allocation.insert().values(row | values))
    return key


async def insert_spare(tx: Tx, address: str, released_at: datetime) -> None:
    prefix_id, _, _ = await prefix_of(tx, address)
    row = {"prefix_id": prefix_id, "address": ip_address(address), "released_at": released_at, "generation": 1}
    await tx.change(spare.insert(), row)
