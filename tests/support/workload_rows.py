"""A cluster with an API server, its workloads and their pods put into a running manager's database, as following it would."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from fabricmgr.app import local
from fabricmgr.domain.kube import KubePod
from fabricmgr.domain.workload import Obstacle, Place, Seen
from fabricmgr.services import clusters, workloads
from fabricmgr.settings import ManagerSettings
from fabricmgr.store import api_rows, kube_rows
from fabricmgr.store.tx import Tx
from tests.support.database import opened
from tests.support.serve_process import ServeProcess

POD = KubePod("shop", "web-1", "u1", "n1", {"pod-template-hash": "77"}, {}, "ReplicaSet", "web-77", False, "Running", ready=True)
WELL = Seen("u", True, revision="3", wanted=2, updated=2, available=2)
STUCK = replace(WELL, uid="v", available=0, obstacles={Obstacle("cpu", "Insufficient cpu"): 2})


def follow(served: ServeProcess) -> None:
    """The default cluster has workloads of two kinds, one of which waits for room. Its API server cannot be reached."""
    with local.database_url(ManagerSettings(data_dir=served.data_dir), lambda _: None) as url:
        asyncio.run(_follow(url))


async def _follow(url: str) -> None:
    async with opened(url) as database:
        await database.run(remember)


async def remember(tx: Tx) -> None:
    """A Deployment that is well, one whose pods find no node, a DaemonSet with a dot in its name, and two pods, of which one ended."""
    now = datetime.now(UTC)
    cluster = (await clusters.ensure_default(tx, now)).id
    await api_rows.put(tx, cluster, {"server": "https://192.0.2.1", "in_cluster": True, "server_version": "v1.37.2"})
    found = (("Deployment", "shop", "web", WELL), ("Deployment", "shop", "stuck", STUCK), ("DaemonSet", "kube-system", "log.agent", WELL))
    for kind, namespace, name, seen in found:
        place = Place("default", kind, namespace, name)
        await workloads.observe(tx, cluster, place, seen, now)
        await workloads.observe(tx, cluster, place, seen, now + timedelta(minutes=5))
    running = replace(POD, addresses=(ip_address("10.61.0.7"), ip_address("2001:db8:61::7")))
    ended = replace(running, name="web-0", uid="u0", phase="Succeeded")
    await kube_rows.write_pods(tx, cluster, [running, ended])
