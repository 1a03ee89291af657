"""Blocks of a pool: an OEM collection, since the standard has no word for a node's slice of a pool (docs/decisions/0004)."""

from collections.abc import Mapping, Sequence

from fabricmgr.domain.addresses import parse_prefix
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.names import pool_name
from fabricmgr.domain.pool import BlockFilter, PoolBlock
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource, texts
from fabricmgr.redfish.resources.fabrics import known
from fabricmgr.services import pools

PAGE = 200
STATES = {
    "unclaimed": "Unclaimed",
    "pending": "Pending",
    "confirmed": "Confirmed",
    "releasing": "Releasing",
    "central": "Central",
    "held_back": "HeldBack",
}
_STORED = {shown: stored for stored, shown in STATES.items()}


async def get(ask: Ask) -> tuple[str, PoolBlock]:
    known(ask.params["fabric_id"])
    pool = pool_name(ask.params["pool_id"])
    async with ask.database.read() as tx:
        return pool, await pools.block(tx, pool, ids.prefix_of(ask.params["block_id"], "block"))


async def load(ask: Ask, wanted: Sequence[str]) -> Sequence[tuple[str, PoolBlock]]:
    pool = pool_name(ask.params["pool_id"])
    among = tuple(ids.prefix_of(each, "block") for each in wanted)
    async with ask.database.read() as tx:
        found, _ = await pools.some_blocks(tx, pool, BlockFilter(among=among), 0, len(among))
    by_prefix = {each.prefix: each for each in found}
    return [(pool, by_prefix[each]) for each in among if each in by_prefix]


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    known(ask.params["fabric_id"])
    try:
        wanted = _wanted(texts(ask))
    except (Invalid, KeyError):
        wanted = BlockFilter(among=())  # no block has such a value
    async with ask.database.read() as tx:
        found, total = await pools.some_blocks(tx, pool_name(ask.params["pool_id"]), wanted, skip, PAGE if top is None else top)
    return [ids.prefix_id(each.prefix) for each in found], total


def _wanted(given: Mapping[str, str]) -> BlockFilter:
    """Raises Invalid and KeyError for values that cannot be."""
    return BlockFilter(
        among=(parse_prefix(given["Prefix"]),) if "Prefix" in given else None,
        state=_STORED[given["State"]] if "State" in given else None,
        node=given.get("Node"),
        cluster=given.get("Cluster"),
    )


def body(shown: tuple[str, PoolBlock]) -> Json:
    pool, block = shown
    page: Json = {
        "Id": ids.prefix_id(block.prefix),
        "Name": f"Block {block.prefix}",
        "Prefix": str(block.prefix),
        "State": STATES[block.state],
        "Claim": block.claim,
        "Generation": block.generation,
        "Since": block.since.isoformat(timespec="seconds"),
    }
    links: Json = {"AddressPool": ids.reference(f"{ids.POOLS}/{pool}")}
    if block.rested_at is not None:
        page["RestedAt"] = block.rested_at.isoformat(timespec="seconds")
    if block.node is not None and block.cluster is not None:
        page |= {"Node": block.node, "Cluster": block.cluster}
        links["System"] = ids.reference(ids.system_uri(block.cluster, block.node))
    return {**page, "Links": links}


block = Resource(
    schema="FabricMgrBlock",
    uri="/redfish/v1/Fabrics/{fabric_id}/AddressPools/{pool_id}/Oem/FabricMgr/Blocks/{block_id}",
    get=get,
    body=body,
    members=members,
    load=load,
    page_size=PAGE,
    filters=frozenset({"Prefix", "State", "Node", "Cluster"}),
    collection_name="Blocks",
)
