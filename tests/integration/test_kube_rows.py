"""What an API server shows, kept in rows: written in batches, and only where something differs."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from ipaddress import ip_address

from fabricmgr.domain.kube import KubeNamespace, KubeNode, KubePod
from fabricmgr.domain.names import cluster_name
from fabricmgr.services import clusters
from fabricmgr.store import kube_rows
from fabricmgr.store.tx import Database, Tx
from tests.support.database import NOW, opened

WEB = KubePod(
    namespace="shop",
    name="web-1",
    uid="u-1",
    node="w1",
    labels={"app": "web"},
    annotations={"fabricmgr.io/pool": "shop"},
    owner_kind="ReplicaSet",
    owner_name="web-77",
    phase="Running",
    addresses=(ip_address("10.0.0.7"), ip_address("fd00::7")),
    ready=True,
)


async def lab(database: Database) -> int:
    return (await database.run(lambda tx: clusters.create(tx, cluster_name("lab"), "anna", NOW))).id


async def test_rows_come_back_as_they_were_written(database_url: str) -> None:
    async with opened(database_url) as database:
        cluster = await lab(database)
        node = KubeNode("w1", "n-1", "uuid", {"zone": "a"}, (ip_address("192.0.2.1"),), True, "bare://w1")
        shop = KubeNamespace("shop", "s-1", {"team": "a"}, {"fabricmgr.io/pool": "shop"})

        async def write(tx: Tx) -> tuple[int, int, int]:
            nodes = await kube_rows.write_nodes(tx, cluster, [node], NOW)
            return nodes, await kube_rows.write_namespaces(tx, cluster, [shop]), await kube_rows.write_pods(tx, cluster, [WEB])

        assert await database.run(write) == (1, 1, 1)
        async with database.read() as tx:
            assert await kube_rows.nodes(tx, cluster) == [node]
            assert await kube_rows.node(tx, cluster, "w1") == node
            assert await kube_rows.namespaces(tx, cluster) == [shop]
            assert await kube_rows.namespace(tx, cluster, "shop") == shop
            assert await kube_rows.pods(tx, cluster, "shop") == [WEB]
            assert await kube_rows.pod(tx, cluster, "shop", "web-1") == WEB
            assert await kube_rows.pod(tx, cluster, "shop", "web-2") is None


async def test_what_says_the_same_again_writes_nothing(database_url: str) -> None:
    async with opened(database_url) as database:
        cluster = await lab(database)
        other = replace(WEB, name="web-2", uid="u-2")
        await database.run(lambda tx: kube_rows.write_pods(tx, cluster, [WEB, other]))

        again = await database.run(lambda tx: kube_rows.write_pods(tx, cluster, [WEB, replace(other, phase="Failed")]))
        later = NOW + timedelta(seconds=9)
        first = await database.run(lambda tx: kube_rows.write_nodes(tx, cluster, [KubeNode("w1", "n-1")], NOW))
        same = await database.run(lambda tx: kube_rows.write_nodes(tx, cluster, [KubeNode("w1", "n-1")], later))

        assert (again, first, same) == (1, 1, 0)


async def test_a_pod_that_came_back_under_its_name_survives_the_end_of_the_old_one(database_url: str) -> None:
    async with opened(database_url) as database:
        cluster = await lab(database)
        await database.run(lambda tx: kube_rows.write_pods(tx, cluster, [WEB]))
        await database.run(lambda tx: kube_rows.write_pods(tx, cluster, [replace(WEB, uid="u-9")]))

        gone = await database.run(lambda tx: kube_rows.forget_pods(tx, cluster, ["u-1"]))

        assert gone == 0
        async with database.read() as tx:
            assert await kube_rows.uids(tx, cluster, "kube_pod") == {"u-9"}


async def test_rows_of_another_cluster_are_left_alone(database_url: str) -> None:
    async with opened(database_url) as database:
        cluster = await lab(database)
        other = (await database.run(lambda tx: clusters.create(tx, cluster_name("other"), "anna", NOW))).id
        for each in (cluster, other):
            await database.run(partial(kube_rows.write_pods, cluster_id=each, pods=[WEB]))

        await database.run(lambda tx: kube_rows.forget_pods(tx, cluster, ["u-1"]))

        async with database.read() as tx:
            assert (await kube_rows.pods(tx, cluster), await kube_rows.pods(tx, other)) == ([], [WEB])
