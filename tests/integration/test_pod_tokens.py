"""An agent that runs as a pod becomes the node that its cluster says it runs on, and no other."""

from dataclasses import replace

import msgspec
import pytest

from fabricmgr.domain.errors import NotFound, TokenRefused
from fabricmgr.domain.names import DEFAULT_CLUSTER, ClusterName, node_name
from fabricmgr.domain.node import NodeState
from fabricmgr.kube.tokens import Reviewed
from fabricmgr.services import clusters, identity, nodes, pod_tokens
from fabricmgr.services.certificates import Authority
from fabricmgr.store.tx import Database
from fabricmgr.wire import Enrol, Enrolled
from tests.integration.test_identity import MONTH, SEALER
from tests.support.database import NOW, opened
from tests.support.enrol import request, serial_of

AGENT = "system:serviceaccount:fabricmgr:fabricmgr-agent"
W1 = node_name("w1")


def asked(machine: str = "m1") -> Enrol:
    return msgspec.structs.replace(request("a pod's token", machine=machine), cluster=DEFAULT_CLUSTER)


class Cluster:
    """What a cluster says of a token."""

    def __init__(self, said: Reviewed):
        self.said = said
        self.seen: list[tuple[str, str]] = []

    async def __call__(self, cluster: ClusterName, token: str) -> Reviewed:
        self.seen.append((cluster, token))
        return self.said


async def joined(database: Database, authority: Authority, given: Enrol, cluster: Cluster) -> Enrolled:
    place = await pod_tokens.node_of(cluster, given, AGENT)
    return await database.run(lambda tx: pod_tokens.enrol(tx, given, *place, authority, NOW))


async def test_a_pods_token_makes_the_node_it_runs_on(database_url: str) -> None:
    async with opened(database_url) as database:
        ours = await database.run(lambda tx: identity.authority(tx, SEALER, MONTH, NOW))
        await database.run(lambda tx: clusters.ensure_default(tx, NOW))
        cluster = Cluster(Reviewed(AGENT, "w1"))

        first = await joined(database, ours, given := asked(), cluster)
        again = await joined(database, ours, given, cluster)
        other = await joined(database, ours, asked(), cluster)

        node = await database.run(lambda tx: nodes.get(tx, DEFAULT_CLUSTER, W1))
    assert (first.node, node.state) == ("w1", NodeState.ENROLLED)
    assert again.certificate == first.certificate
    assert serial_of(other) != serial_of(first)
    assert cluster.seen[0] == (DEFAULT_CLUSTER, "a pod's token")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Reviewed("", "", "it is not for fabricmgr"), "refuses it: it is not for fabricmgr"),
        (replace(Reviewed(AGENT, "w1"), account="system:serviceaccount:default:default"), "agents are"),
        (Reviewed(AGENT, ""), "does not say where its pod runs"),
    ],
)
async def test_a_token_that_vouches_for_no_node_is_refused(said: Reviewed, why: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        await pod_tokens.node_of(Cluster(said), asked(), AGENT)

    assert why in refused.value.reason


async def test_an_unknown_cluster_gets_no_node(database_url: str) -> None:
    async with opened(database_url) as database:
        ours = await database.run(lambda tx: identity.authority(tx, SEALER, MONTH, NOW))

        with pytest.raises(NotFound):
            await database.run(lambda tx: pod_tokens.enrol(tx, asked(), ClusterName("elsewhere"), W1, ours, NOW))
