"""What one may do with a pool beyond the standard: Allocate, Assign, Release, Expand, Simulate (docs/decisions/0004)."""

from collections.abc import Sequence

from fabricmgr.domain.addresses import Family, parse_prefix
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.names import DEFAULT_CLUSTER, ClusterName, cluster_name, owner_name
from fabricmgr.domain.owner import Direct
from fabricmgr.domain.pool import Pool, PrefixDraft
from fabricmgr.domain.task import TaskKind
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Accepted, Ask, Made
from fabricmgr.redfish.resources.allocations import page
from fabricmgr.redfish.resources.tasks import later, posted
from fabricmgr.services import allocations, direct, pools, simulate
from fabricmgr.services.attachments import LARGEST_GENERATION
from fabricmgr.services.room import Left, Outcome

FAMILIES = {family.label: family.value for family in Family}


async def allocate(ask: Ask, pool: Pool, given: Json) -> Json | Made:
    """201 and the allocation where it was made; 200 where the owner held it before."""
    return await _given(ask, pool, given, [FAMILIES[each] for each in given.get("Families", [])], None)


async def assign(ask: Ask, pool: Pool, given: Json) -> Json | Made:
    """The same for the one address asked for."""
    return await _given(ask, pool, given, [], given["Address"])


async def _given(ask: Ask, pool: Pool, given: Json, families: Sequence[int], address: str | None) -> Json | Made:
    cluster = _cluster(pool, given)
    owner = owner_name(given["Owner"], "Owner")
    _, made = await direct.allocate(ask.site.desk, cluster, pool.name, owner, families, address, ask.principal.actor, ask.now)
    async with ask.database.read() as tx:
        found = await allocations.get(tx, Direct(cluster, pool.name, owner).key)
    uri, shown = page(found, pool.name)
    return Made(uri, shown) if made else shown


async def release(ask: Ask, pool: Pool, given: Json) -> None:
    """What is not held, or was assigned anew since, changes nothing and succeeds."""
    cluster, generation = _cluster(pool, given), given.get("Generation")
    if generation is not None and not 0 <= generation <= LARGEST_GENERATION:
        raise Invalid("Generation", generation, "a number that came with the addresses")
    await direct.release(ask.site.desk, cluster, pool.name, given["Owner"], generation, ask.principal.actor)


async def expand(ask: Ask, pool: Pool, given: Json) -> Accepted | None:
    """The same prefix again changes nothing."""
    draft = PrefixDraft(parse_prefix(given["Prefix"], "Prefix"), given.get("BlockLength"), given.get("Central", False))
    if ask.later:
        arguments = {"pool": pool.name, "prefix": str(draft.cidr), "block_length": draft.block_length, "central": draft.central}
        request = posted(f"{ask.uri}/Actions/Oem/FabricMgrAddressPool.Expand", given)
        return await later(ask, TaskKind.EXPAND_POOL, f"Add {draft.cidr} to pool {pool.name}", arguments, request)
    await ask.database.run(lambda tx: pools.add_prefix(tx, pool.name, draft, ask.principal.actor, ask.now))
    return None


async def simulated(ask: Ask, pool: Pool, given: Json) -> Json:
    """What a manifest would take: of this pool, and of the others that its objects lead to."""
    where, network, namespace = _cluster(pool, given), given.get("Network", ""), given.get("Namespace", "default")
    async with ask.database.read() as tx:
        found = await simulate.simulate(tx, where, network, given["Manifest"], namespace, ask.now)
    return {
        "Network": found.network,
        "Fits": found.fits,
        "Objects": [_object(each) for each in found.objects],
        "Left": [_left(each) for each in found.left],
        "Passed": list(found.passed),
    }


def _object(found: Outcome) -> Json:
    said = {"Object": found.what, "Namespace": found.namespace, "Fits": found.fits, **({"Reason": found.reason} if found.reason else {})}
    takes = [_of(each.pool, each.family) | {"Addresses": each.count} for each in found.taken]
    return {**said, "Takes": takes}


def _left(found: Left) -> Json:
    block = {"BlockAddresses": found.block} if found.block else {}
    return _of(found.pool, found.family) | {"Before": str(found.before), "After": str(found.after), **block}


def _of(pool: str, family: int) -> Json:
    return {"AddressPool": ids.reference(f"{ids.POOLS}/{pool}"), "Family": Family(family).label}


def _cluster(pool: Pool, given: Json) -> ClusterName:
    """Whose owner it is: named, else the pool's own cluster, else the default one."""
    if "Cluster" in given:
        return cluster_name(given["Cluster"], "Cluster")
    return pool.cluster or DEFAULT_CLUSTER
