"""What Services that wait for an address wait for: as long as none of it changes, none of them is asked about again."""

from dataclasses import dataclass
from datetime import datetime

from fabricmgr.domain.kube import KubeNamespace
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.pool import Pool, Usage
from fabricmgr.services import explain, pools
from fabricmgr.store import kube_rows, service_rows
from fabricmgr.store.tx import Tx


@dataclass(frozen=True)
class Stamp:
    """As of one look. counts: grow or shrink when anything is assigned, or decided for another Service."""

    pools: tuple[Pool, ...]
    usages: tuple[Usage, ...]
    namespaces: tuple[KubeNamespace, ...]
    counts: tuple[int, ...]

    @property
    def labels(self) -> frozenset[str]:
        """Keys of labels of Services that pools look at."""
        return frozenset(key for each in self.pools for key in each.selectors.services)


async def stamp(tx: Tx, cluster_id: int, cluster: ClusterName, now: datetime) -> Stamp:
    """It counts the allocations of pools for Services. Raises NotFound."""
    known = await explain.service_pools(tx, cluster)
    usages = [usage for each in known for usage in await pools.usage_of(tx, each, now)]
    namespaces = await kube_rows.namespaces(tx, cluster_id)
    return Stamp(tuple(known), tuple(usages), tuple(namespaces), await service_rows.counts(tx, cluster_id))
