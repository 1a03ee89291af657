"""/v1/pools: pools, their prefixes, reservations, blocks and use."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Called, Paging, gone
from fabricmgr.domain.addresses import Prefix, parse_address, parse_prefix
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.names import cluster_name, pool_name
from fabricmgr.domain.pool import (
    CRITICAL,
    LARGEST_SCOPE,
    WARNING,
    Pool,
    PoolBlock,
    PoolChange,
    PoolDraft,
    PoolFilter,
    PoolPrefix,
    PrefixDraft,
    Purpose,
    ReservationDraft,
    Usage,
    purpose,
)
from fabricmgr.domain.selectors import Selectors, to_json
from fabricmgr.domain.selectors import parse as parse_selectors
from fabricmgr.services import pools

router = APIRouter(tags=["pools"])
# What Postgres's interval and timedelta hold without a word; the domain's own limit is far lower.
_MOST_SECONDS = 10**9


class PrefixCreate(Model):
    """block_length: of the blocks that nodes claim. central: nodes claim none. gateway: kept out."""

    prefix: str
    block_length: int | None = None
    central: bool = False
    gateway: str | None = None

    def draft(self, where: str = "") -> PrefixDraft:
        """Raises Invalid."""
        cidr = parse_prefix(self.prefix, f"{where}prefix")
        gateway = None if self.gateway is None else parse_address(self.gateway, f"{where}gateway")
        return PrefixDraft(cidr, self.block_length, self.central, gateway)


class ReservationCreate(Model):
    prefix: str
    reason: str = "reserved"

    def draft(self, where: str = "") -> ReservationDraft:
        """Raises Invalid."""
        return ReservationDraft(parse_prefix(self.prefix, f"{where}prefix"), _reason(self.reason, where))


class SelectorsBody(Model):
    """Who may have addresses: all that is given must match. Labels: key and the values that fit; none, that the label is there."""

    namespaces: list[str] = Field(default_factory=list)
    namespace_labels: dict[str, list[str]] = Field(default_factory=dict)
    node_labels: dict[str, list[str]] = Field(default_factory=dict)
    services: dict[str, list[str]] = Field(default_factory=dict)

    def parsed(self) -> Selectors:
        """Raises Invalid."""
        return parse_selectors(self.model_dump())


class PoolCreate(Model):
    name: str
    prefixes: list[PrefixCreate] = Field(default_factory=list)
    purpose: str = Purpose.POD.value
    cluster: str | None = None
    scope: int = 0
    cooldown_seconds: float | int = 60.0
    skip_ends: bool = True
    reuse_early: bool = False
    reservations: list[ReservationCreate] = Field(default_factory=list)
    warning: int = WARNING
    critical: int = CRITICAL
    selectors: SelectorsBody = Field(default_factory=SelectorsBody)
    priority: int = 0
    auto_assign: bool = True


class PoolPatch(Model):
    cooldown_seconds: float | int | None = None
    skip_ends: bool | None = None
    reuse_early: bool | None = None
    draining: bool | None = None
    warning: int | None = None
    critical: int | None = None
    selectors: SelectorsBody | None = None
    priority: int | None = None
    auto_assign: bool | None = None


class ReservationView(View):
    prefix: str
    reason: str
    at: datetime


class PrefixView(View):
    prefix: str
    block_length: int
    central: bool
    gateway: str | None
    created_at: datetime
    reservations: list[ReservationView]

    @classmethod
    def of(cls, found: PoolPrefix) -> "PrefixView":
        kept = [ReservationView(prefix=str(each.cidr), reason=each.reason, at=each.at) for each in found.reservations]
        return cls(
            prefix=str(found.cidr),
            block_length=found.block_length,
            central=found.central,
            gateway=None if found.gateway is None else str(found.gateway),
            created_at=found.created_at,
            reservations=kept,
        )


class PoolView(View):
    name: str
    cluster: str | None
    scope: int
    purpose: str
    cooldown_seconds: float
    skip_ends: bool
    reuse_early: bool
    draining: bool
    warning: int
    critical: int
    selectors: SelectorsBody
    priority: int
    auto_assign: bool
    prefixes: list[PrefixView]
    created_at: datetime
    version: int

    @classmethod
    def of(cls, found: Pool) -> "PoolView":
        return cls(
            name=found.name,
            cluster=found.cluster,
            scope=found.scope,
            purpose=found.purpose.value,
            cooldown_seconds=found.cooldown.total_seconds(),
            skip_ends=found.skip_ends,
            reuse_early=found.reuse_early,
            draining=found.draining,
            warning=found.warning,
            critical=found.critical,
            selectors=SelectorsBody.model_validate(to_json(found.selectors)),
            priority=found.priority,
            auto_assign=found.auto_assign,
            prefixes=[PrefixView.of(each) for each in found.prefixes],
            created_at=found.created_at,
            version=found.version,
        )


class PoolPage(View):
    items: list[PoolView]
    next: str | None


class UsageView(View):
    """Addresses of one family; total is the sum of the others. They may exceed 64 bits."""

    family: str
    total: int
    held: int
    reserved: int
    cooling: int
    idle: int
    free: int

    @classmethod
    def of(cls, found: Usage) -> "UsageView":
        return cls(**{**vars(found), "family": found.family.label})


class UsageList(View):
    items: list[UsageView]


class BlockView(View):
    prefix: str
    state: str
    cluster: str | None
    node: str | None
    claim: int
    generation: int
    since: datetime
    rested_at: datetime | None

    @classmethod
    def of(cls, found: PoolBlock) -> "BlockView":
        return cls(**{**vars(found), "prefix": str(found.prefix)})


class BlockPage(View):
    items: list[BlockView]
    next: str | None


@router.get("/v1/pools", response_model=PoolPage)
async def list_pools(
    call: Called,
    page: Paging,
    purpose_: Annotated[str | None, Query(alias="purpose")] = None,
    cluster: str | None = None,
    scope: Annotated[int | None, Query(ge=0, le=LARGEST_SCOPE)] = None,
) -> Response:
    """Pools by name, all or those of a purpose, cluster or scope."""
    filters = PoolFilter(
        purpose=None if purpose_ is None else purpose(purpose_),
        cluster=None if cluster is None else cluster_name(cluster),
        scope=scope,
    )
    found = await call.read(lambda tx: pools.list_all(tx, filters, page))
    return call.shown(PoolPage(items=[PoolView.of(each) for each in found.items], next=found.next))


@router.post("/v1/pools", response_model=PoolView, status_code=201)
async def create_pool(call: Called, body: PoolCreate) -> Response:
    """Make a pool with its prefixes and reservations, or nothing of it."""
    draft = PoolDraft(
        name=pool_name(body.name, "name"),
        prefixes=tuple(each.draft(f"prefixes[{index}].") for index, each in enumerate(body.prefixes)),
        purpose=purpose(body.purpose),
        cluster=None if body.cluster is None else cluster_name(body.cluster),
        scope=body.scope,
        cooldown=_seconds(body.cooldown_seconds),
        skip_ends=body.skip_ends,
        reuse_early=body.reuse_early,
        reservations=tuple(each.draft(f"reservations[{index}].") for index, each in enumerate(body.reservations)),
        warning=body.warning,
        critical=body.critical,
        selectors=body.selectors.parsed(),
        priority=body.priority,
        auto_assign=body.auto_assign,
    )
    made = await call.run(lambda tx: pools.create(tx, draft, call.by, call.now))
    return call.shown(PoolView.of(made), made.version, location=f"/v1/pools/{made.name}")


@router.get("/v1/pools/{pool}", response_model=PoolView)
async def show_pool(call: Called, pool: str) -> Response:
    """One pool with its prefixes and reservations."""
    found = await call.read(lambda tx: pools.get(tx, pool_name(pool)))
    return call.shown(PoolView.of(found), found.version)


@router.patch("/v1/pools/{pool}", response_model=PoolView)
async def change_pool(call: Called, pool: str, body: PoolPatch) -> Response:
    """Change what is named; the rest stays."""
    name, quoted = pool_name(pool), call.version("pool", pool)
    cooldown = None if body.cooldown_seconds is None else _seconds(body.cooldown_seconds)
    wanted = PoolChange(
        cooldown,
        body.skip_ends,
        body.reuse_early,
        body.draining,
        body.warning,
        body.critical,
        None if body.selectors is None else body.selectors.parsed(),
        body.priority,
        body.auto_assign,
    )
    changed = await call.run(lambda tx: pools.change(tx, name, wanted, quoted, call.by, call.now))
    return call.shown(PoolView.of(changed), changed.version)


@router.delete("/v1/pools/{pool}", status_code=204)
async def delete_pool(call: Called, pool: str) -> Response:
    """Remove a pool that no network uses and of which nothing is held."""
    name, quoted = pool_name(pool), call.version("pool", pool)
    await call.run(lambda tx: pools.delete(tx, name, quoted, call.by, call.now))
    return gone()


@router.post("/v1/pools/{pool}/prefixes", response_model=PoolView, status_code=201)
async def add_prefix(call: Called, pool: str, body: PrefixCreate) -> Response:
    """Grow a pool. The same prefix again changes nothing."""
    name, draft = pool_name(pool), body.draft()
    grown = await call.run(lambda tx: pools.add_prefix(tx, name, draft, call.by, call.now))
    return call.shown(PoolView.of(grown), grown.version, location=f"/v1/pools/{name}/prefixes/{draft.cidr}")


@router.delete("/v1/pools/{pool}/prefixes/{address}/{length}", response_model=PoolView)
async def remove_prefix(call: Called, pool: str, address: str, length: str) -> Response:
    """Shrink a pool by a prefix of which nothing is held."""
    name, cidr = pool_name(pool), _cidr(address, length)
    left = await call.run(lambda tx: pools.remove_prefix(tx, name, cidr, call.by, call.now))
    return call.shown(PoolView.of(left), left.version)


@router.post("/v1/pools/{pool}/reservations", response_model=PoolView, status_code=201)
async def reserve(call: Called, pool: str, body: ReservationCreate) -> Response:
    """Never hand these addresses out. The same again changes nothing."""
    name, draft = pool_name(pool), body.draft()
    made = await call.run(lambda tx: pools.reserve(tx, name, draft.cidr, draft.reason, call.by, call.now))
    return call.shown(PoolView.of(made), made.version, location=f"/v1/pools/{name}/reservations/{draft.cidr}")


@router.delete("/v1/pools/{pool}/reservations/{address}/{length}", response_model=PoolView)
async def unreserve(call: Called, pool: str, address: str, length: str) -> Response:
    """Lift a reservation."""
    name, cidr = pool_name(pool), _cidr(address, length)
    left = await call.run(lambda tx: pools.unreserve(tx, name, cidr, call.by, call.now))
    return call.shown(PoolView.of(left), left.version)


@router.get("/v1/pools/{pool}/usage", response_model=UsageList)
async def show_usage(call: Called, pool: str) -> Response:
    """How full a pool is, by family. Counted now."""
    found = await call.read(lambda tx: pools.usage(tx, pool_name(pool), call.now))
    return call.shown(UsageList(items=[UsageView.of(each) for each in found]))


@router.get("/v1/pools/{pool}/blocks", response_model=BlockPage)
async def list_blocks(call: Called, pool: str, page: Paging) -> Response:
    """Blocks of a pool by address, with state and holder."""
    found = await call.read(lambda tx: pools.blocks(tx, pool_name(pool), page))
    return call.shown(BlockPage(items=[BlockView.of(each) for each in found.items], next=found.next))


def _cidr(address: str, length: str) -> Prefix:
    return parse_prefix(f"{address}/{length}")


def _seconds(value: float) -> timedelta:
    if not 0 <= value <= _MOST_SECONDS:
        raise Invalid("cooldown_seconds", value, "0 to 604800 seconds")
    return timedelta(seconds=value)


def _reason(text: str, where: str) -> str:
    if not 1 <= len(text) <= 200 or not text.isprintable():
        raise Invalid(f"{where}reason", text, "1 to 200 printable characters")
    return text
