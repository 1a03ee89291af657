"""An agent that runs as a pod is known by the token of that pod: its cluster says on which node it runs."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from fabricmgr.domain.errors import TokenRefused
from fabricmgr.domain.events import NodeAdded
from fabricmgr.domain.names import ClusterName, NodeName, cluster_name, node_name
from fabricmgr.kube.tokens import Reviewed
from fabricmgr.services import identity
from fabricmgr.services.certificates import Authority
from fabricmgr.store import cluster_rows, node_rows
from fabricmgr.store.tx import Tx
from fabricmgr.wire import Enrol, Enrolled

AUDIENCE = "fabricmgr"

Review = Callable[[ClusterName, str], Awaitable[Reviewed]]
"""Cluster and token. Raises NotFound for a cluster without an API server, and what that refuses with."""


async def node_of(review: Review, asked: Enrol, account: str) -> tuple[ClusterName, NodeName]:
    """Which node the request is of; outside any transaction, since the cluster is asked. account: whose tokens count.

    Raises TokenRefused, and what `review` raises."""
    cluster = cluster_name(asked.cluster)
    said = await review(cluster, asked.token)
    if said.refused:
        raise TokenRefused("", f"cluster {cluster} refuses it: {said.refused}")
    if said.account != account:
        raise TokenRefused("", f"it is of {said.account}, and agents are {account}")
    if not said.node:
        raise TokenRefused("", f"cluster {cluster} does not say where its pod runs: that takes Kubernetes 1.30 and a projected token")
    return cluster, node_name(said.node)


async def enrol(tx: Tx, asked: Enrol, cluster: ClusterName, name: NodeName, ours: Authority, now: datetime) -> Enrolled:
    """As by a token of `node add`; a node that is not known yet is added. Raises NotFound, Invalid, ClockSkew."""
    found = await cluster_rows.get(tx, cluster)
    if await node_rows.find(tx, cluster, name) is None:
        await node_rows.insert(tx, found.id, name, now)
        tx.emit(NodeAdded(cluster, name, f"cluster {cluster}"))
    node = await node_rows.get(tx, cluster, name, lock=True)
    return await identity.enrol_known(tx, node, asked, ours, now)
