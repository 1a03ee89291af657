"""Zones: groups of endpoints inside a cluster. The cluster itself is the zone of zones around them."""

from collections.abc import Iterable
from datetime import datetime

from fabricmgr.domain.errors import AlreadyExists, NotFound, VersionConflict
from fabricmgr.domain.events import ZoneChanged, ZoneCreated, ZoneDeleted
from fabricmgr.domain.fabric import Zone, ZoneChange
from fabricmgr.domain.names import ClusterName, pool_name
from fabricmgr.services import endpoints
from fabricmgr.store import cluster_rows, endpoint_rows, pool_rows, zone_rows
from fabricmgr.store.tx import Tx


async def create(tx: Tx, cluster: ClusterName, name: str, wanted: ZoneChange, by: str, now: datetime) -> Zone:
    """Raises NotFound (cluster, endpoint, pool), AlreadyExists."""
    inside = await cluster_rows.get(tx, cluster, lock=True)
    if await zone_rows.find(tx, cluster, name) is not None:
        raise AlreadyExists("zone", f"{cluster}_{name}")
    zone_id = await zone_rows.insert(tx, inside.id, name, wanted.description or "", now)
    await _fill(tx, Zone(zone_id, cluster, name, "", (), (), 1), wanted, by, now)
    await cluster_rows.grow(tx, inside.id)
    tx.emit(ZoneCreated(cluster, name, by))
    return await get(tx, cluster, name)


async def get(tx: Tx, cluster: ClusterName, name: str) -> Zone:
    """Raises NotFound."""
    return _there(await zone_rows.find(tx, cluster, name), cluster, name)


async def list_all(tx: Tx) -> list[Zone]:
    """By cluster and name."""
    return await zone_rows.every(tx)


async def of_cluster(tx: Tx, cluster: ClusterName) -> list[Zone]:
    """By name."""
    return await zone_rows.of_cluster(tx, cluster)


async def of_pool(tx: Tx, pool_id: int) -> list[Zone]:
    """Those whose endpoints take addresses from a pool."""
    return await zone_rows.of_pool(tx, pool_id)


async def change(tx: Tx, cluster: ClusterName, name: str, wanted: ZoneChange, if_version: int | None, by: str, now: datetime) -> Zone:
    """Raises NotFound (also of an endpoint or a pool), VersionConflict."""
    found = await _take(tx, cluster, name, if_version)
    differing = [field for field, value in vars(wanted).items() if value is not None and value != getattr(found, field)]
    if not differing:
        return found
    await _fill(tx, found, wanted, by, now)
    await zone_rows.change(tx, found.id, **({} if wanted.description is None else {"description": wanted.description}))
    tx.emit(ZoneChanged(cluster, name, tuple(differing), by))
    return await get(tx, cluster, name)


async def add_endpoint(
    tx: Tx, cluster: ClusterName, name: str, endpoint: str, versions: tuple[int | None, int | None], by: str, now: datetime
) -> Zone:
    """versions: of zone and endpoint, as the caller saw them. One that is in it changes nothing. Raises NotFound, VersionConflict."""
    found = await _take(tx, cluster, name, versions[0])
    await endpoints.take(tx, endpoint, versions[1])
    wanted = ZoneChange(endpoints=tuple(sorted({*found.endpoints, endpoint})))
    return await change(tx, cluster, name, wanted, None, by, now)


async def remove_endpoint(
    tx: Tx, cluster: ClusterName, name: str, endpoint: str, versions: tuple[int | None, int | None], by: str, now: datetime
) -> Zone:
    """The same the other way. Raises NotFound, VersionConflict."""
    found = await _take(tx, cluster, name, versions[0])
    await endpoints.take(tx, endpoint, versions[1])
    return await change(tx, cluster, name, ZoneChange(endpoints=_without(found.endpoints, endpoint)), None, by, now)


async def delete(tx: Tx, cluster: ClusterName, name: str, if_version: int | None, by: str, now: datetime) -> None:
    """Its endpoints stay, in no zone. Raises NotFound, VersionConflict."""
    inside = await cluster_rows.get(tx, cluster, lock=True)
    found = await _take(tx, cluster, name, if_version)
    await _fill(tx, found, ZoneChange(endpoints=()), by, now)
    await zone_rows.delete(tx, found.id)
    await cluster_rows.grow(tx, inside.id)
    tx.emit(ZoneDeleted(cluster, name, by))


async def _fill(tx: Tx, zone: Zone, wanted: ZoneChange, by: str, now: datetime) -> None:
    """Endpoints that come or go get a new version, and so do pools: their pages name zones and endpoints."""
    if wanted.endpoints is not None:
        ids = await endpoints.claim_all(tx, {*wanted.endpoints, *zone.endpoints}, by, now)
        await zone_rows.set_endpoints(tx, zone.id, [ids[each] for each in wanted.endpoints])
        moved = set(wanted.endpoints) ^ set(zone.endpoints)
        await endpoint_rows.change(tx, [ids[each] for each in moved])
    if wanted.pools is not None:
        await zone_rows.set_pools(tx, zone.id, await _pool_ids(tx, wanted.pools))
    for pool_id in await _pool_ids(tx, {*zone.pools, *(wanted.pools or ())}):
        await pool_rows.change(tx, pool_id, {})


async def _pool_ids(tx: Tx, names: Iterable[str]) -> list[int]:
    wanted = [pool_name(each, "pools") for each in names]
    found = await pool_rows.of_names(tx, wanted)
    for each in wanted:
        if each not in found:
            raise NotFound("pool", each)
    return sorted(found[each].id for each in wanted)


async def _take(tx: Tx, cluster: ClusterName, name: str, quoted: int | None) -> Zone:
    found = _there(await zone_rows.find(tx, cluster, name, lock=True), cluster, name)
    if quoted is not None and quoted != found.version:
        raise VersionConflict("zone", f"{cluster}_{name}", str(quoted), str(found.version))
    return found


def _there(found: Zone | None, cluster: str, name: str) -> Zone:
    if found is None:
        raise NotFound("zone", f"{cluster}_{name}")
    return found


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(each for each in names if each != name)
