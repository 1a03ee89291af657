"""Addresses that a StatefulSet's ordinal keeps: its next pod has those of the one before it, whatever happened in between.

While there is no pod the place holds them itself, so that nobody else gets them; when the set is gone, or scaled below, they rest like any
other's.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.errors import (
    AddressCooling,
    AddressHeld,
    AddressInNodeBlock,
    AddressInTransition,
    AddressOfFormer,
    AddressOutside,
    AddressReserved,
    NotFound,
    PoolExhausted,
)
from fabricmgr.domain.kube import STICKY
from fabricmgr.domain.names import ClusterName, NetworkName
from fabricmgr.domain.owner import OwnerKind, SetPlace
from fabricmgr.services.kube_pods import Who
from fabricmgr.store import asked, places, sticky_rows
from fabricmgr.store.asked import Choice
from fabricmgr.store.sticky_rows import StickyRow
from fabricmgr.store.tx import Tx
from fabricmgr.store.writer_allocate import Given, Taken, Want

ACTOR = "StatefulSets"
LARGEST_ORDINAL = 2**31 - 1
# A place whose address went to somebody else, or cannot be had any more, gets another one.
_LOST = (AddressCooling, AddressHeld, AddressInNodeBlock, AddressOutside, AddressReserved, PoolExhausted)


def place_of(cluster: ClusterName, network: NetworkName, who: Who) -> SetPlace | None:
    """Where a pod keeps its addresses: one of a StatefulSet whose annotation asks for it, in a namespace whose pods may ask."""
    pod = who.pod
    if pod is None or not who.chooses or pod.owner_kind != "StatefulSet" or pod.annotations.get(STICKY) != "true":
        return None
    found = re.fullmatch(rf"{re.escape(pod.owner_name)}-(\d{{1,10}})", pod.name)
    if found is None or int(found[1]) > LARGEST_ORDINAL:
        return None
    return SetPlace(cluster, pod.namespace, pod.owner_name, int(found[1]), network)


async def again(tx: Tx, want: Want, choice: Choice, place: SetPlace, now: datetime) -> Taken | None:
    """What the place has, for its next pod. None where it has nothing yet, or nothing that can be had.

    Raises AddressOfFormer while the former pod, or a link of it, is there; AddressInTransition; NodeIsGone, OwnerKeyClash."""
    held = await asked.find(tx, want)
    row = await sticky_rows.find(tx, place)
    if held is not None or row is None:
        return held
    wanted = choice.addresses or tuple(each for each in row.addresses if each.version in choice.families)
    if not wanted:
        return None
    await sticky_rows.release(tx, [place], now)
    try:
        async with tx.attempt():
            return await asked.assign(tx, want, _returning(choice, row, wanted), now)
    except _LOST as error:
        if choice.addresses:
            raise  # what a pod itself asks for is not replaced by another one
        if isinstance(error, AddressHeld) and await sticky_rows.holds(tx, row.owner):
            raise AddressOfFormer(error.address, str(place)) from None
        return None


def _returning(choice: Choice, row: StickyRow, addresses: tuple[Address, ...]) -> Choice:
    return replace(choice, addresses=addresses, returning=frozenset({row.place.key, row.owner}))


async def remember(tx: Tx, want: Want, place: SetPlace, taken: Taken, now: datetime) -> None:
    """From now on these are the place's."""
    row = StickyRow(place, _address(taken.v4), _address(taken.v6), want.owner)
    if want.cluster_id is None or await sticky_rows.find(tx, place) == row:
        return
    await sticky_rows.release(tx, [place], now)
    await sticky_rows.put(tx, want.cluster_id, row)


def _address(given: Given | None) -> Address | None:
    return None if given is None else given.address


# --- while there is no pod -------------------------------------------------------------------------------------------------


async def keep(tx: Tx, cluster_id: int, now: datetime) -> int:
    """Let places hold what their pods gave back. How many began to."""
    kept = 0
    for row in await sticky_rows.unheld(tx, cluster_id):
        try:
            async with tx.attempt():
                await _hold(tx, cluster_id, row, now)
                kept += 1
        except AddressInTransition:
            continue
        except (*_LOST, NotFound):
            await sticky_rows.delete(tx, [row.place])
    return kept


async def _hold(tx: Tx, cluster_id: int, row: StickyRow, now: datetime) -> None:
    place = row.place
    network = await places.network(tx, place.cluster, place.network)
    families = tuple(sorted(each.version for each in row.addresses))
    pools: Mapping[int, Sequence[places.PoolPlace]] = {family: network.of(family) for family in (4, 6)}
    choice = Choice(families, (), pools, f"network {place.network}")
    want = Want(place.key, OwnerKind.STATEFULSET.value, str(place), cluster_id, network=place.network, name=str(place), actor=ACTOR)
    await asked.assign(tx, want, _returning(choice, row, row.addresses), now)


async def forget(tx: Tx, gone: Sequence[SetPlace], now: datetime) -> None:
    """Places that are no more: what they hold rests, what a pod of theirs still has is given back with it."""
    await sticky_rows.release(tx, gone, now)
    await sticky_rows.delete(tx, gone)
