"""Which namespaces the manager decides for, because selectors of pools or their own labels and annotations say so."""

from fabricmgr.domain.selectors import found_namespaces
from fabricmgr.store import cluster_rows, kube_rows, network_rows, pool_rows
from fabricmgr.store.tx import Tx


async def refresh(tx: Tx, cluster_id: int) -> bool:
    """Work it out anew for the networks of a cluster, and let its agents know where it differs. True: it did.

    Whoever changes pools, networks or what is known of namespaces calls this, in the same transaction. A cluster without an API server has
    none: nobody says there who a pod is."""
    networks = await network_rows.of_cluster(tx, cluster_id)
    has_api = await cluster_rows.has_api(tx, cluster_id)
    shown = await kube_rows.namespaces(tx, cluster_id) if has_api and networks else []
    pools = await pool_rows.of_names(tx, {name for each in networks for name in each.pools})
    differs = False
    for network in networks:
        candidates = [pools[name].candidate() for name in network.pools]
        found = found_namespaces(shown, candidates) if has_api else ()
        if found != network.namespaces_found:
            await network_rows.found(tx, network.id, found)
            differs = True
    if differs:
        tx.wake()
    return differs


async def refresh_around(tx: Tx, pool_id: int) -> None:
    """The same for every cluster that has a network over this pool."""
    for cluster_id in await network_rows.clusters_of_pool(tx, pool_id):
        await refresh(tx, cluster_id)
