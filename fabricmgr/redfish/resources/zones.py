"""Zones: a cluster is a zone of zones, its groups of NICs are zones of endpoints, and Default has the NICs of no group (DSP0268, Zone)."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from fabricmgr.domain.errors import InUse, Invalid, MissingField, NotFound, NotWritable, VersionConflict
from fabricmgr.domain.fabric import ZoneChange
from fabricmgr.domain.names import DEFAULT_CLUSTER, ClusterName, cluster_name, zone_name
from fabricmgr.domain.page import LARGEST_LIMIT, Page
from fabricmgr.domain.pool import PoolFilter
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Items, Json, Link, Object, Text, patched
from fabricmgr.redfish.resource import Action, Ask, Made, Resource
from fabricmgr.redfish.resources.fabrics import known
from fabricmgr.services import api_servers, clusters, endpoints, pools, zones
from fabricmgr.store.api_rows import ApiRow
from fabricmgr.store.tx import Tx

DEFAULT = "Default"
OEM_TYPE = "#FabricMgrZone.v1_0_0.Zone"
GROUP, CLUSTER = "ZoneOfEndpoints", "ZoneOfZones"
_LINKED = {"Endpoints": Items(Link((ids.ENDPOINTS,))), "AddressPools": Items(Link((ids.POOLS,)))}
_PATCHED = {name: Items(each.kind, patched=True) for name, each in _LINKED.items()}


@dataclass(frozen=True)
class Shown:
    """kind: ZoneType. name: of a group, inside its cluster. stored: the row's version, of a group."""

    id: str
    kind: str
    cluster: ClusterName = DEFAULT_CLUSTER
    name: str = ""
    description: str = ""
    endpoints: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    inside: tuple[str, ...] = field(default=())
    stored: int | None = None
    api: ApiRow | None = None

    @property
    def version(self) -> int:
        """The row's; where the page is made of other rows, a number that any of them changes."""
        return zlib.crc32(repr((self.endpoints, self.pools, self.inside, self.api)).encode()) if self.stored is None else self.stored


async def get(ask: Ask) -> Shown:
    known(ask.params["fabric_id"])
    async with ask.database.read() as tx:
        return await _read(tx, ask.params["zone_id"])


async def _read(tx: Tx, zone_id: str) -> Shown:
    if zone_id == DEFAULT:
        return await _default(tx)
    cluster, parted, name = zone_id.partition("_")
    try:
        where = cluster_name(cluster)
    except Invalid:
        raise NotFound("zone", zone_id) from None
    return await _group(tx, where, name) if parted else await _cluster(tx, where)


async def _default(tx: Tx) -> Shown:
    return Shown(DEFAULT, "Default", endpoints=tuple(each.name for each in await endpoints.list_all(tx) if not each.zones))


async def _cluster(tx: Tx, name: ClusterName) -> Shown:
    found = await clusters.get(tx, name)
    inside = tuple(ids.zone_id(each.cluster, each.name) for each in await zones.of_cluster(tx, name))
    own = await pools.list_all(tx, PoolFilter(cluster=name), Page(LARGEST_LIMIT))
    api = (await api_servers.of_clusters(tx, [name])).get(name)
    return Shown(found.name, CLUSTER, found.name, inside=inside, pools=tuple(each.name for each in own.items), api=api)


async def _group(tx: Tx, cluster: ClusterName, name: str) -> Shown:
    found = await zones.get(tx, cluster, name)
    return Shown(ids.zone_id(cluster, name), GROUP, cluster, name, found.description, found.endpoints, found.pools, stored=found.version)


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    known(ask.params["fabric_id"])
    found = [DEFAULT]
    async with ask.database.read() as tx:
        after: str | None = None
        while True:
            page = await clusters.list_all(tx, Page(LARGEST_LIMIT, after))
            found += [each.name for each in page.items]
            if page.next is None:
                break
            after = page.next
        found += [ids.zone_id(each.cluster, each.name) for each in await zones.list_all(tx)]
    return found[skip:][:top], len(found)


def body(shown: Shown) -> Json:
    names = {"Default": "NICs of no zone", CLUSTER: f"Cluster {shown.cluster}", GROUP: f"Zone {shown.name} of cluster {shown.cluster}"}
    links = {
        "Endpoints": [f"{ids.ENDPOINTS}/{each}" for each in shown.endpoints],
        "AddressPools": [f"{ids.POOLS}/{each}" for each in shown.pools],
        "ContainsZones": [f"{ids.ZONES}/{each}" for each in shown.inside],
        "ContainedByZones": [f"{ids.ZONES}/{shown.cluster}"],
    }
    of_kind = {
        "Default": ("Endpoints",),
        CLUSTER: ("ContainsZones", "AddressPools"),
        GROUP: ("Endpoints", "AddressPools", "ContainedByZones"),
    }
    page: Json = {
        "Id": shown.id,
        "Name": names[shown.kind],
        "ZoneType": shown.kind,
        "Status": {"State": "Enabled", "Health": "OK"},
        "Links": {key: value for name in of_kind[shown.kind] for key, value in ids.counted(name, links[name]).items()},
    }
    if shown.api is not None:
        inside = ids.reference(f"{ids.ZONES}/{shown.cluster}/Oem/FabricMgr/Workloads")
        page["Oem"] = {"FabricMgr": {"@odata.type": OEM_TYPE, "Cluster": _api(shown.api), "Workloads": inside}}
    return {**page, "Description": shown.description} if shown.description else page


def _api(row: ApiRow) -> Json:
    progressed = {} if row.progressed_at is None else {"ProgressedAt": row.progressed_at.isoformat(timespec="seconds")}
    return {
        "Server": row.server,
        "ServerVersion": row.server_version,
        "State": row.state.capitalize(),
        "Reason": row.reason,
        "PodRanges": [str(each) for each in row.pod_ranges],
        "ServiceRanges": [str(each) for each in row.service_ranges],
        **progressed,
    }


async def create(ask: Ask, given: Json) -> Made:
    """A ZoneOfZones is a cluster. A ZoneOfEndpoints lies in the one that ContainedByZones names, or in the default cluster."""
    known(ask.params["fabric_id"])
    links, kind, name = given.get("Links", {}), given.get("ZoneType", GROUP), zone_name(given["Name"], "Name")
    if kind == CLUSTER:
        if links:
            raise Invalid("Links", sorted(links), "nothing: what lies in a zone of zones names it in ContainedByZones")
        await ask.database.run(lambda tx: clusters.create(tx, cluster_name(name), ask.principal.actor, ask.now))
        return await _made(ask, name)
    around = [ids.last(each) for each in links.get("ContainedByZones", [])] or [DEFAULT_CLUSTER]
    if len(around) != 1:
        raise Invalid("Links/ContainedByZones", len(around), "one zone of zones")
    cluster = cluster_name(around[0], "Links/ContainedByZones/0")
    wanted = _change(given)
    await ask.database.run(lambda tx: zones.create(tx, cluster, name, wanted, ask.principal.actor, ask.now))
    return await _made(ask, ids.zone_id(cluster, name))


async def _made(ask: Ask, zone_id: str) -> Made:
    async with ask.database.read() as tx:
        return Made(zone_id, await _read(tx, zone_id))


def _change(given: Json) -> ZoneChange:
    links = given.get("Links", {})
    names = {name: tuple(sorted({ids.last(each) for each in links[name]})) for name in _LINKED if name in links}
    return ZoneChange(given.get("Description"), names.get("Endpoints"), names.get("AddressPools"))


async def patch(ask: Ask, shown: Shown, given: Json, version: int | None) -> Shown:
    if shown.kind != GROUP:
        raise NotWritable(next(iter(given)))
    shows, links = body(shown)["Links"], given.get("Links", {})
    wanted = _change({**given, "Links": {name: patched(shows[name], links[name]) for name in links}})
    await ask.database.run(lambda tx: zones.change(tx, shown.cluster, shown.name, wanted, version, ask.principal.actor, ask.now))
    return await get(ask)


async def delete(ask: Ask, shown: Shown, version: int | None) -> None:
    if shown.kind == "Default":
        raise InUse("zone", DEFAULT, "it has the NICs that are in no other zone")
    if shown.kind == CLUSTER:
        await ask.database.run(lambda tx: clusters.delete(tx, shown.cluster, ask.principal.actor, ask.now))
        return
    await ask.database.run(lambda tx: zones.delete(tx, shown.cluster, shown.name, version, ask.principal.actor, ask.now))


async def add_endpoint(ask: Ask, shown: Shown, given: Json) -> None:
    """Also one of a NIC that nobody claimed: it is claimed by this."""
    name, versions = _moved(shown, given)
    await ask.database.run(lambda tx: zones.add_endpoint(tx, shown.cluster, shown.name, name, versions, ask.principal.actor, ask.now))


async def remove_endpoint(ask: Ask, shown: Shown, given: Json) -> None:
    """One that is not in it changes nothing."""
    name, versions = _moved(shown, given)
    await ask.database.run(lambda tx: zones.remove_endpoint(tx, shown.cluster, shown.name, name, versions, ask.principal.actor, ask.now))


def _moved(shown: Shown, given: Json) -> tuple[str, tuple[int | None, int | None]]:
    if shown.kind != GROUP:
        raise InUse("zone", shown.id, f"endpoints are put into a {GROUP}; this is a {shown.kind}")
    return ids.last(given["Endpoint"]), (_quoted(given, "ZoneETag", shown.id), _quoted(given, "EndpointETag", ids.last(given["Endpoint"])))


def _quoted(given: Json, name: str, of: str) -> int | None:
    """The version in an ETag. Raises MissingField for an empty one, VersionConflict for one that was never given out."""
    if name not in given:
        return None
    text: str = given[name]
    if not text:
        raise MissingField(name, "an ETag, or no such parameter")
    number = text.strip('"')
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise VersionConflict(name, of, text, "another")
    return int(number)


_MOVE = Object({"Endpoint": Link((ids.ENDPOINTS,)), "EndpointETag": Text(), "ZoneETag": Text()}, required=("Endpoint",))

zone = Resource(
    schema="Zone",
    uri="/redfish/v1/Fabrics/{fabric_id}/Zones/{zone_id}",
    get=get,
    body=body,
    version=lambda shown: shown.version,
    members=members,
    collection_name="Zones",
    patch=patch,
    patchable=Object({"Description": Text(), "Links": Object(_PATCHED)}),
    delete=delete,
    create=create,
    creatable=Object(
        {
            "Name": Text(),
            "Description": Text(),
            "ZoneType": Text((GROUP, CLUSTER)),
            "Links": Object({**_LINKED, "ContainedByZones": Items(Link((ids.ZONES,)))}),
        },
        required=("Name",),
    ),
    actions=(
        Action("Zone.AddEndpoint", add_endpoint, _MOVE, described=True),
        Action("Zone.RemoveEndpoint", remove_endpoint, _MOVE, described=True),
    ),
)
