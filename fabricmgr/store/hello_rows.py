"""What an agent's hello shows, written into our copy."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, DateTime, Integer, Text, bindparam, text
from sqlalchemy.dialects.postgresql import CIDR, INET, JSONB, UUID
from sqlalchemy.types import TypeEngine

from fabricmgr.domain.addresses import Address
from fabricmgr.store.tx import Tx
from fabricmgr.store.writer_report import ReportedChange, Spot

_SPOT_TYPES: tuple[tuple[str, type[TypeEngine[Any]]], ...] = (("a", INET), ("g", BigInteger), ("b", CIDR), ("c", Integer))
_TYPES: dict[str, TypeEngine[Any]] = {
    "now": DateTime(timezone=True),
    "todo": ARRAY(Integer),
    "reporters": ARRAY(Integer),
    "rs": ARRAY(Integer),
    "owners": ARRAY(UUID),
    **{name: ARRAY(Text) for name in ("networks", "containers", "ifnames", "macs")},
    "abouts": ARRAY(JSONB),
    "ats": ARRAY(DateTime(timezone=True)),
    "reasons": ARRAY(Text),
    **{f"{name}{family}": ARRAY(kind) for family in (4, 6) for name, kind in _SPOT_TYPES},
}
_ASSIGNED = text(f"select report_assigned_2({', '.join(f':{name}' for name in _TYPES)})")
_RELEASED_NAMES = ("now", "todo", "reporters", "rs", "owners", "ats", "reasons", "a4", "g4", "a6", "g6")
_RELEASED = text(f"select report_released_2({', '.join(f':{name}' for name in _RELEASED_NAMES)})")
_TOLD = text("select told_at from report where node_id = :node")


async def show(tx: Tx, node_id: int, shown: Sequence[ReportedChange], now: datetime) -> None:
    """Make our copy of a node's blocks agree with what its agent holds. What is released stays taken until its link is gone."""
    if not shown:
        return
    told: datetime | None = await tx.value(_TOLD, {"node": node_id})
    # Not before what its history tells already.
    ordered = [each if told is None else replace(each, at=max(each.at, told)) for each in sorted(shown, key=lambda each: each.owner)]
    columns = _columns(node_id, ordered) | {"now": now}
    await tx.all(_ASSIGNED.bindparams(*(bindparam(name, type_=kind) for name, kind in _TYPES.items())), columns)
    columns["todo"] = [place for place, each in enumerate(ordered, 1) if each.what == "released"]
    if columns["todo"]:
        types = (bindparam(name, type_=_TYPES[name]) for name in _RELEASED_NAMES)
        await tx.all(_RELEASED.bindparams(*types), {name: columns[name] for name in _RELEASED_NAMES})


def _columns(node_id: int, shown: Sequence[ReportedChange]) -> dict[str, object]:
    return {
        "todo": list(range(1, len(shown) + 1)),
        "reporters": [node_id],
        "rs": [1] * len(shown),
        "owners": [each.owner for each in shown],
        "networks": [each.network for each in shown],
        "containers": [each.container for each in shown],
        "ifnames": [each.ifname for each in shown],
        "macs": [each.mac for each in shown],
        "reasons": [each.reason for each in shown],
        "abouts": [json.loads(each.about) for each in shown],
        "ats": [each.at for each in shown],
        **_spots(4, [each.v4 for each in shown]),
        **_spots(6, [each.v6 for each in shown]),
    }


def _spots(family: int, spots: Sequence[Spot | None]) -> dict[str, object]:
    return {
        f"a{family}": [None if spot is None else spot.address for spot in spots],
        f"g{family}": [None if spot is None else spot.generation for spot in spots],
        f"b{family}": [None if spot is None else spot.block for spot in spots],
        f"c{family}": [None if spot is None else spot.claim for spot in spots],
    }


_CENTRAL = text("select owner, address4, generation4, address6, generation6 from allocation where owner = any (:owners)").bindparams(
    bindparam("owners", type_=ARRAY(UUID))
)


async def known(tx: Tx, owners: Sequence[uuid.UUID]) -> dict[uuid.UUID, frozenset[Address]]:
    """What our copy says these owners hold."""
    rows = await tx.all(_CENTRAL, {"owners": list(owners)})
    return {row.owner: frozenset(each for each in (row.address4, row.address6) if each is not None) for row in rows}


_GENERATION = {
    family: text(f"update allocation set generation{family} = :generation where owner = :owner and address{family} = :address").bindparams(
        bindparam("owner", type_=UUID), bindparam("address", type_=INET), bindparam("generation", type_=BigInteger)
    )
    for family in (4, 6)
}


async def set_generation(tx: Tx, owner: uuid.UUID, spot: Spot) -> None:
    """The one that its agent will quote when it releases."""
    asked = {"owner": owner, "address": spot.address, "generation": spot.generation}
    await tx.change(_GENERATION[spot.address.version], asked)
