"""Addresses of Services: which one a Service has, decided in one transaction with what is told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from uuid import UUID

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.errors import FabricError, NotFound, PoolExhausted, PoolRefused
from fabricmgr.domain.events import DomainEvent, ServiceAddressAssigned, ServiceAddressWithdrawn, ServicePending
from fabricmgr.domain.kube import POOL
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.owner import OwnerKind, owner_key
from fabricmgr.domain.selectors import decide, families_of
from fabricmgr.domain.service import SHARING, Asked, Wish, wish
from fabricmgr.problems import sentence
from fabricmgr.services import explain
from fabricmgr.services.service_leaving import Leaving, release
from fabricmgr.store import announce_rows, asked, cluster_rows, service_rows
from fabricmgr.store.announce_rows import Announcement
from fabricmgr.store.asked import Choice
from fabricmgr.store.places import PoolPlace
from fabricmgr.store.service_rows import Holding, ServiceRow
from fabricmgr.store.tx import Tx
from fabricmgr.store.writer_allocate import Want

PLACES = range(3)  # keys of one name: a new address is held beside the old one until the change is made


@dataclass(frozen=True)
class Shown:
    """A Service as the API server shows it. endpoints: Nodes that have a ready one, where that counts; None: they are not known yet."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    asked: Asked
    endpoints: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Settled:
    """What a Service has now. reason: why it has not what it wants; empty where it has. told: what is new.

    waits: until somebody speaks or fell silent (`service_leaving.going`). replaces: once its status shows these, the address it had is to
    fall silent (`leave`). announced: what becomes of the addresses that it has."""

    addresses: tuple[Address, ...]
    reason: str
    told: tuple[DomainEvent, ...] = ()
    waits: bool = False
    replaces: bool = False
    announced: tuple[Announcement, ...] = ()


@dataclass(frozen=True)
class _Desk:
    tx: Tx
    cluster_id: int
    cluster: ClusterName
    shown: Shown
    now: datetime


@dataclass(frozen=True)
class ServiceView:
    """A Service for people. announced: what becomes of its addresses."""

    row: ServiceRow
    held: tuple[Holding, ...]
    announced: Mapping[Address, Announcement]


async def every(tx: Tx, cluster: ClusterName, namespace: str = "") -> list[ServiceView]:
    """Those that want addresses of ours, by namespace and name. Raises NotFound (cluster)."""
    found = await cluster_rows.get(tx, cluster)
    return [await _view(tx, found.id, each) for each in await service_rows.every(tx, found.id, namespace)]


async def get(tx: Tx, cluster: ClusterName, namespace: str, name: str) -> ServiceView:
    """Raises NotFound."""
    found = await cluster_rows.get(tx, cluster)
    row = await service_rows.find(tx, found.id, namespace, name)
    if row is None:
        raise NotFound("Service", f"{namespace}/{name}")
    return await _view(tx, found.id, row)


async def _view(tx: Tx, cluster_id: int, row: ServiceRow) -> ServiceView:
    held = await service_rows.holding(tx, row.owner)
    shown = await announce_rows.shown(tx, cluster_id, [each.address for each in held])
    return ServiceView(row, tuple(held), {each.address: each for each in shown})


async def settle(tx: Tx, cluster_id: int, cluster: ClusterName, shown: Shown, now: datetime) -> Settled:
    """Give it what it wants, once. Where that is refused it keeps what it has, and the reason is told when it is another one."""
    await service_rows.lock(tx, cluster_id)
    desk = _Desk(tx, cluster_id, cluster, shown, now)
    before = await service_rows.find(tx, cluster_id, shown.namespace, shown.name) or ServiceRow(shown.namespace, shown.name, shown.uid)
    leaving = Leaving(tx, cluster_id, cluster, now)
    if before.former is not None and (stays := await leaving.moving(before)) is not None:
        held = await service_rows.holding(tx, before.former if stays.shows_former else before.owner)
        addresses = tuple(each.address for each in held)
        return Settled(addresses, "", waits=True, replaces=stays.ready, announced=await announce_rows.shown(tx, cluster_id, addresses))
    told = await leaving.left(before)
    settled = await _settled(desk, before if before.former is None else replace(before, former=None, state="assigned"))
    announced = await announce_rows.shown(tx, cluster_id, settled.addresses)
    return replace(settled, told=(*told, *settled.told), announced=announced)


async def _settled(desk: _Desk, before: ServiceRow) -> Settled:
    tx, shown = desk.tx, desk.shown
    held = await service_rows.holding(tx, before.owner)
    if before.owner is not None and not held:
        before = replace(before, owner=None)  # an administrator ended the allocation
    try:
        wanted = wish(shown.asked)
        async with tx.attempt():
            owner = await _owner(desk, wanted, before, held)
    except FabricError as error:
        return await _refused(desk, before, held, sentence(error))
    return await _assigned(desk, wanted, before, held, owner)


async def _refused(desk: _Desk, before: ServiceRow, held: Sequence[Holding], reason: str) -> Settled:
    told: tuple[DomainEvent, ...] = ()
    shown = desk.shown
    if reason != before.reason or shown.uid != before.uid or before.state == "withdrawing":
        told = (ServicePending(desk.cluster, shown.namespace, shown.name, reason),)
        desk.tx.emit(told[0])
        row = replace(before, uid=shown.uid, reason=reason, state="assigned" if held else "pending")
        await service_rows.put(desk.tx, desk.cluster_id, row)
    return Settled(tuple(each.address for each in held), reason, told)


async def _assigned(desk: _Desk, wanted: Wish, before: ServiceRow, held: Sequence[Holding], owner: UUID) -> Settled:
    tx, has = desk.tx, await service_rows.holding(desk.tx, owner)
    names = (desk.cluster, desk.shown.namespace, desk.shown.name)
    row = _row(desk, wanted, before, owner)
    moves = False
    if owner != before.owner and before.owner is not None:
        moves = await Leaving(tx, desk.cluster_id, desk.cluster, desk.now).must_fall_silent(names[1:], before.owner)
        row = replace(row, state="moving", former=before.owner) if moves else row
    if row != before:
        await service_rows.put(tx, desk.cluster_id, row)
        await announce_rows.wake(tx)
    await announce_rows.announce(tx, desk.cluster_id, [each.address for each in has])
    if owner != before.owner and not moves:
        await release(tx, before.owner, desk.now)
    new = [ServiceAddressAssigned(*names, str(each.address), each.pool) for each in has if each not in held]
    old = [ServiceAddressWithdrawn(*names, str(each.address), each.pool) for each in held if each not in has and not moves]
    for event in (*new, *old):
        tx.emit(event)
    shows = held if moves else has
    return Settled(tuple(each.address for each in shows), "", (*new, *old), waits=moves)


def _row(desk: _Desk, wanted: Wish, before: ServiceRow, owner: UUID) -> ServiceRow:
    shown = desk.shown
    said = {"families": list(wanted.families), "addresses": [str(each) for each in wanted.addresses]}
    said |= {"pool": wanted.pool, "traffic": wanted.traffic}
    since = before.assigned_at if owner == before.owner and before.assigned_at else desk.now
    endpoints = before.endpoints if shown.endpoints is None else shown.endpoints
    names = (shown.namespace, shown.name, shown.uid)
    return ServiceRow(*names, owner, wanted.sharing_key, wanted.ports, "assigned", "", said, since, endpoints)


async def _owner(desk: _Desk, wanted: Wish, before: ServiceRow, held: Sequence[Holding]) -> UUID:
    """The allocation that it is to use: its own, one that it shares, or a new one. Raises what stands in the way."""
    others = [each for each in await _sharers(desk, wanted) if each.name != desk.shown.name]
    if before.owner is not None and before.sharing_key == wanted.sharing_key and fits(wanted, held):
        may_share(wanted, [each for each in others if each.owner == before.owner])
        await _second(desk, wanted, before.owner, held)
        return before.owner
    for owner in dict.fromkeys(each.owner for each in others if each.owner is not None):
        if fits(wanted, await service_rows.holding(desk.tx, owner)):
            may_share(wanted, [each for each in others if each.owner == owner])
            return owner
    return await _new(desk, wanted)


def fits(wanted: Wish, held: Sequence[Holding]) -> bool:
    """A pool that was changed since takes nothing away; another one that is named by now does."""
    return wanted.met_by(each.address for each in held) and (not wanted.pool or wanted.pool in {each.pool for each in held})


async def _sharers(desk: _Desk, wanted: Wish) -> list[ServiceRow]:
    if not wanted.sharing_key:
        return []
    return await service_rows.sharing(desk.tx, desk.cluster_id, desk.shown.namespace, wanted.sharing_key)


def may_share(wanted: Wish, others: Sequence[ServiceRow]) -> None:
    """Raises PoolRefused."""
    for each in others:
        if clash := wanted.clash(each.ports, str(each.wanted.get("traffic", ""))):
            who = f"Service {each.namespace}/{each.name}"
            raise PoolRefused(f"annotation {SHARING}", f"{wanted.sharing_key!r} leads to the address of {who}: {clash}")


# --- a new one ---------------------------------------------------------------------------------------------------------------


def owner_name(namespace: str, name: str, sharing_key: str) -> str:
    """Whose allocation a Service uses: its own, or that of all that share with it."""
    return f"{namespace} sharing {sharing_key}" if sharing_key else f"{namespace}/{name}"


def keys(cluster: ClusterName, owner: str) -> tuple[UUID, ...]:
    """Of its allocations, one of which is used at a time."""
    return tuple(owner_key(OwnerKind.SERVICE, cluster, owner, str(place)) for place in PLACES)


def _wants(desk: _Desk, wanted: Wish) -> list[Want]:
    name = owner_name(desk.shown.namespace, desk.shown.name, wanted.sharing_key)
    kind = OwnerKind.SERVICE.value
    return [Want(key, kind, f"Service {name}", desk.cluster_id, name=name, actor="Services") for key in keys(desk.cluster, name)]


def where(wanted: Wish) -> str:
    """Where addresses that it asks for must lie."""
    return f"pool {wanted.pool!r}, which annotation {POOL} names" if wanted.pool else "the pools that it may have addresses of"


async def _pools(desk: _Desk, wanted: Wish) -> dict[int, tuple[PoolPlace, ...]]:
    """By family: those to ask, first first. Raises PoolRefused."""
    shown = desk.shown
    subject = await explain.service_subject(desk.tx, desk.cluster, shown.namespace, shown.labels, shown.asked.annotations)
    known = {str(each.name): each for each in await explain.service_pools(desk.tx, desk.cluster)}
    decision = decide(subject, [each.candidate() for each in known.values()])
    if decision.refused:
        raise PoolRefused(f"Service {shown.namespace}/{shown.name}", decision.refused)
    families = {name: each.candidate().families for name, each in known.items()}
    by_family = families_of(decision, families, wanted.pool)
    places = {name: PoolPlace(each.id, name, None, each.scope, families[name]) for name, each in known.items()}
    return {family: tuple(places[name] for name in names) for family, names in by_family.items()}


async def _new(desk: _Desk, wanted: Wish) -> UUID:
    pools = await _pools(desk, wanted)
    want = await _free_name(desk, wanted)
    whole = all(pools[family] for family in wanted.families)
    try:
        await _take(desk, want, wanted, wanted.families if whole else wanted.needed, pools)
    except PoolExhausted:
        if not wanted.optional:
            raise
        await _take(desk, want, wanted, wanted.needed, pools)
    return want.owner


async def _free_name(desk: _Desk, wanted: Wish) -> Want:
    for want in _wants(desk, wanted):
        if not await service_rows.holding(desk.tx, want.owner):
            return want
    raise PoolRefused(f"Service {desk.shown.namespace}/{desk.shown.name}", "its name is held by other allocations")


async def _take(desk: _Desk, want: Want, wanted: Wish, families: Sequence[int], pools: Mapping[int, tuple[PoolPlace, ...]]) -> None:
    """Those asked for; else the former ones where nobody has them, rested or not; else any, of the first pools that have some."""
    if missing := [family for family in families if not pools[family]]:
        raise PoolExhausted(want.label, f"IPv{missing[0]}", "no pool for Services that it may use has a prefix of that family")
    ordered = tuple(sorted(families))
    mine = frozenset(each.owner for each in _wants(desk, wanted))
    if wanted.addresses:
        await asked.assign(desk.tx, want, Choice(ordered, wanted.addresses, pools, where(wanted), mine), desk.now)
        return
    former = tuple(each for each in await service_rows.former(desk.tx, mine) if each.version in families)
    if former and await _tried(desk, want, Choice(ordered, former, pools, want.label, mine)) is None:
        return
    refused: FabricError | None = None
    for combination in product(*(pools[family] for family in ordered)):
        one = {family: (pool,) for family, pool in zip(ordered, combination, strict=True)}
        refused = await _tried(desk, want, Choice(ordered, (), one, want.label))
        if refused is None:
            return
        if not isinstance(refused, PoolExhausted):
            break
    if refused is not None:
        raise refused


async def _tried(desk: _Desk, want: Want, choice: Choice) -> FabricError | None:
    try:
        async with desk.tx.attempt():
            await asked.assign_any(desk.tx, want, choice, desk.now)
    except FabricError as error:
        return error
    return None


async def _second(desk: _Desk, wanted: Wish, owner: UUID, held: Sequence[Holding]) -> None:
    """The family that may be missing, when it comes. Nothing stands still for it."""
    missing = set(wanted.optional) - {each.address.version for each in held}
    mine = [want for want in _wants(desk, wanted) if want.owner == owner]
    if not missing or not mine:
        return
    try:
        pools = await _pools(desk, wanted)
        async with desk.tx.attempt():
            await asked.add_families(desk.tx, mine[0], Choice(tuple(missing), (), pools, mine[0].label), desk.now)
    except FabricError:
        return
