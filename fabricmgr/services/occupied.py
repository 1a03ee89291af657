"""Addresses that a cluster uses without asking: externalIPs of its Services, and service ranges that grew since it was added.

They are kept out of pools by reservations, so that usage counts them and nobody is given them."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from fabricmgr.domain import ranges
from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.domain.errors import RangeMeetsPool, ReservationHeld
from fabricmgr.domain.names import ClusterName, PoolName
from fabricmgr.domain.pool import Pool, alone
from fabricmgr.problems import sentence
from fabricmgr.services import explain, pools
from fabricmgr.store import api_rows, range_rows
from fabricmgr.store.tx import Tx

BY = "Kubernetes"
MOST = 256  # addresses of one cluster: whoever may write Services could take whole pools
_BEGIN = "externalIPs of Service "


def reason(service: str, cluster: ClusterName) -> str:
    """Of a reservation. service: namespace and name."""
    return f"{_BEGIN}{service}, cluster {cluster}"


async def keep_out(tx: Tx, cluster: ClusterName, wanted: Mapping[Address, str], now: datetime) -> list[str]:
    """externalIPs, each with its Service: reserved in pools for Services that the cluster may use; those of before that are gone are free.

    Gives back what stands in the way, in sentences. Raises NotFound (cluster)."""
    some = dict(sorted(wanted.items(), key=lambda each: (each[0].version, each[0]))[:MOST])
    notes = [f"only {MOST} of {len(wanted)} externalIPs are kept out of pools"] if len(wanted) > MOST else []
    for pool in await explain.service_pools(tx, cluster):
        notes += await _of_pool(tx, cluster, pool, {alone(address): reason(who, cluster) for address, who in some.items()}, now)
    return notes


async def _of_pool(tx: Tx, cluster: ClusterName, pool: Pool, wanted: Mapping[Prefix, str], now: datetime) -> list[str]:
    kept = {each.cidr: each.reason for prefix in pool.prefixes for each in prefix.reservations}
    mine = [cidr for cidr, why in kept.items() if why.startswith(_BEGIN) and why.endswith(f", cluster {cluster}")]
    for cidr in mine:
        if cidr not in wanted:
            await pools.unreserve(tx, pool.name, cidr, BY, now)
    notes = []
    for cidr, why in wanted.items():
        if cidr not in kept and pool.prefix_around(cidr) is not None and (met := await _reserve(tx, pool.name, cidr, why, now)):
            notes.append(f"{why}: {met}")
    return notes


async def _reserve(tx: Tx, pool: PoolName, cidr: Prefix, why: str, now: datetime) -> str:
    try:
        async with tx.attempt():
            await pools.reserve(tx, pool, cidr, why, BY, now)
    except ReservationHeld as held:
        return sentence(held)
    return ""


async def grow(tx: Tx, cluster_id: int, found: Sequence[Prefix]) -> tuple[Prefix, ...]:
    """The cluster's service ranges, with those that its API server shows by now. They never shrink by themselves."""
    await range_rows.lock(tx)
    row = await api_rows.by_id(tx, cluster_id, lock=True)
    if row is None:
        return ()
    wider = ranges.merged((*row.service_ranges, *found))
    if wider != row.service_ranges:
        await api_rows.note(tx, cluster_id, {"service_ranges": list(wider)})
    return wider


async def keep_ranges_out(tx: Tx, cluster: ClusterName, service: Sequence[Prefix], now: datetime) -> list[str]:
    """Where a service range meets a pool after all, what both have is reserved. Gives back each such pool, in a sentence."""
    notes = []
    for each in await range_rows.prefixes(tx):
        for met in service:
            if met.version != each.cidr.version or not met.overlaps(each.cidr):
                continue
            both = max(met, each.cidr, key=lambda cidr: cidr.prefixlen)
            held = await _reserve(tx, PoolName(each.pool), both, f"service range {met} of cluster {cluster}", now)
            said = sentence(RangeMeetsPool(cluster, "service", str(met), str(each.cidr), each.pool))
            notes.append(f"{said}; {held or f'{both} is kept out of it'}")
    return notes
