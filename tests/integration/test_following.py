"""Clusters are followed each by itself: one that cannot be reached, or refuses us, says so and holds up no other."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import select

from fabricmgr.controllers.cluster_view import ClusterView, Part
from fabricmgr.controllers.following import Following, Means
from fabricmgr.domain.names import ClusterName, cluster_name
from fabricmgr.services import clusters
from fabricmgr.services.cluster_apis import sealed_name
from fabricmgr.store import api_rows
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tables import outbox
from fabricmgr.store.tx import Database, Tx
from tests.support.database import NOW, opened
from tests.support.kube_source import Clock
from tests.support.poll import until

SEALER = Sealer(bytes(32))


async def here(host: str, port: int) -> IPv4Address:
    del host, port
    return IPv4Address("127.0.0.1")


def nothing(view: ClusterView) -> list[Part]:
    view.settled.set()
    return []


async def add(database: Database, name: str, kubeconfig: str) -> ClusterName:
    made = cluster_name(name)
    found = await database.run(lambda tx: clusters.create(tx, made, "anna", NOW))
    sealed = SEALER.seal(sealed_name(made), kubeconfig.encode())
    await database.run(lambda tx: api_rows.put(tx, found.id, {"server": f"https://{name}.invalid", "sealed": sealed, "in_cluster": False}))
    return made


async def state(database: Database, name: ClusterName) -> tuple[str, str]:
    async with database.read() as tx:
        row = await api_rows.find(tx, name)
    assert row is not None
    return row.state, row.reason


async def told(database: Database, what: str) -> list[dict[str, Any]]:
    async with database.read() as tx:
        return [row.about for row in await tx.all(select(outbox.c.about).where(outbox.c.what == what))]


@asynccontextmanager
async def running(database: Database, clock: Clock) -> AsyncIterator[Following]:
    following = Following(Means(database, SEALER, here, clock, lambda: 0.0, nothing))
    task = asyncio.create_task(following.run())
    try:
        yield following
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def kubeconfig(server: str, **user: object) -> str:
    access = user or {"token": "t"}
    return json.dumps(
        {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": access}],
        }
    )


async def test_a_cluster_that_cannot_be_reached_and_one_that_is_refused_say_so_once(database_url: str) -> None:
    """One's trouble is not the other's, and trying again tells nothing twice."""
    async with opened(database_url) as database:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        away = await add(database, "away", kubeconfig(f"https://away.invalid:{port}"))
        unsafe = await add(database, "unsafe", kubeconfig("https://unsafe.invalid", exec={"command": "id"}))

        async with running(database, Clock()):
            await until(lambda: said(database, away, "unreachable"))
            await until(lambda: said(database, unsafe, "refused"))
            await asyncio.sleep(1.5)  # until both were tried again

        assert "exec" in (await state(database, unsafe))[1]
        assert sorted(each["cluster"] for each in await told(database, "ClusterUnreachable")) == ["away", "unsafe"]


async def said(database: Database, name: ClusterName, wanted: str) -> bool:
    return (await state(database, name))[0] == wanted


async def test_a_cluster_that_is_reached_in_another_way_is_begun_anew_and_one_that_is_gone_is_left(database_url: str) -> None:
    async with opened(database_url) as database:
        lab = await add(database, "lab", kubeconfig("https://lab.invalid", exec={"command": "id"}))
        following = Following(Means(database, SEALER, here, Clock(), lambda: 0.0, nothing))

        await following.look()
        await until(lambda: said(database, lab, "refused"))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        sealed = SEALER.seal(sealed_name(lab), kubeconfig(f"https://lab.invalid:{port}").encode())
        await database.run(lambda tx: change(tx, lab, sealed))
        two = await following.look()
        await until(lambda: said(database, lab, "unreachable"))
        await database.run(lambda tx: remove(tx, lab))
        none = await following.look()

        assert (two.sentence, none.sentence) == ("1 clusters are followed", "0 clusters are followed")


async def change(tx: Tx, name: ClusterName, sealed: bytes) -> None:
    row = await api_rows.find(tx, name)
    assert row is not None
    await api_rows.put(tx, row.cluster_id, {"server": row.server, "sealed": sealed, "in_cluster": False})


async def remove(tx: Tx, name: ClusterName) -> None:
    row = await api_rows.find(tx, name)
    assert row is not None
    await api_rows.delete(tx, row.cluster_id)
