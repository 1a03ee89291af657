"""Workloads of a cluster by Redfish: what was told of them, and the pods that hold addresses now."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from fabricmgr.domain.events import Event
from fabricmgr.domain.workload import Place
from fabricmgr.redfish.messages import messages_of
from fabricmgr.services import clusters, workloads
from fabricmgr.store.tables import outbox
from tests.integration.test_redfish import as_boss, service
from tests.support.database import NOW, opened
from tests.support.workload_rows import remember

pytestmark = pytest.mark.anyio

ZONE = "/redfish/v1/Fabrics/ethernet/Zones/default"
ALL = f"{ZONE}/Oem/FabricMgr/Workloads"


@asynccontextmanager
async def served(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with opened(url) as database:
        await database.run(remember)
    async with service(url) as client:
        await as_boss(client)
        yield client


def ids_of(found: Any) -> list[str]:
    return [each["@odata.id"].rpartition("/")[2] for each in found["Members"]]


async def test_a_cluster_links_to_its_workloads_and_each_shows_its_state_and_its_pods(database_url: str) -> None:
    async with served(database_url) as client:
        zone = (await client.get(ZONE)).json()
        every = (await client.get(ALL)).json()
        web, stuck = [(await client.get(f"{ALL}/Deployment.shop.{name}")).json() for name in ("web", "stuck")]

    assert zone["Oem"]["FabricMgr"]["Workloads"] == {"@odata.id": ALL}
    assert ids_of(every) == ["DaemonSet.kube-system.log.agent", "Deployment.shop.stuck", "Deployment.shop.web"]
    assert (web["Rollout"], web["Available"], web["Revision"], web["Unschedulable"]) == ("Complete", True, "3", [])
    assert web["Pods"] == [{"Name": "web-1", "Node": "n1", "Addresses": ["10.61.0.7", "2001:db8:61::7"], "Ready": True}]
    assert (web["PodCount"], stuck["PodCount"], stuck["Rollout"], "Available" in stuck) == (1, 0, "Progressing", False)
    assert [(each["Resource"], each["Reason"]) for each in stuck["Unschedulable"]] == [("cpu", "Insufficient cpu")]


async def test_workloads_are_filtered_by_kind_namespace_and_name(database_url: str) -> None:
    async with served(database_url) as client:
        kinds = (await client.get(f"{ALL}?$filter=Kind eq 'DaemonSet'")).json()
        named = (await client.get(f"{ALL}?$filter=Namespace eq 'shop' and WorkloadName eq 'web'&$expand=.")).json()
        page = (await client.get(f"{ALL}?$top=1&$skip=1")).json()
        none = (await client.get(f"{ALL}?$filter=Kind eq 7")).json()

    assert ids_of(kinds) == ["DaemonSet.kube-system.log.agent"]
    assert [each["WorkloadName"] for each in named["Members"]] == ["web"]
    assert (ids_of(page), page["Members@odata.count"], none["Members@odata.count"]) == (["Deployment.shop.stuck"], 3, 0)


async def test_what_is_no_workload_of_a_cluster_is_not_found(database_url: str) -> None:
    async with served(database_url) as client:
        paths = [
            f"{ALL}/{each}" for each in ("Deployment.shop.nobody", "Node..n1", "Pod.shop.web-1", "Deployment", "Deployment.shop", "web")
        ]
        paths += [each.replace("/Zones/default/", f"/Zones/{zone}/") for zone in ("Default", "nowhere", "default_racks") for each in (ALL,)]
        codes = {path: (await client.get(path)).status_code for path in paths}

    assert set(codes.values()) == {404}, codes


async def test_events_of_a_workload_lead_to_its_page(database_url: str) -> None:
    async with served(database_url) as client:
        async with opened(database_url) as database, database.read() as tx:
            rows = await tx.all(select(outbox.c.what, outbox.c.about).where(outbox.c.what.startswith("Workload")).order_by(outbox.c.id))
        told = [each for number, row in enumerate(rows) for each in messages_of(Event(number, NOW, row.what, row.about))]
        codes = {each.origin: (await client.get(each.origin)).status_code for each in told}

    assert set(codes) == {f"{ALL}/{name}" for name in ("Deployment.shop.web", "Deployment.shop.stuck", "DaemonSet.kube-system.log.agent")}
    assert set(codes.values()) == {200}


async def test_a_workload_is_forgotten_with_its_page(database_url: str) -> None:
    async with served(database_url) as client:
        async with opened(database_url) as database:
            cluster = await database.run(partial(clusters.ensure_default, now=NOW))
            await database.run(lambda tx: workloads.forget(tx, cluster.id, Place("default", "Deployment", "shop", "web")))

        assert (await client.get(f"{ALL}/Deployment.shop.web")).status_code == 404
