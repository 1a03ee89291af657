"""A life of an agent begins: what its journal and kernel show is set beside what we believed.

Inside a block that a node holds, its agent is the truth. Which blocks it holds is ours to say, except where the agent has seen more of this
database's past than the database itself has: a standby that was promoted too early, or a backup."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.addresses import Prefix, parse_address, parse_prefix
from fabricmgr.domain.errors import FabricError, Invalid, LifeRefused, MachineRefused
from fabricmgr.domain.events import AddressConflictDetected, BlockHeldBack
from fabricmgr.domain.names import network_name
from fabricmgr.domain.times import ago, instant
from fabricmgr.services.attachments import LARGEST_GENERATION, about
from fabricmgr.services.reports import LARGEST_CLAIM, attachment_of, spots_of
from fabricmgr.store import asked, claims, hello_rows, places
from fabricmgr.store.asked import Choice
from fabricmgr.store.claims import BlockRow, Life
from fabricmgr.store.mark import is_past
from fabricmgr.store.tx import Tx
from fabricmgr.store.writer_allocate import Want
from fabricmgr.store.writer_report import ReportedChange, Spot

MOST_FAULTS, LONGEST_FAULT = 16, 300  # that are kept of what an agent finds wrong


@dataclass
class _Findings:
    """What the agent must hear: blocks that are its no more, addresses that another owner holds."""

    lost: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


async def hello(tx: Tx, node: NodePrincipal, said: wire.Hello, now: datetime) -> wire.Welcome:
    """Set our copy by what the agent shows, and tell it what it holds. Saying it again changes nothing more.

    Raises NodeIsGone, Unauthenticated, MachineRefused for a cloned image, LifeRefused while another life's heartbeat lives, Invalid."""
    seen_at = await claims.lock_node(tx, node.node_id, node.name, node.serial)
    before = await claims.life_of(tx, node.node_id)
    _check(node, said, before, seen_at, now)
    same_life = before is not None and before.id == said.life
    found = _Findings()
    here = await claims.mark(tx)
    await _blocks(tx, node, said, found, now, newer=not is_past(said.mark, here))
    await _attachments(tx, node, said, found, now, keep_aside=same_life)
    last = max(said.last_number, before.last_number if before is not None and same_life else 0)
    await claims.begin_life(tx, node.node_id, Life(said.life, said.boot_id, last), now)
    await _describe(tx, node, said, now)
    blocks = await claims.granted(tx, node.node_id)
    return wire.Welcome(
        node=node.name,
        cluster=node.cluster,
        last_number=last,
        blocks=blocks,
        lost=found.lost,
        conflicts=found.conflicts,
        mark=here,
        now=now,
    )


def _check(node: NodePrincipal, said: wire.Hello, before: Life | None, seen_at: datetime | None, now: datetime) -> None:
    if said.machine_id != node.machine_id:
        raise MachineRefused(node.name, said.machine_id, node.machine_id)
    if not 0 <= said.last_number <= LARGEST_GENERATION:
        raise Invalid("last_number", said.last_number, "the number of a report")
    if before is None or before.id == said.life or seen_at is None:
        return
    silent = (now - seen_at).total_seconds()
    if silent < wire.HEARTBEAT_LAPSE:
        raise LifeRefused(node.name, f"life {before.id}", max(0, int(silent)))


async def _describe(tx: Tx, node: NodePrincipal, said: wire.Hello, now: datetime) -> None:
    addresses = [parse_address(each) for each in said.addresses]
    interfaces = [msgspec.to_builtins(each) for each in said.interfaces]
    faults = [each[:LONGEST_FAULT] for each in said.faults[:MOST_FAULTS]]
    await claims.describe(tx, node.node_id, said.agent_version, addresses, interfaces, faults, now)
    tx.wake()  # the way to its blocks may be another one now


# --- blocks --------------------------------------------------------------------------------------------------------------


async def _blocks(tx: Tx, node: NodePrincipal, said: wire.Hello, found: _Findings, now: datetime, *, newer: bool) -> None:
    named = {} if said.journal_lost else {parse_prefix(each.prefix): each for each in said.blocks}
    for held in named.values():
        if not (0 <= held.claim <= LARGEST_CLAIM and 0 <= held.generation <= LARGEST_GENERATION):
            raise Invalid("blocks", held.prefix, "a claim and a generation that came from here")
    for row in await claims.blocks_of(tx, node.node_id):
        if row.cidr not in named and row.state in ("confirmed", "releasing"):
            await _forgotten(tx, row, now)
    rows = await claims.blocks_named(tx, list(named))
    for cidr in sorted(named, key=lambda each: (each.version, each)):
        await _named(tx, node, cidr, named[cidr], rows, found, now, newer=newer)


async def _forgotten(tx: Tx, row: BlockRow, now: datetime) -> None:
    """The journal that knew what was given out of it is lost: it stays the node's, under another claim, and rests."""
    await claims.move(tx, row, row.state, now, anew=True, forgotten=True, rests_until=now + row.cooldown)


async def _named(
    tx: Tx,
    node: NodePrincipal,
    cidr: Prefix,
    held: wire.HeldBlock,
    rows: Mapping[Prefix, BlockRow],
    found: _Findings,
    now: datetime,
    *,
    newer: bool,
) -> None:
    row = rows.get(cidr) or (await claims.room_for(tx, node.node_id, cidr) if newer else None)
    if row is None:
        found.lost.append(str(cidr))
    elif row.node_id == node.node_id and row.claim == held.claim:
        await claims.move(tx, row, row.state, now, least=held.generation) if row.state != "pending" else None
    elif row.node_id == node.node_id and row.claim > held.claim:
        return  # its new claim stands in the answer
    elif newer and row.claim < held.claim and (row.state == "unclaimed" or row.node_id == node.node_id):
        await claims.adopt(tx, node.node_id, row, held.claim, held.generation, now)
    else:
        found.lost.append(str(cidr))
        if newer and row.claim <= held.claim:
            await _hold_back(tx, node, row, now)


async def _hold_back(tx: Tx, node: NodePrincipal, row: BlockRow, now: datetime) -> None:
    """Two believe that they hold it, and both may have given out its addresses: nobody does from now on."""
    reason = f"node {node.name} holds it too, by a claim that this database does not know"
    await claims.move(tx, row, "held_back", now)
    tx.emit(BlockHeldBack(row.pool, str(row.cidr), node.name, reason))


# --- attachments ---------------------------------------------------------------------------------------------------------


async def _attachments(tx: Tx, node: NodePrincipal, said: wire.Hello, found: _Findings, now: datetime, *, keep_aside: bool) -> None:
    said_at = None if said.now is None else instant(said.now, "now")
    shown = [_shown(node, each, now if said_at is None else ago(now, said_at - instant(each.at))) for each in said.attachments]
    keys = {each.owner for each in shown}
    gone = [
        row.owner
        for row in await claims.owned(tx, node.node_id)
        if row.owner not in keys and not (keep_aside and row.released_at is not None)
    ]
    await claims.end(tx, gone, f"node {node.cluster}/{node.name}", "neither journal nor kernel shows it", now)
    for each in shown:
        await _central(tx, node, each, found, now)
    await hello_rows.show(tx, node.node_id, [each for each in shown if _in_block(each)], now)


def _shown(node: NodePrincipal, owned: wire.Owned, at: datetime) -> ReportedChange:
    owner = attachment_of(node, owned)
    spots = spots_of(owned.addresses)
    what = "released" if owned.released else "assigned"
    key, mac = owner.key, owned.mac
    return ReportedChange(what, key, owner.network, owner.container, owner.ifname, at, spots.get(4), spots.get(6), mac, about(owned))


def _in_block(shown: ReportedChange) -> bool:
    return any(spot is not None and spot.block is not None for spot in (shown.v4, shown.v6))


async def _central(tx: Tx, node: NodePrincipal, shown: ReportedChange, found: _Findings, now: datetime) -> None:
    """Addresses that the manager assigned and the journal has. One that our copy lost is assigned anew; another's is a conflict."""
    spots = [spot for spot in (shown.v4, shown.v6) if spot is not None and spot.block is None]
    if not spots:
        return
    held = (await hello_rows.known(tx, [shown.owner])).get(shown.owner, frozenset())
    missing = [spot for spot in spots if spot.address not in held]
    if held and missing:
        found.conflicts += [str(spot.address) for spot in missing]
    elif missing:
        await _adopt_central(tx, node, shown, missing, found, now)


async def _adopt_central(
    tx: Tx, node: NodePrincipal, shown: ReportedChange, spots: Sequence[Spot], found: _Findings, now: datetime
) -> None:
    place = await places.network(tx, node.cluster, network_name(shown.network))
    label = f"container {shown.container} interface {shown.ifname} network {shown.network} node {node.name}"
    want = Want(
        shown.owner,
        "attachment",
        label,
        place.cluster_id,
        node.node_id,
        node.name,
        shown.network,
        shown.container,
        shown.ifname,
        mac=shown.mac or None,
        about=shown.about,
        actor=f"node {node.cluster}/{node.name}",
    )
    addresses = tuple(spot.address for spot in spots)
    pools = {family: place.of(family) for family in (4, 6)}
    choice = Choice(tuple(each.version for each in addresses), addresses, pools, f"network {shown.network}")
    try:
        async with tx.connection.begin_nested():
            await asked.assign(tx, want, choice, now)
    except FabricError as error:
        found.conflicts += [str(address) for address in addresses]
        for address in addresses:
            tx.emit(AddressConflictDetected(str(address), type(error).__name__, label))
        return
    for spot in spots:
        await hello_rows.set_generation(tx, shown.owner, spot)
