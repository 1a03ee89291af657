"""AddressPools: the standard shows the first IPv4 prefix of a pool in the property of its purpose; both families, several prefixes,
reservations and usage have no standard property and stand in our own part (docs/decisions/0004)."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from fabricmgr.domain.addresses import Family, parse_address, parse_prefix
from fabricmgr.domain.errors import Invalid, MissingField
from fabricmgr.domain.fabric import Zone
from fabricmgr.domain.names import pool_name
from fabricmgr.domain.pool import (
    CRITICAL,
    DEFAULT_COOLDOWN,
    WARNING,
    Pool,
    PoolChange,
    PoolDraft,
    PoolFilter,
    PoolPrefix,
    PrefixDraft,
    Purpose,
    ReservationDraft,
    Usage,
    parse_prefixes,
    purpose,
)
from fabricmgr.domain.selectors import Selectors
from fabricmgr.domain.task import Request, TaskKind
from fabricmgr.domain.thresholds import percent_used
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Flag, Items, Json, Kind, Number, Object, Text
from fabricmgr.redfish.listing import whole
from fabricmgr.redfish.resource import Accepted, Action, Ask, Made, Resource
from fabricmgr.redfish.resources import pool_actions, pool_selectors
from fabricmgr.redfish.resources.fabrics import known
from fabricmgr.redfish.resources.tasks import later
from fabricmgr.services import pools, zones
from fabricmgr.store.tx import Tx

OEM_TYPE = "#FabricMgrAddressPool.v1_0_0.AddressPool"
# Where the standard shows the range of a pool of this purpose (AddressPool v1_3_0, Ethernet.IPv4).
RANGE_OF = {
    Purpose.POD: "HostAddressRange",
    Purpose.SERVICE: "HostAddressRange",
    Purpose.NODE: "HostAddressRange",
    Purpose.FABRIC_LINK: "FabricLinkAddressRange",
    Purpose.LOOPBACK: "LoopbackAddressRange",
    Purpose.MANAGEMENT: "ManagementAddressRange",
}

_RANGE = Object({"Lower": Text(), "Upper": Text()}, required=("Lower", "Upper"))
_STANDARD = Object({"IPv4": Object(dict.fromkeys(dict.fromkeys(RANGE_OF.values()), _RANGE))})
_PREFIX = Object({"Prefix": Text(), "BlockLength": Number(), "Central": Flag()}, required=("Prefix",))
_RESERVATION = Object({"Prefix": Text(), "Reason": Text()}, required=("Prefix",))
_THRESHOLDS: Mapping[str, Kind] = {"WarningPercent": Number(), "CriticalPercent": Number()}
_CHANGEABLE: Mapping[str, Kind] = {
    "CooldownSeconds": Number(real=True),
    "ReuseEarly": Flag(),
    "Draining": Flag(),
    **_THRESHOLDS,
    **pool_selectors.KINDS,
}
_CREATABLE: Mapping[str, Kind] = {
    "Purpose": Text(tuple(each.value for each in Purpose)),
    "Ranges": Items(_PREFIX),
    "Reservations": Items(_RESERVATION),
    "CooldownSeconds": Number(real=True),
    "ReuseEarly": Flag(),
    **_THRESHOLDS,
    **pool_selectors.KINDS,
}


@dataclass(frozen=True)
class Shown:
    """A pool with how full it is, and the zones whose endpoints take addresses from it."""

    pool: Pool
    usage: list[Usage]
    zones: list[Zone]


async def _shown(tx: Tx, pool: Pool, ask: Ask) -> Shown:
    return Shown(pool, await pools.usage_of(tx, pool, ask.now), await zones.of_pool(tx, pool.id))


async def get(ask: Ask) -> Shown:
    known(ask.params["fabric_id"])
    async with ask.database.read() as tx:
        return await _shown(tx, await pools.get(tx, pool_name(ask.params["pool_id"])), ask)


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    known(ask.params["fabric_id"])
    async with ask.database.read() as tx:
        names = [pool.name for pool in await whole(partial(pools.list_all, tx, PoolFilter()))]
    return names[skip:][:top], len(names)


async def load(ask: Ask, wanted: Sequence[str]) -> Sequence[Shown | None]:
    """All pools and all zones are read at once; what is in use is counted pool by pool."""
    async with ask.database.read() as tx:
        found = {str(pool.name): pool for pool in await whole(partial(pools.list_all, tx, PoolFilter()))}
        around: dict[str, list[Zone]] = defaultdict(list)
        for each in await zones.list_all(tx):
            for name in each.pools:
                around[name].append(each)
        there = {name: await pools.usage_of(tx, found[name], ask.now) for name in wanted if name in found}
    return [Shown(found[name], there[name], around[name]) if name in there else None for name in wanted]


def body(shown: Shown) -> Json:
    pool = shown.pool
    page: Json = {"Id": pool.name, "Name": pool.name, "Status": {"State": "Enabled", "Health": "OK"}}
    four = pool.of(Family.IPV4)
    if four:
        first = four[0].cidr
        page["Ethernet"] = {"IPv4": {RANGE_OF[pool.purpose]: {"Lower": str(first[0]), "Upper": str(first[-1])}}}
    return {**page, "Links": _links(shown), "Oem": {"FabricMgr": _oem(shown)}}


def _links(shown: Shown) -> Json:
    around = [shown.pool.cluster] if shown.pool.cluster is not None else []
    names = [*around, *(ids.zone_id(each.cluster, each.name) for each in shown.zones)]
    inside = sorted({endpoint for each in shown.zones for endpoint in each.endpoints})
    found = ids.counted("Zones", [f"{ids.ZONES}/{each}" for each in names])
    return {**found, **ids.counted("Endpoints", [f"{ids.ENDPOINTS}/{each}" for each in inside])}


def _oem(shown: Shown) -> Json:
    pool = shown.pool
    return {
        "@odata.type": OEM_TYPE,
        "Purpose": pool.purpose.value,
        **({"Cluster": pool.cluster} if pool.cluster else {}),
        "Ranges": [_range(each) for each in pool.prefixes],
        "Reservations": [{"Prefix": str(kept.cidr), "Reason": kept.reason} for each in pool.prefixes for kept in each.reservations],
        "CooldownSeconds": pool.cooldown.total_seconds(),
        "ReuseEarly": pool.reuse_early,
        "Draining": pool.draining,
        "WarningPercent": pool.warning,
        "CriticalPercent": pool.critical,
        "Selectors": pool_selectors.shown(pool.selectors),
        "Priority": pool.priority,
        "AutoAssign": pool.auto_assign,
        "Usage": [_usage(each) for each in shown.usage],
        "Blocks": ids.reference(f"{ids.POOLS}/{pool.name}/Oem/FabricMgr/Blocks"),
        "Allocations": ids.reference(f"{ids.POOLS}/{pool.name}/Oem/FabricMgr/Allocations"),
    }


def _range(prefix: PoolPrefix) -> Json:
    family = Family(prefix.cidr.version).label
    return {"Prefix": str(prefix.cidr), "Family": family, "BlockLength": prefix.block_length, "Central": prefix.central}


def _usage(usage: Usage) -> Json:
    counts = ("total", "held", "reserved", "cooling", "idle", "free")
    shown = {name.capitalize(): str(getattr(usage, name)) for name in counts}
    return {"Family": usage.family.label, **shown, "UsedPercent": percent_used(usage)}


async def create(ask: Ask, given: Json) -> Made:
    known(ask.params["fabric_id"])
    draft = _draft(given)

    async def use_case(tx: Tx) -> Shown:
        return await _shown(tx, await pools.create(tx, draft, ask.principal.actor, ask.now), ask)

    made = await ask.database.run(use_case)
    return Made(made.pool.name, made)


def _draft(given: Json) -> PoolDraft:
    oem: Json = given.get("Oem", {}).get("FabricMgr", {})
    what = purpose(oem.get("Purpose", Purpose.POD.value))
    prefixes = [*_standard_prefixes(given, what), *_oem_prefixes(oem)]
    if not prefixes:
        raise MissingField("Oem/FabricMgr/Ranges", f"at least one prefix, here or as Ethernet/IPv4/{RANGE_OF[what]}")
    kept = [
        ReservationDraft(parse_prefix(each["Prefix"], f"Oem/FabricMgr/Reservations/{index}/Prefix"), each.get("Reason", "reserved"))
        for index, each in enumerate(oem.get("Reservations", []))
    ]
    return PoolDraft(
        pool_name(given["Name"], "Name"),
        tuple(prefixes),
        what,
        cooldown=timedelta(seconds=oem.get("CooldownSeconds", DEFAULT_COOLDOWN.total_seconds())),
        reuse_early=oem.get("ReuseEarly", False),
        reservations=tuple(kept),
        warning=oem.get("WarningPercent", WARNING),
        critical=oem.get("CriticalPercent", CRITICAL),
        selectors=pool_selectors.read(oem) or Selectors(),
        priority=oem.get("Priority", 0),
        auto_assign=oem.get("AutoAssign", True),
    )


def _standard_prefixes(given: Json, what: Purpose) -> Iterator[PrefixDraft]:
    for name, limits in given.get("Ethernet", {}).get("IPv4", {}).items():
        where = f"Ethernet/IPv4/{name}"
        if name != RANGE_OF[what]:
            raise Invalid(where, limits, f"{RANGE_OF[what]}, which is where the range of a pool of purpose {what.value} stands")
        lower, upper = parse_address(limits["Lower"], f"{where}/Lower"), parse_address(limits["Upper"], f"{where}/Upper")
        if lower.version != Family.IPV4.value:
            raise Invalid(f"{where}/Lower", limits["Lower"], "an IPv4 address; IPv6 prefixes stand in Oem/FabricMgr/Ranges")
        yield from (PrefixDraft(each) for each in parse_prefixes(f"{lower}-{upper}", where))


def _oem_prefixes(oem: Json) -> Iterator[PrefixDraft]:
    for index, each in enumerate(oem.get("Ranges", [])):
        prefix = parse_prefix(each["Prefix"], f"Oem/FabricMgr/Ranges/{index}/Prefix")
        yield PrefixDraft(prefix, each.get("BlockLength"), each.get("Central", False))


async def patch(ask: Ask, shown: Shown, given: Json, version: int | None) -> Shown:
    oem: Json = given.get("Oem", {}).get("FabricMgr", {})
    seconds = oem.get("CooldownSeconds")
    change = PoolChange(
        cooldown=None if seconds is None else timedelta(seconds=seconds),
        reuse_early=oem.get("ReuseEarly"),
        draining=oem.get("Draining"),
        warning=oem.get("WarningPercent"),
        critical=oem.get("CriticalPercent"),
        selectors=pool_selectors.read(oem),
        priority=oem.get("Priority"),
        auto_assign=oem.get("AutoAssign"),
    )

    async def use_case(tx: Tx) -> Shown:
        return await _shown(tx, await pools.change(tx, shown.pool.name, change, version, ask.principal.actor, ask.now), ask)

    return await ask.database.run(use_case)


async def delete(ask: Ask, shown: Shown, version: int | None) -> Accepted | None:
    if ask.later:
        request = Request("DELETE", ask.uri)
        return await later(ask, TaskKind.DELETE_POOL, f"Delete pool {shown.pool.name}", {"pool": shown.pool.name}, request)
    await ask.database.run(lambda tx: pools.delete(tx, shown.pool.name, version, ask.principal.actor, ask.now))
    return None


Act = Callable[[Ask, Pool, Json], Awaitable[Json | Made | Accepted | None]]


def _act(act: Act) -> Callable[[Ask, Shown, Json], Awaitable[Json | Made | Accepted | None]]:
    async def run(ask: Ask, shown: Shown, given: Json) -> Json | Made | Accepted | None:
        return await act(ask, shown.pool, given)

    return run


def _action(name: str, act: Act, fields: Mapping[str, Kind], *required: str) -> Action:
    return Action(f"FabricMgrAddressPool.{name}", _act(act), Object(fields, required), oem=True, described=True)


_OWNER: Mapping[str, Kind] = {"Owner": Text(), "Cluster": Text()}
ACTIONS = (
    _action("Allocate", pool_actions.allocate, {**_OWNER, "Families": Items(Text(tuple(pool_actions.FAMILIES)))}, "Owner"),
    _action("Assign", pool_actions.assign, {**_OWNER, "Address": Text()}, "Owner", "Address"),
    _action("Release", pool_actions.release, {**_OWNER, "Generation": Number()}, "Owner"),
    _action("Expand", pool_actions.expand, {"Prefix": Text(), "BlockLength": Number(), "Central": Flag()}, "Prefix"),
    _action("Simulate", pool_actions.simulated, {name: Text() for name in ("Manifest", "Namespace", "Cluster", "Network")}, "Manifest"),
)

address_pool = Resource(
    schema="AddressPool",
    uri="/redfish/v1/Fabrics/{fabric_id}/AddressPools/{pool_id}",
    get=get,
    body=body,
    version=lambda shown: shown.pool.version,
    members=members,
    load=load,
    collection_name="Address pools",
    patch=patch,
    patchable=Object({"Oem": Object({"FabricMgr": Object(_CHANGEABLE)})}),
    delete=delete,
    create=create,
    actions=ACTIONS,
    creatable=Object({"Name": Text(), "Ethernet": _STANDARD, "Oem": Object({"FabricMgr": Object(_CREATABLE)})}, required=("Name",)),
)
