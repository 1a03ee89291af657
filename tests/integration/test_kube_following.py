"""Rows and transitions of a cluster, from what its API server shows; before, across and after restarts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from fabricmgr.controllers.cluster_view import ClusterView, Part, Parts
from fabricmgr.controllers.kube_rows import KubeRows
from fabricmgr.controllers.workloads import Workloads
from fabricmgr.domain.errors import ApiRefused
from fabricmgr.domain.names import cluster_name
from fabricmgr.kube.views import DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICA_SETS
from fabricmgr.services import clusters
from fabricmgr.store import api_rows, kube_rows, workload_rows
from fabricmgr.store.api_rows import ApiRow
from fabricmgr.store.tables import outbox, workload
from fabricmgr.store.tx import Database
from tests.support.database import NOW, opened
from tests.support.kube_source import Clock, KubeSource, following
from tests.support.poll import until


@dataclass
class Site:
    """A cluster whose API server is in memory."""

    database: Database
    api: ApiRow
    source: KubeSource = field(default_factory=KubeSource)
    clock: Clock = field(default_factory=Clock)

    def following(self, parts: Parts, *, first: bool = False) -> Any:
        return following(self.source, self.database, self.api, parts, self.clock, first=first)

    async def told(self) -> list[str]:
        """Names of events, in their order."""
        async with self.database.read() as tx:
            return [row.what for row in await tx.all(select(outbox.c.what).order_by(outbox.c.id)) if row.what != "ClusterCreated"]

    def deploy(self, available: int, *, wanted: int = 3, revision: str = "1", name: str = "web") -> None:
        self.source.put(
            DEPLOYMENTS,
            name,
            "shop",
            metadata={"generation": 1, "annotations": {"deployment.kubernetes.io/revision": revision}},
            spec={"replicas": wanted},
            status={"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "availableReplicas": available},
        )


@asynccontextmanager
async def site(url: str) -> AsyncIterator[Site]:
    async with opened(url) as database:
        lab = await database.run(lambda tx: clusters.create(tx, cluster_name("lab"), "anna", NOW))
        access = {"server": "https://api.invalid", "sealed": b"x", "in_cluster": False}
        await database.run(lambda tx: api_rows.put(tx, lab.id, access))
        async with database.read() as tx:
            row = await api_rows.find(tx, cluster_name("lab"))
        assert row is not None
        yield Site(database, row)


def workloads(view: ClusterView) -> list[Part]:
    return [Workloads(view)]


async def test_what_the_api_server_shows_is_in_rows_and_what_it_no_longer_shows_is_not(database_url: str) -> None:
    async with site(database_url) as lab:
        lab.source.put(
            NODES, "w1", status={"nodeInfo": {"systemUUID": "A-1"}, "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}
        )
        lab.source.put(NAMESPACES, "shop", metadata={"labels": {"team": "a"}})
        for number in range(1200):
            lab.source.put(PODS, f"p{number}", "shop", spec={"nodeName": "w1"}, status={"podIPs": [{"ip": "10.0.0.1"}, {"ip": "nonsense"}]})

        async def names() -> set[str]:
            async with lab.database.read() as tx:
                return {each.name for each in await kube_rows.pods(tx, lab.api.cluster_id)}

        async with lab.following(lambda view: [KubeRows(view)]):
            await until(lambda: count(names, 1200))
            lab.source.drop(PODS, "p7", "shop")
            lab.source.put(PODS, "p8", "shop", uid="another", status={"podIPs": [{"ip": "10.0.0.8"}, {"ip": "nonsense"}]})
            await until(lambda: count(names, 1199))
        lab.source.drop(PODS, "p9", "shop")  # while nobody looks
        async with lab.following(lambda view: [KubeRows(view)]):
            await until(lambda: count(names, 1198))

        async with lab.database.read() as tx:
            (node,) = await kube_rows.nodes(tx, lab.api.cluster_id)
            pod = await kube_rows.pod(tx, lab.api.cluster_id, "shop", "p8")
        assert (node.system_uuid, [str(each) for each in node.addresses]) == ("A-1", ["192.0.2.1"])
        assert pod is not None
        assert (pod.uid, [str(each) for each in pod.addresses]) == ("another", ["10.0.0.8"])


async def count(names: Any, wanted: int) -> bool:
    return len(await names()) == wanted


async def test_transitions_are_told_once_over_restarts_and_what_happened_meanwhile_too(database_url: str) -> None:
    async with site(database_url) as lab:
        lab.deploy(0)
        async with lab.following(workloads):
            await until(lambda: says(lab, ["WorkloadProgressing"]))
            lab.deploy(3)
            await until(lambda: says(lab, ["WorkloadProgressing", "WorkloadAvailable", "WorkloadComplete"]))
        async with lab.following(workloads) as view:
            await view.settled.wait()
        lab.deploy(3, revision="2")  # while nobody looks
        before = await lab.told()
        async with lab.following(workloads):
            await until(lambda: says(lab, [*before, "WorkloadProgressing", "WorkloadComplete"]))
        async with lab.following(workloads) as view:
            await view.settled.wait()
        assert before == ["WorkloadProgressing", "WorkloadAvailable", "WorkloadComplete"]
        assert len(await lab.told()) == 5


async def says(lab: Site, wanted: list[str]) -> bool:
    return await lab.told() == wanted


async def test_a_cluster_that_is_followed_for_the_first_time_tells_of_what_is_wrong_alone(database_url: str) -> None:
    async with site(database_url) as lab:
        lab.deploy(3)
        lab.deploy(1, name="short")

        async with lab.following(workloads, first=True) as view:
            await view.settled.wait()
            lab.clock.now += timedelta(seconds=40)
            lab.deploy(1, name="short")
            await until(lambda: says(lab, ["WorkloadDegraded"]))


async def test_pods_that_find_no_node_are_told_of_their_deployment_with_their_number(database_url: str) -> None:
    waits = {
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes: 2 Insufficient cpu."}]
    }
    async with site(database_url) as lab:
        lab.deploy(3)
        lab.source.put(
            REPLICA_SETS, "web-77", "shop", metadata={"ownerReferences": [{"kind": "Deployment", "name": "web", "controller": True}]}
        )

        async with lab.following(workloads, first=True) as view:
            await view.settled.wait()
            for name in ("a", "b"):
                owner = [{"kind": "ReplicaSet", "name": "web-77", "controller": True}]
                lab.source.put(PODS, name, "shop", metadata={"ownerReferences": owner}, status=waits)
            await until(lambda: remembered(lab))
            lab.clock.now += timedelta(seconds=3)
            lab.deploy(3)
            await until(lambda: says(lab, ["WorkloadUnschedulable"]))

        async with lab.database.read() as tx:
            about = await tx.value(select(outbox.c.about).where(outbox.c.what == "WorkloadUnschedulable"))
        assert (about["name"], about["pods"], about["resource"]) == ("web", 2, "cpu")


async def remembered(lab: Site) -> bool:
    async with lab.database.read() as tx:
        row = await tx.first(select(workload.c.state).where(workload.c.name == "web"))
    return row is not None and bool(row.state["met"])


async def test_a_deleted_workload_is_forgotten_and_its_namesake_begins_anew(database_url: str) -> None:
    async with site(database_url) as lab:
        lab.deploy(3)
        async with lab.following(workloads, first=True) as view:
            await view.settled.wait()
            lab.source.drop(DEPLOYMENTS, "web", "shop")
            await until(lambda: forgotten(lab))
            lab.deploy(3)
            await until(lambda: says(lab, ["WorkloadDeleted", "WorkloadProgressing", "WorkloadAvailable", "WorkloadComplete"]))


async def test_a_workload_that_was_deleted_while_nobody_looked_is_told_once(database_url: str) -> None:
    async with site(database_url) as lab:
        lab.deploy(3)
        async with lab.following(workloads, first=True) as view:
            await view.settled.wait()
        lab.source.drop(DEPLOYMENTS, "web", "shop")
        for _ in range(2):
            async with lab.following(workloads) as view:
                await view.settled.wait()

        assert await lab.told() == ["WorkloadDeleted"]
        assert await forgotten(lab)


async def forgotten(lab: Site) -> bool:
    async with lab.database.read() as tx:
        return not await workload_rows.keys(tx, lab.api.cluster_id)


async def test_a_kind_that_we_may_not_read_stops_nothing_else(database_url: str) -> None:
    async with site(database_url) as lab:
        lab.source.refused["daemonsets"] = ApiRefused("list", "daemonsets.apps", "no role")
        lab.deploy(3)

        async with lab.following(workloads) as view:
            await view.settled.wait()
            await until(lambda: says(lab, ["WorkloadProgressing", "WorkloadAvailable", "WorkloadComplete"]))
