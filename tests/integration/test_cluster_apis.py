"""A process asks a cluster's API server with the access that is in force."""

import asyncio
import json

import pytest

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.names import DEFAULT_CLUSTER
from fabricmgr.services import cluster_apis, clusters
from fabricmgr.services.cluster_apis import ClusterApis
from fabricmgr.store import api_rows, cluster_rows
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database, Tx
from tests.support.database import NOW, opened
from tests.support.guarded_api import GuardedApi, guarded_api
from tests.support.kube_api import dial
from tests.support.poll import until

SEALER = Sealer(b"m" * 32)


def sealed(token: str) -> bytes:
    """A kubeconfig as it lies in the database."""
    document = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "https://192.0.2.20:6443"}}],
        "users": [{"name": "a", "user": {"token": token}}],
    }
    return SEALER.seal(cluster_apis.sealed_name(DEFAULT_CLUSTER), json.dumps(document).encode())


async def nowhere(host: str, port: int) -> Address:
    raise AssertionError(f"{host}:{port} is not to be asked")


async def test_access_that_was_forgotten_and_given_anew_is_not_the_former_one(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.run(lambda tx: clusters.ensure_default(tx, NOW))

        async def put(tx: Tx, text: bytes) -> None:
            found = await cluster_rows.get(tx, DEFAULT_CLUSTER)
            await api_rows.delete(tx, found.id)
            values = {"server": "https://192.0.2.20:6443", "sealed": text, "in_cluster": False}
            await api_rows.put(tx, found.id, values)

        apis = ClusterApis(database, SEALER, nowhere)
        with pytest.raises(NotFound):
            await apis.client(DEFAULT_CLUSTER)
        await database.run(lambda tx: put(tx, sealed("one")))
        first = await apis.client(DEFAULT_CLUSTER)
        same = await apis.client(DEFAULT_CLUSTER)
        await database.run(lambda tx: put(tx, sealed("two")))
        second = await apis.client(DEFAULT_CLUSTER)
        await apis.close()

    assert first is same
    assert second is not first
    assert second.access.token is not None
    assert second.access.token() == "two"


async def put(database: Database, api: GuardedApi, token: str) -> None:
    async def change(tx: Tx) -> None:
        await clusters.ensure_default(tx, NOW)
        found = await cluster_rows.get(tx, DEFAULT_CLUSTER)
        text = SEALER.seal(cluster_apis.sealed_name(DEFAULT_CLUSTER), api.kubeconfig(token).encode())
        await api_rows.put(tx, found.id, {"server": api.url, "sealed": text, "in_cluster": False})

    await database.run(change)


async def test_a_call_that_is_under_way_when_credentials_change_gets_its_answer(database_url: str) -> None:
    async with opened(database_url) as database, guarded_api() as api:
        api.tokens = {"one", "two"}
        apis = ClusterApis(database, SEALER, dial)
        await put(database, api, "one")
        former = await apis.client(DEFAULT_CLUSTER)
        api.gate.clear()

        async def asked() -> bool:
            return api.paths == ["/version"]

        under_way = asyncio.create_task(former.version())
        await until(asked)

        await put(database, api, "two")
        newer = await apis.client(DEFAULT_CLUSTER)
        api.gate.set()
        answers = [await under_way, await former.version(), await newer.version()]
        await apis.close()

    assert [each.git_version for each in answers] == ["v1.37.2"] * 3
    assert [each.headers["authorization"] for each in api.asked] == ["Bearer one", "Bearer one", "Bearer two"]


async def test_a_client_of_former_credentials_is_closed_when_nobody_can_be_using_it(database_url: str) -> None:
    async with opened(database_url) as database, guarded_api() as api:
        apis = ClusterApis(database, SEALER, dial, farewell=0)
        await put(database, api, "one")
        former = await apis.client(DEFAULT_CLUSTER)

        await put(database, api, "two")
        newer = await apis.client(DEFAULT_CLUSTER)
        api.tokens = {"one", "two"}

        async def closed() -> bool:
            return former.closed

        await until(closed)
        answered = await newer.version()
        await apis.close()

    assert answered.git_version == "v1.37.2"
