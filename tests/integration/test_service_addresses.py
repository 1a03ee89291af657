"""Addresses of Services on a real database: given once, kept, shared, changed in place, given back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from fabricmgr.domain.names import DEFAULT_CLUSTER
from fabricmgr.domain.service import Asked
from fabricmgr.services import service_addresses, service_waiting
from fabricmgr.services.service_addresses import Settled, Shown
from fabricmgr.services.service_leaving import Leaving
from fabricmgr.services.service_waiting import Stamp
from tests.support.writing import Site, site

pytestmark = pytest.mark.anyio

POOL = "198.51.100.0/28"


class Services:
    """A site with a cluster whose Services are followed."""

    def __init__(self, here: Site, cluster_id: int) -> None:
        self.here = here
        self.id = cluster_id

    async def settle(self, shown: Shown) -> Settled:
        return await self.here.database.run(lambda tx: service_addresses.settle(tx, self.id, DEFAULT_CLUSTER, shown, self.here.clock()))

    async def address(self, shown: Shown) -> str:
        found = await self.settle(shown)
        assert found.reason == ""
        return str(found.addresses[0])

    async def withdraw(self, name: str) -> list[str]:
        withdrawn = await self.here.database.run(lambda tx: Leaving(tx, self.id, DEFAULT_CLUSTER, self.here.clock()).withdraw("shop", name))
        assert not withdrawn.waits
        return [each.what for each in withdrawn.told]

    async def held(self) -> int:
        return int(await self.here.sql.fetchval("select count(*) from allocation"))


@asynccontextmanager
async def services(url: str, *prefixes: str, cooldown: float = 0) -> AsyncIterator[Services]:
    async with site(url) as here:
        await here.pool("front", *(prefixes or (POOL,)), purpose="Service", cooldown=cooldown)
        number = await here.sql.fetchval("select id from cluster")
        yield Services(here, number)


def shown(name: str = "web", uid: str = "u-1", *, annotations: dict[str, str] | None = None, **asked: Any) -> Shown:
    plain: dict[str, Any] = {"families": ("IPv4",), "ports": ("TCP/80",)}
    kept = {f"fabricmgr.io/{key}": value for key, value in (annotations or {}).items()}
    return Shown("shop", name, uid, {}, Asked(**(plain | asked), annotations=kept))


async def test_a_service_gets_an_address_once_and_is_told_of_once(database_url: str) -> None:
    async with services(database_url) as here:
        first = await here.settle(shown())
        again = await here.settle(shown())

        assert [each.what for each in first.told] == ["ServiceAddressAssigned"]
        assert (again.addresses, again.told) == (first.addresses, ())
        assert await here.held() == 1


async def test_a_service_of_the_same_name_gets_its_former_address_where_it_is_free(database_url: str) -> None:
    async with services(database_url) as here:
        await here.settle(shown("other"))
        former = await here.address(shown())
        assert await here.withdraw("web") == ["ServiceAddressWithdrawn"]
        assert await here.withdraw("web") == []
        await here.withdraw("other")  # whose address comes before it

        assert await here.address(shown(uid="u-2")) == former


async def test_an_address_that_rests_returns_to_its_service_and_to_no_other(database_url: str) -> None:
    async with services(database_url, cooldown=600) as here:
        both: dict[str, Any] = {"families": ("IPv4", "IPv6"), "policy": "RequireDualStack"}
        await here.here.pool("six", "2001:db8::/120", purpose="Service", cooldown=600)
        former = (await here.settle(shown(**both))).addresses
        moved = (await here.settle(shown(**both, annotations={"addresses": "198.51.100.9"}))).addresses
        back = (await here.settle(shown(**both, annotations={"addresses": str(former[0])}))).addresses
        await here.withdraw("web")
        other = await here.settle(shown("other", annotations={"addresses": str(former[0])}))
        third = await here.settle(shown("third", **both))
        again = await here.settle(shown(uid="u-2", **both))

        assert str(moved[0]) == "198.51.100.9"
        assert again.addresses == back
        assert back[0] == former[0]
        assert other.addresses == ()
        assert "cooling until" in other.reason
        assert not set(third.addresses) & {*former, *back}


async def test_an_address_outside_the_pool_that_is_named_is_refused_by_both_names_until_one_is_corrected(database_url: str) -> None:
    """F026: neither annotation is honoured alone, and looking again writes nothing."""
    async with services(database_url) as here:
        await here.here.pool("blue", "192.0.2.0/28", purpose="Service")
        wrong = shown(annotations={"pool": "blue", "addresses": "198.51.100.9"})
        refused = [await here.settle(wrong) for _ in range(10)]
        version = await here.here.sql.fetchval("select version from service")
        other_pool = await here.settle(shown(annotations={"pool": "front", "addresses": "198.51.100.9"}))
        await here.settle(wrong)
        other_address = await here.settle(shown(annotations={"pool": "blue", "addresses": "192.0.2.9"}))

        assert {each.reason for each in refused} == {refused[0].reason}
        assert "198.51.100.9" in refused[0].reason
        assert "pool 'blue'" in refused[0].reason
        assert ([len(each.told) for each in refused], version) == ([1] + [0] * 9, 1)
        assert [str(each) for each in other_pool.addresses] == ["198.51.100.9"]
        assert [str(each) for each in other_address.addresses] == ["192.0.2.9"]


async def test_one_that_waits_for_an_address_gets_it_once_it_has_rested(database_url: str) -> None:
    """F025: the former owner's claim ends with the cooldown, and it blocks nobody for ever."""
    wanted = {"addresses": "198.51.100.9"}
    async with services(database_url, cooldown=600) as here:
        await here.settle(shown("old", annotations=wanted))
        held = await here.settle(shown("new", annotations=wanted))
        await here.withdraw("old")
        resting = await here.settle(shown("new", annotations=wanted))
        here.here.clock.go(601)
        then = await here.settle(shown("new", annotations=wanted))
        late = await here.settle(shown("old", uid="u-9"))

        assert "Service shop/old" in held.reason
        assert "cooling until 2026-03-01T12:10:00" in resting.reason
        assert ([each.what for each in then.told], str(then.addresses[0])) == (["ServiceAddressAssigned"], "198.51.100.9")
        assert late.reason == ""
        assert late.addresses != then.addresses


async def test_sharing_takes_one_key_disjoint_ports_and_one_traffic_policy(database_url: str) -> None:
    async with services(database_url) as here:
        key = {"sharing-key": "edge"}
        first = await here.address(shown("a", annotations=key))
        second = await here.address(shown("b", annotations=key, ports=("UDP/80",)))
        port = await here.settle(shown("c", annotations=key))
        traffic = await here.settle(shown("d", annotations=key, ports=("TCP/81",), traffic="Local"))

        assert first == second
        assert "port TCP/80 is taken there" in port.reason
        assert "externalTrafficPolicy" in traffic.reason
        await here.withdraw("a")
        assert await here.held() == 1
        await here.withdraw("b")
        assert await here.held() == 0


async def test_another_address_is_taken_before_the_old_one_goes_and_a_refused_one_leaves_it(database_url: str) -> None:
    async with services(database_url) as here:
        old = await here.address(shown())
        other = await here.address(shown("other"))
        taken = await here.settle(shown(annotations={"addresses": other}))
        outside = await here.settle(shown(annotations={"addresses": "203.0.113.1"}))
        moved = await here.settle(shown(annotations={"addresses": "198.51.100.9"}))

        assert (str(taken.addresses[0]), str(outside.addresses[0])) == (old, old)
        assert other in taken.reason
        assert "203.0.113.1" in outside.reason
        assert [str(each) for each in moved.addresses] == ["198.51.100.9"]
        assert [each.what for each in moved.told] == ["ServiceAddressAssigned", "ServiceAddressWithdrawn"]
        assert await here.held() == 2


async def test_one_that_finds_none_is_told_of_once_and_gets_one_when_there_is_one(database_url: str) -> None:
    async with services(database_url, "198.51.100.0/32") as here:
        await here.settle(shown("first"))
        pending = await here.settle(shown())
        again = await here.settle(shown())
        await here.withdraw("first")
        then = await here.settle(shown())

        assert [each.what for each in pending.told] == ["ServicePending"]
        assert pending.addresses == again.addresses == ()
        assert (again.told, again.reason) == ((), pending.reason)
        assert [each.what for each in then.told] == ["ServiceAddressAssigned"]


async def test_two_families_are_all_or_nothing_where_required_and_the_second_comes_later_where_preferred(database_url: str) -> None:
    async with services(database_url) as here:
        both = ("IPv4", "IPv6")
        required = await here.settle(shown("strict", families=both, policy="RequireDualStack"))
        preferred = await here.settle(shown(families=both, policy="PreferDualStack"))
        assert required.addresses == ()
        assert "IPv6" in required.reason
        assert [each.version for each in preferred.addresses] == [4]

        await here.here.pool("six", "2001:db8::/120", purpose="Service")
        grown = await here.settle(shown(families=both, policy="PreferDualStack"))

        assert [each.version for each in grown.addresses] == [4, 6]
        assert grown.addresses[0] == preferred.addresses[0]
        assert len((await here.settle(shown("strict", families=both, policy="RequireDualStack"))).addresses) == 2


async def test_a_pool_that_is_named_must_be_there_and_an_edit_of_pools_takes_nothing_away(database_url: str) -> None:
    async with services(database_url) as here:
        unknown = await here.settle(shown(annotations={"pool": "nowhere"}))
        kept = await here.address(shown("kept"))
        await here.here.sql.execute("update pool set draining = true")

        assert "names pool 'nowhere'" in unknown.reason
        assert await here.address(replace(shown("kept"), uid="u-9")) == kept


async def test_what_waiting_services_wait_for_changes_when_something_could_help_them_and_not_else(database_url: str) -> None:
    async with services(database_url, "198.51.100.0/31", cooldown=60) as here:

        async def stamp() -> Stamp:
            async with here.here.database.read() as tx:
                return await service_waiting.stamp(tx, here.id, DEFAULT_CLUSTER, here.here.clock())

        await here.settle(shown("a"))
        await here.settle(shown("b"))
        await here.settle(shown("waits"))
        seen = [await stamp()]
        await here.settle(shown("waits"))
        here.here.clock.go(5)
        assert await stamp() == seen[0]

        async def changed() -> bool:
            seen.append(await stamp())
            return seen[-1] != seen[-2]

        await here.withdraw("a")
        assert await changed()
        here.here.clock.go(61)  # it has rested
        assert await changed()
        await here.here.sql.execute('update pool set selectors = \'{"services": {"tier": ["edge"]}}\'')
        assert await changed()
        assert seen[-1].labels == {"tier"}
        row = "insert into kube_namespace (cluster_id, name, uid, labels, annotations) values ($1, 'shop', 'u', '{}', '{}')"
        await here.here.sql.execute(row, here.id)
        assert await changed()
        assert not await changed()
