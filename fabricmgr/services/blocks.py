"""Blocks of nodes: claimed, confirmed, given back, taken back. Whoever holds a block assigns in it, so its claim is the fence."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.addresses import Prefix, parse_prefix
from fabricmgr.domain.errors import HelloRequired, Invalid
from fabricmgr.domain.events import BlockWithdrawn
from fabricmgr.domain.names import network_name
from fabricmgr.domain.selectors import Kind, Subject
from fabricmgr.store import claims, kube_rows, places, pressure
from fabricmgr.store.claims import BlockRow
from fabricmgr.store.node_names import node_names
from fabricmgr.store.places import NetworkPlace, PoolPlace
from fabricmgr.store.tx import Tx

# A claim that its agent does not confirm for so long is withdrawn.
PENDING_LAPSE = timedelta(seconds=60)
MOST_BLOCKS = 1024  # of one family on one node


@dataclass(frozen=True)
class Back:
    """What came back from a node that is gone."""

    released: int
    blocks: int


async def wanted(tx: Tx, node: NodePrincipal, request: wire.BlocksWanted, now: datetime) -> wire.BlocksGranted:
    """Confirm, take what is given back, and claim until the node holds as many as it says. Repeating it changes nothing.

    A block or claim that is not the node's is passed over: the answer shows all blocks as they are. Raises HelloRequired, NodeIsGone,
    Unauthenticated, NotFound, Invalid."""
    await claims.lock_node(tx, node.node_id, node.name, node.serial)
    life = await claims.life_of(tx, node.node_id)
    if life is None or life.id != request.life:
        raise HelloRequired(node.name, "another life than this one said hello last")
    await claims.seen(tx, node.node_id, now)
    mine = {row.cidr: row for row in await claims.blocks_of(tx, node.node_id)}
    for held in request.confirm:
        await _confirm(tx, mine, held, now)
    for held in request.give_back:
        await _give_back(tx, mine, held, now)
    pressed = set(await pressure.pressed(tx, node.cluster, now))
    for want in request.wanted:
        pressed |= await _claim(tx, node, want, now)
    blocks = await claims.granted(tx, node.node_id)
    return wire.BlocksGranted(blocks=blocks, pressure=sorted(pressed), mark=await claims.mark(tx))


def _held(mine: Mapping[Prefix, BlockRow], held: wire.HeldBlock, *states: str) -> BlockRow | None:
    row = mine.get(parse_prefix(held.prefix))
    return row if row is not None and row.claim == held.claim and row.state in states else None


async def _confirm(tx: Tx, mine: Mapping[Prefix, BlockRow], held: wire.HeldBlock, now: datetime) -> None:
    row = _held(mine, held, "pending")
    if row is not None:
        await claims.move(tx, row, "confirmed", now)
        tx.wake()  # others lay a route to it


async def _give_back(tx: Tx, mine: Mapping[Prefix, BlockRow], held: wire.HeldBlock, now: datetime) -> None:
    """It rests once more by our own clock: the agent's may be wrong."""
    row = _held(mine, held, "pending", "confirmed", "releasing")
    if row is not None:
        await claims.move(tx, row, "releasing", now, least=held.generation, rests_until=now + row.cooldown)
        tx.wake()


async def _claim(tx: Tx, node: NodePrincipal, want: wire.WantedBlocks, now: datetime) -> set[str]:
    """Names of the pools in which there were too few."""
    if want.family not in (4, 6) or not 0 <= want.count <= MOST_BLOCKS:
        raise Invalid("wanted", f"{want.family}/{want.count}", f"family 4 or 6, and at most {MOST_BLOCKS} blocks")
    place = await places.network(tx, node.cluster, network_name(want.network))
    pools = place.of(want.family) if place.plain else await _selected(tx, node, place, want.family)
    have = await claims.claim(tx, node.node_id, [pool.id for pool in pools], want.family, want.count, now)
    return {pool.name for pool in pools} if have < want.count else set()


async def _selected(tx: Tx, node: NodePrincipal, place: NetworkPlace, family: int) -> tuple[PoolPlace, ...]:
    """Pools that a node of these labels may have blocks of: none that selects by namespace: any pod of the node gets them."""
    subject = Subject(Kind.NODE, node_labels=await kube_rows.node_labels(tx, place.cluster_id, node.name))
    return place.ordered(place.decide(subject))[family]


async def heartbeat(tx: Tx, node: NodePrincipal, now: datetime) -> None:
    """The node's agent was heard."""
    await claims.seen(tx, node.node_id, now)


async def withdraw_unconfirmed(tx: Tx, now: datetime) -> int:
    """Take back claims that were not confirmed for a minute. How many there were."""
    rows = await claims.unconfirmed(tx, now - PENDING_LAPSE)
    names = await node_names(tx, [row.node_id for row in rows if row.node_id is not None])
    for row in rows:
        await claims.move(tx, row, "unclaimed", now, anew=True, leaves=True)
        tx.emit(BlockWithdrawn(row.pool, str(row.cidr), names.get(row.node_id or 0, "")))
    return len(rows)


async def free_rested(tx: Tx, now: datetime) -> int:
    """Let others have blocks that were given back, are empty, and have rested by our clock. How many there were."""
    rows = await claims.rested(tx, now)
    for row in rows:
        await claims.move(tx, row, "unclaimed", now, anew=True, leaves=True)
        tx.wake()  # its node sees that it is gone, and others that the way there is
    return len(rows)


async def retire_central(tx: Tx, now: datetime) -> int:
    """Let nodes have central blocks again of which every address waits, rested. Looks at each central block: for a slow loop."""
    return await claims.retire_central(tx, now)


async def take_back(tx: Tx, node_id: int, by: str, reason: str, now: datetime) -> Back:
    """Everything of a node that was declared gone: its row must be locked, and its state keep its agent out from now on.

    Addresses and blocks rest for their pool's cooldown; generations go on far above what the node may have given out."""
    held = await claims.owned(tx, node_id)
    released = await claims.end(tx, [row.owner for row in held], by, reason, now)
    rows = await claims.blocks_of(tx, node_id)
    for row in rows:
        state = "held_back" if row.state == "held_back" else "unclaimed"
        await claims.move(tx, row, state, now, anew=True, forgotten=True, rests_until=now + row.cooldown, leaves=True)
    return Back(released, len(rows))
