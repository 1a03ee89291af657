"""A StatefulSet's ordinal keeps its address: its next pod gets it again, and nobody else meanwhile."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import msgspec
import pytest

from fabricmgr import wire
from fabricmgr.controllers.kube_sticky import KubeSticky, ordinals
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.errors import AddressOfFormer, PoolExhausted
from fabricmgr.domain.kube import KubeNamespace, KubePod
from fabricmgr.domain.names import DEFAULT_CLUSTER, NetworkName
from fabricmgr.domain.owner import SetPlace
from fabricmgr.kube.views import STATEFUL_SETS, StatefulSet
from fabricmgr.services import api_servers, selecting, sticky
from fabricmgr.store import api_rows, kube_rows
from fabricmgr.store.api_rows import ApiRow
from fabricmgr.store.tx import Tx
from tests.support.kube_source import KubeSource, following
from tests.support.poll import until
from tests.support.writing import Site, change, site

SIX = "10.20.0.0/29"  # without its ends: six addresses
COOLDOWN = 60.0
STICKY = {"fabricmgr.io/sticky": "true"}
DB_0 = SetPlace(DEFAULT_CLUSTER, "shop", "db", 0, NetworkName("pods"))


class Cluster:
    """A site with an API server that shows the pods it is told to, and a node that says when links are gone."""

    def __init__(self, here: Site, cluster_id: int, node: NodePrincipal) -> None:
        self.here, self.id, self.node = here, cluster_id, node
        self.life, self.reports = uuid4(), 0

    async def show(self, *pods: KubePod, allowed: str = "allowed") -> None:
        async def write(tx: Tx) -> None:
            await kube_rows.write_namespaces(tx, self.id, [KubeNamespace("shop", "s-1", {"fabricmgr.io/pod-pools": allowed})])
            await kube_rows.write_pods(tx, self.id, pods)
            await selecting.refresh(tx, self.id)

        await self.here.database.run(write)

    async def begin(self, pod: KubePod) -> list[wire.BlockAddress]:
        """The container is named as the pod's uid."""
        await self.show(pod)
        return await self.attach(pod)

    async def attach(self, pod: KubePod) -> list[wire.BlockAddress]:
        return (await self.here.attach(self.node, pod.uid, namespace="shop", pod=pod.name, uid=pod.uid)).addresses

    async def end(self, pod: KubePod, had: Sequence[wire.BlockAddress], *, link: bool = False) -> None:
        """link: it is there still."""
        await self.here.detach(self.node, pod.uid, had[0].generation)
        if not link:
            self.reports += 1
            await self.here.report(self.node, self.life, self.reports, change("gone", pod.uid, *had, at=self.here.clock()))

    async def keep(self) -> int:
        return await self.here.database.run(partial(sticky.keep, cluster_id=self.id, now=self.here.clock()))

    async def forget(self, place: SetPlace) -> None:
        await self.here.database.run(partial(sticky.forget, gone=[place], now=self.here.clock()))

    async def api(self) -> ApiRow:
        async with self.here.database.read() as tx:
            row = await api_rows.find(tx, DEFAULT_CLUSTER)
        assert row is not None
        return row

    async def is_held_by(self, had: Sequence[wire.BlockAddress], kind: str) -> bool:
        return await self.held_by(had[0].address) == kind

    async def held_by(self, address: str) -> str:
        return str(await self.here.sql.fetchval("select kind from allocation where address4 = $1::text::inet", address))


@asynccontextmanager
async def cluster(url: str, cooldown: float = COOLDOWN) -> AsyncIterator[Cluster]:
    async with site(url) as here:
        await here.network("pods", await here.pool("plain", SIX, central=True, cooldown=cooldown))
        query = "insert into cluster_api (cluster_id, server, in_cluster) select id, 'https://k', true from cluster returning cluster_id"
        made = Cluster(here, await here.sql.fetchval(query), await here.node("w1"))
        await here.hello(made.node, made.life, uuid4())
        yield made


def pod(name: str = "db-0", uid: str = "one", *, kind: str = "StatefulSet", **annotations: str) -> KubePod:
    owner = name.rpartition("-")[0]
    return KubePod("shop", name, uid, "w1", annotations=annotations or STICKY, owner_kind=kind, owner_name=owner)


def texts(addresses: Sequence[wire.BlockAddress]) -> list[str]:
    return [each.address for each in addresses]


async def test_the_next_pod_of_an_ordinal_gets_its_address_at_once_and_long_after(database_url: str) -> None:
    async with cluster(database_url) as here:
        first = await here.begin(pod())
        await here.end(pod(), first)
        second = await here.begin(pod(uid="two"))  # nobody looked in between
        await here.end(pod(uid="two"), second)
        await here.keep()
        here.here.clock.go(10 * COOLDOWN)
        third = await here.begin(pod(uid="three"))

        assert texts(first) == texts(second) == texts(third)
        assert third[0].generation > second[0].generation > first[0].generation
        assert await here.held_by(first[0].address) == "attachment"


async def test_while_there_is_no_pod_nobody_else_gets_it(database_url: str) -> None:
    async with cluster(database_url) as here:
        had = await here.begin(pod())
        await here.end(pod(), had)
        kept = await here.keep()
        again = await here.keep()
        here.here.clock.go(10 * COOLDOWN)
        others = [texts(await here.begin(pod(f"web-{number}", f"w{number}", kind="ReplicaSet"))) for number in range(5)]
        with pytest.raises(PoolExhausted):
            await here.begin(pod("web-5", "w5", kind="ReplicaSet"))

        assert (kept, again) == (1, 0)
        assert had[0].address not in {each for found in others for each in found}
        assert await here.held_by(had[0].address) == "statefulset"


async def test_a_pod_waits_until_the_one_before_it_has_no_link_any_more(database_url: str) -> None:
    async with cluster(database_url) as here:
        had = await here.begin(pod())
        with pytest.raises(AddressOfFormer) as living:
            await here.begin(pod(uid="two"))
        await here.end(pod(), had, link=True)
        kept = await here.keep()
        with pytest.raises(AddressOfFormer):
            await here.attach(pod(uid="two"))
        await here.end(pod(), had)

        assert texts(await here.attach(pod(uid="two"))) == texts(had)
        assert (living.value.address, living.value.place) == (had[0].address, "StatefulSet shop/db ordinal 0 network pods")
        assert kept == 0


async def test_the_same_attachment_again_gets_the_same_answer(database_url: str) -> None:
    async with cluster(database_url) as here:
        had = await here.begin(pod())

        assert await here.attach(pod()) == had


async def test_what_is_followed_decides_how_long_an_ordinal_keeps_its_address(database_url: str) -> None:
    async with cluster(database_url) as here:
        source = KubeSource()
        source.put(STATEFUL_SETS, "db", "shop", spec={"replicas": 1})
        had = await here.begin(pod())
        async with following(source, here.here.database, await here.api(), lambda view: [KubeSticky(view)], here.here.clock):
            await here.end(pod(), had)
            await until(lambda: here.is_held_by(had, "statefulset"))
            source.put(STATEFUL_SETS, "db", "shop", spec={"replicas": 1, "ordinals": {"start": 0}})
            kept = await here.held_by(had[0].address)
            source.put(STATEFUL_SETS, "db", "shop", spec={"replicas": 0})
            await until(lambda: here.is_held_by(had, "None"))

        assert kept == "statefulset"
        assert await here.here.sql.fetchval("select count(*) from sticky") == 0


async def test_a_set_that_is_gone_keeps_nothing(database_url: str) -> None:
    async with cluster(database_url) as here:
        had = await here.begin(pod())
        await here.end(pod(), had)
        await here.keep()
        async with following(KubeSource(), here.here.database, await here.api(), lambda view: [KubeSticky(view)], here.here.clock):
            await until(lambda: here.is_held_by(had, "None"))

        assert await here.here.sql.fetchval("select count(*) from sticky") == 0


async def test_a_cluster_whose_api_server_is_forgotten_keeps_nothing_for_pods_that_are_away(database_url: str) -> None:
    async with cluster(database_url) as here:
        had = await here.begin(pod())
        await here.end(pod(), had)
        await here.keep()
        await here.here.database.run(lambda tx: api_servers.forget(tx, DEFAULT_CLUSTER, here.here.clock()))

        assert await here.is_held_by(had, "None")


@pytest.mark.parametrize(("spec", "wanted"), [({}, [0]), ({"replicas": 2}, [0, 1]), ({"replicas": 2, "ordinals": {"start": 5}}, [5, 6])])
def test_ordinals_are_as_many_as_replicas_from_where_they_start(spec: dict[str, object], wanted: list[int]) -> None:
    assert list(ordinals(msgspec.convert({"spec": spec}, StatefulSet))) == wanted


async def test_an_ordinal_that_is_no_more_gives_its_address_back_to_rest(database_url: str) -> None:
    async with cluster(database_url) as here:
        had = await here.begin(pod())
        await here.end(pod(), had)
        await here.keep()
        await here.forget(DB_0)
        await here.forget(DB_0)
        kept = await here.keep()

        assert await here.here.sql.fetchval("select count(*) from allocation") == 0
        assert await here.here.sql.fetchval("select count(*) from spare where address = $1::text::inet", had[0].address) == 1
        assert kept == 0


async def test_an_ordinal_that_is_no_more_leaves_a_pod_that_lives_its_address(database_url: str) -> None:
    async with cluster(database_url) as here:
        had = await here.begin(pod())
        await here.forget(DB_0)

        assert await here.held_by(had[0].address) == "attachment"


async def test_who_had_it_says_so_of_the_time_between_pods_too(database_url: str) -> None:
    async with cluster(database_url) as here:
        had = await here.begin(pod())
        await here.end(pod(), had)
        await here.keep()

        said = await here.here.sql.fetchval("select detail from history where what = 'assigned' order by id desc limit 1")
        assert json.loads(said)["owner"] == "StatefulSet shop/db ordinal 0 network pods"


@pytest.mark.parametrize(
    ("shown", "allowed"),
    [
        (pod(**{"fabricmgr.io/sticky": "false"}), "allowed"),
        (pod(kind="ReplicaSet"), "allowed"),
        (KubePod("shop", "db-x", "one", "w1", annotations=STICKY, owner_kind="StatefulSet", owner_name="db"), "allowed"),
        (KubePod("shop", "db-99999999999", "one", "w1", annotations=STICKY, owner_kind="StatefulSet", owner_name="db"), "allowed"),
        (pod(), "no"),
    ],
    ids=["not asked for", "no StatefulSet", "no ordinal", "no number", "namespace not allowed"],
)
async def test_only_pods_of_statefulsets_that_ask_and_may_keep_addresses(database_url: str, shown: KubePod, allowed: str) -> None:
    async with cluster(database_url) as here:
        await here.show(shown, allowed=allowed)
        await here.attach(shown)

        assert await here.here.sql.fetchval("select count(*) from sticky") == 0


async def test_an_address_whose_pool_left_the_network_is_given_up(database_url: str) -> None:
    async with cluster(database_url) as here:
        had = await here.begin(pod())
        await here.end(pod(), had)
        await here.here.sql.execute("delete from network_pool")
        await here.here.sql.execute(
            "insert into network_pool select n.id, $1, 0 from network n", await here.here.pool("other", "10.21.0.0/29", central=True)
        )
        kept = await here.keep()
        now = await here.begin(pod(uid="two"))

        assert kept == 0
        assert now[0].address.startswith("10.21.0.")
