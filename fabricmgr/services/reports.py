"""Reports of agents: what they assigned, released, and saw gone, in numbered batches."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.addresses import parse_address, parse_prefix
from fabricmgr.domain.errors import HelloRequired, Invalid, NodeIsGone, ReportGap, Unauthenticated
from fabricmgr.domain.names import container_id, interface_name, network_name
from fabricmgr.domain.owner import Attachment
from fabricmgr.domain.times import by_our_clock, instant
from fabricmgr.metrics import REPORTED_CHANGES, REPORTS
from fabricmgr.services.attachments import LARGEST_GENERATION, about
from fabricmgr.store.pressure import Pressure
from fabricmgr.store.writer import Writer
from fabricmgr.store.writer_report import Outcome, Reported, ReportedChange, Spot, Verdict

LARGEST_CLAIM = 2**31 - 1


@dataclass(frozen=True)
class Inbox:
    """What taking reports needs: the lane, and which pools have no blocks left."""

    writer: Writer
    pressure: Pressure


async def report(inbox: Inbox, node: NodePrincipal, batch: wire.Report, now: datetime) -> wire.Acknowledged:
    """Apply it once, and say up to which one all took effect.

    Raises HelloRequired for another life, ReportGap where one is missing, NodeIsGone, Unauthenticated for a certificate revoked by now,
    Invalid for what cannot be read."""
    verdict = await inbox.writer.report(_read(node, batch, now))
    REPORTS.labels(verdict.outcome.value).inc()
    _refuse(node, batch, verdict)
    if verdict.outcome is Outcome.APPLIED:
        _count(batch.changes)
    pressure = await inbox.pressure.of(node.cluster)
    return wire.Acknowledged(number=verdict.last_number, mark=verdict.mark, pressure=list(pressure))


def _refuse(node: NodePrincipal, batch: wire.Report, verdict: Verdict) -> None:
    if verdict.outcome is Outcome.GONE:
        raise NodeIsGone(node.name)
    if verdict.outcome is Outcome.REVOKED:
        raise Unauthenticated("the certificate was revoked")
    if verdict.outcome is Outcome.HELLO:
        raise HelloRequired(node.name, "the report is of another life than the one that said hello last")
    if verdict.outcome is Outcome.GAP:
        raise ReportGap(node.name, batch.number, verdict.last_number + 1)


def _count(changes: Sequence[wire.Change]) -> None:
    for kind in wire.ChangeKind:
        count = sum(change.kind is kind for change in changes)
        if count:
            REPORTED_CHANGES.labels(kind.value).inc(count)


def _read(node: NodePrincipal, batch: wire.Report, now: datetime) -> Reported:
    if len(batch.changes) > wire.MAX_REPORT_CHANGES:
        raise Invalid("changes", len(batch.changes), f"at most {wire.MAX_REPORT_CHANGES} of them")
    if not 1 <= batch.number <= LARGEST_GENERATION:
        raise Invalid("number", batch.number, "a number from 1")
    age = min(max(batch.age_ms, 0), LARGEST_CLAIM)
    times = by_our_clock([instant(change.owned.at) for change in batch.changes], timedelta(milliseconds=age), now)
    changes = tuple(_change(node, change, at) for change, at in zip(batch.changes, times, strict=True))
    return Reported(node.node_id, node.serial, batch.life, batch.number, changes, age, json.dumps(batch.free))


def _change(node: NodePrincipal, change: wire.Change, at: datetime) -> ReportedChange:
    owned = change.owned
    owner = attachment_of(node, owned)
    spots = spots_of(owned.addresses)
    return ReportedChange(
        change.kind.value,
        owner.key,
        owner.network,
        owner.container,
        owner.ifname,
        at,
        spots.get(4),
        spots.get(6),
        owned.mac,
        about(owned),
        change.reason,
    )


def attachment_of(node: NodePrincipal, owned: wire.Owned) -> Attachment:
    """Raises Invalid."""
    return Attachment(node.cluster, node.name, network_name(owned.network), container_id(owned.container), interface_name(owned.ifname))


def spots_of(addresses: Sequence[wire.BlockAddress]) -> dict[int, Spot]:
    """By family. Raises Invalid."""
    spots: dict[int, Spot] = {}
    for each in addresses:
        address = parse_address(each.address)
        if address.version in spots:
            raise Invalid("addresses", each.address, "one address of each family")
        if not (0 <= each.generation <= LARGEST_GENERATION and 0 <= each.claim <= LARGEST_CLAIM):
            raise Invalid("addresses", each.address, "a generation and a claim that came from here")
        spots[address.version] = Spot(address, each.generation, None if each.block is None else parse_prefix(each.block), each.claim)
    return spots
