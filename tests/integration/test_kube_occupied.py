"""What a cluster uses without asking is kept out of pools, and is free again when the cluster uses it no more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fabricmgr.controllers.cluster_view import ClusterView, Part
from fabricmgr.controllers.kube_occupied import KubeOccupied
from fabricmgr.domain.names import DEFAULT_CLUSTER
from fabricmgr.domain.service import Asked
from fabricmgr.kube.views import SERVICE_CIDRS, SERVICES
from fabricmgr.services import service_addresses
from fabricmgr.services.service_addresses import Settled, Shown
from fabricmgr.store import api_rows
from tests.support.kube_source import KubeSource, following
from tests.support.poll import until
from tests.support.writing import Site, site

pytestmark = pytest.mark.anyio


class Lab:
    """A cluster whose Services and ranges are followed, with a pool for Services."""

    def __init__(self, here: Site, api: Any) -> None:
        self.here = here
        self.api = api
        self.source = KubeSource()

    async def reserved(self) -> dict[str, str]:
        return {str(row["cidr"]): row["reason"] for row in await self.here.sql.fetch("select cidr, reason from reservation")}

    async def asks(self, address: str, name: str = "web") -> Settled:
        asked = Asked(families=("IPv4",), ports=("TCP/80",), annotations={"fabricmgr.io/addresses": address})
        shown = Shown("shop", name, name, {}, asked)
        return await self.here.database.run(
            lambda tx: service_addresses.settle(tx, self.api.cluster_id, DEFAULT_CLUSTER, shown, self.here.clock())
        )

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[ClusterView]:
        def parts(view: ClusterView) -> list[Part]:
            return [KubeOccupied(view)]

        async with following(self.source, self.here.database, self.api, parts, self.here.clock) as view:
            yield view


@asynccontextmanager
async def lab(url: str) -> AsyncIterator[Lab]:
    async with site(url) as here:
        await here.pool("front", "198.51.100.0/28", purpose="Service", cooldown=0)
        number = await here.sql.fetchval("select id from cluster")
        access = {"server": "https://api.invalid", "sealed": b"x", "in_cluster": False, "service_ranges": []}
        await here.database.run(lambda tx: api_rows.put(tx, number, access))
        async with here.database.read() as tx:
            row = await api_rows.find(tx, DEFAULT_CLUSTER)
        assert row is not None
        yield Lab(here, row)


async def keeps(here: Lab, *cidrs: str) -> bool:
    return set(await here.reserved()) == set(cidrs)


async def test_external_addresses_of_services_are_nobody_elses_until_the_service_goes(database_url: str) -> None:
    async with lab(database_url) as here, here.followed() as view:
        here.source.put(SERVICES, "own", "shop", spec={"externalIPs": ["198.51.100.5", "203.0.113.5", "nonsense"]})
        await until(lambda: keeps(here, "198.51.100.5/32"))
        why = await here.reserved()
        refused = await here.asks("198.51.100.5")
        here.source.put(SERVICES, "own", "shop", spec={"externalIPs": ["198.51.100.6"]})
        await until(lambda: keeps(here, "198.51.100.6/32"))
        here.source.drop(SERVICES, "own", "shop")
        await until(lambda: keeps(here))
        given = await here.asks("198.51.100.5")

        assert why["198.51.100.5/32"] == "externalIPs of Service shop/own, cluster default"
        assert "externalIPs of Service shop/own" in refused.reason
        assert [str(each) for each in given.addresses] == ["198.51.100.5"]
        assert view.notes["occupied"] == ""


async def test_one_that_somebody_holds_is_named_and_a_reservation_of_people_stays(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.asks("198.51.100.5")
        await here.here.sql.execute("insert into reservation select id, '198.51.100.6/32', 'by hand', now() from prefix")
        here.source.put(SERVICES, "own", "shop", spec={"externalIPs": ["198.51.100.5", "198.51.100.6", "198.51.100.7"]})
        async with here.followed() as view:
            await until(lambda: keeps(here, "198.51.100.6/32", "198.51.100.7/32"))
            await until(lambda: noted(view, "198.51.100.5"))
            here.source.drop(SERVICES, "own", "shop")
            await until(lambda: keeps(here, "198.51.100.6/32"))

        assert await here.reserved() == {"198.51.100.6/32": "by hand"}


async def noted(view: ClusterView, word: str) -> bool:
    return word in view.notes.get("occupied", "")


async def test_a_service_range_that_grows_into_a_pool_is_kept_out_of_it_and_named(database_url: str) -> None:
    async with lab(database_url) as here, here.followed() as view:
        here.source.put(SERVICE_CIDRS, "first", spec={"cidrs": ["10.96.0.0/16"]})
        await until(lambda: ranges(here, "10.96.0.0/16"))
        here.source.put(SERVICE_CIDRS, "second", spec={"cidrs": ["198.51.100.8/29"]})
        await until(lambda: keeps(here, "198.51.100.8/29"))
        await until(
            lambda: noted(view, "the service range 198.51.100.8/29 of cluster 'default' meets prefix 198.51.100.0/28 of pool 'front'")
        )
        refused = await here.asks("198.51.100.9")
        outside = await here.asks("198.51.100.3", "other")
        here.source.drop(SERVICE_CIDRS, "second")
        await until(lambda: ranges(here, "10.96.0.0/16", "198.51.100.8/29"))

        assert "service range 198.51.100.8/29 of cluster default" in refused.reason
        assert [str(each) for each in outside.addresses] == ["198.51.100.3"]


async def ranges(here: Lab, *wanted: str) -> bool:
    found = await here.here.sql.fetchval("select service_ranges from cluster_api")
    return sorted(map(str, found)) == sorted(wanted)


async def test_whoever_may_write_services_cannot_reserve_a_whole_pool(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.here.pool("wide", "192.0.2.0/23", purpose="Service", cooldown=0)
        for number in range(2):
            addresses = [f"192.0.{2 + number}.{host}" for host in range(1, 201)]
            here.source.put(SERVICES, f"greedy-{number}", "shop", spec={"externalIPs": addresses})
        async with here.followed() as view:
            await until(lambda: noted(view, "only 256 of 400 externalIPs"))

            assert len(await here.reserved()) == 256
