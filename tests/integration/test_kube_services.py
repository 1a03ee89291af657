"""Services of an API server in memory, on a real database: what is wrong is said at the object, and nothing is left behind whatever happens
in between."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from fabricmgr.controllers.cluster_view import ClusterView, Part
from fabricmgr.controllers.kube_services import KubeServices
from fabricmgr.domain.errors import ApiAbsent, ApiRefused
from fabricmgr.domain.names import DEFAULT_CLUSTER
from fabricmgr.kube.views import SERVICES, Service
from fabricmgr.kube.write import FINALIZER
from fabricmgr.metrics import LOOP_RUNS
from fabricmgr.store import api_rows
from tests.support.kube_memory import MemoryClient
from tests.support.kube_source import KubeSource, following
from tests.support.poll import until
from tests.support.writing import Site, site

pytestmark = pytest.mark.anyio

CONDITION = "fabricmgr.io/AddressAssigned"
POOL = "198.51.100.0/28"


class Lab:
    """A cluster whose Services are followed, with a pool for them."""

    def __init__(self, here: Site, api: Any) -> None:
        self.here = here
        self.api = api
        self.client = MemoryClient(source=KubeSource())
        self.source = self.client.source

    def put(self, name: str = "web", *, uid: str = "", metadata: dict[str, Any] | None = None, **more: Any) -> None:
        """Made, or edited by its author: the status and finalizers that it has stay."""
        spec = {"type": "LoadBalancer", "loadBalancerClass": "fabricmgr.io/lb", "ipFamilies": ["IPv4"], "ports": [{"port": 80}]}
        old = self.client.service(name)
        kept = {"finalizers": old.metadata.finalizers} if old is not None and not uid else {}
        annotations = {f"fabricmgr.io/{key}": value for key, value in more.pop("annotations", {}).items()}
        status = {} if old is None or uid else {"status": msgspec.to_builtins(old.status)}
        found = {"annotations": annotations, **kept, **(metadata or {})}
        self.source.put(SERVICES, name, "shop", uid=uid, metadata=found, spec=spec | more, **status)

    def delete(self, name: str = "web") -> None:
        """As a client deletes it: it goes when it has no finalizer any more."""
        found = self.shown(name)
        if not found.metadata.finalizers:
            self.source.drop(SERVICES, name, "shop")
            return
        metadata = msgspec.to_builtins(found.metadata) | {"deletionTimestamp": "2026-03-01T12:00:00Z"}
        metadata.pop("resourceVersion")
        parts = {"spec": msgspec.to_builtins(found.spec), "status": msgspec.to_builtins(found.status)}
        self.source.put(SERVICES, name, "shop", uid=found.uid, metadata=metadata, **parts)

    def shown(self, name: str = "web") -> Service:
        found = self.client.service(name)
        assert found is not None
        return found

    def address(self, name: str = "web") -> str:
        found = self.client.service(name)
        ingress = found.status.load_balancer.ingress if found is not None else None
        return ingress[0].ip if ingress else ""

    def says(self, name: str = "web") -> str:
        """What its condition says."""
        found = self.client.service(name)
        return "".join(each.message for each in (found.status.conditions or () if found else ()) if each.type == CONDITION)

    def warnings(self) -> list[str]:
        return [str(each["message"]) for each in self.client.events.values() if each["type"] == "Warning"]

    async def held(self) -> list[str]:
        rows = await self.here.sql.fetch("select host(coalesce(address4, address6)) a from allocation where released_at is null order by 1")
        return [row["a"] for row in rows]

    async def rows(self) -> int:
        return int(await self.here.sql.fetchval("select count(*) from service"))

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[ClusterView]:
        def parts(view: ClusterView) -> list[Part]:
            return [KubeServices(view)]

        async with following(self.source, self.here.database, self.api, parts, self.here.clock, writer=self.client) as view:
            yield view


async def sure(holds: Callable[[], bool]) -> None:
    async def looked() -> bool:
        return holds()

    await until(looked)


@asynccontextmanager
async def lab(url: str) -> AsyncIterator[Lab]:
    async with site(url) as here:
        await here.pool("front", POOL, purpose="Service", cooldown=0)
        number = await here.sql.fetchval("select id from cluster")
        access = {"server": "https://api.invalid", "sealed": b"x", "in_cluster": False}
        await here.database.run(lambda tx: api_rows.put(tx, number, access))
        async with here.database.read() as tx:
            row = await api_rows.find(tx, DEFAULT_CLUSTER)
        assert row is not None
        yield Lab(here, row)


async def test_a_service_has_our_finalizer_before_its_address_and_neither_after_its_deletion(database_url: str) -> None:
    async with lab(database_url) as here, here.followed():
        here.put()
        await sure(lambda: bool(here.address()))
        order = [each.what for each in here.client.written if each.what != "create events"]
        held = await here.held()
        here.delete()
        await sure(lambda: here.client.service("web") is None)
        await until(lambda: nothing_left(here))

        assert order[:2] == ["patch services", "apply services/status"]
        assert held == ["198.51.100.1"]


async def nothing_left(here: Lab) -> bool:
    return not await here.held() and not await here.rows()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown pool": ({"annotations": {"pool": "nowhere"}}, "pool 'nowhere'"),
    "an address outside": ({"annotations": {"addresses": "203.0.113.7"}}, "203.0.113.7 lies outside"),
    "an address that is none": ({"annotations": {"addresses": "198.51.100.300"}}, "198.51.100.300"),
    "an address that is taken": ({"annotations": {"addresses": "198.51.100.9"}}, "held by Service shop/first"),
    "a reserved address": ({"annotations": {"addresses": "198.51.100.0"}}, "first or the last"),
    "contradicting families": ({"annotations": {"addresses": "2001:db8::1"}}, "IPv4"),
    "two of one family": ({"annotations": {"addresses": "198.51.100.3,198.51.100.4"}}, "at most one address of each family"),
    "a family without a pool": ({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}, "IPv6"),
    "clashing ports": ({"annotations": {"sharing-key": "edge"}}, "port TCP/80 is taken there"),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_is_wrong_with_a_service_is_said_once_at_it_and_goes_when_it_is_mended(database_url: str, what: str) -> None:
    asked, word = BAD[what]
    async with lab(database_url) as here, here.followed():
        here.put("first", annotations={"addresses": "198.51.100.9"} | ({"sharing-key": "edge"} if "ports" in what else {}))
        await sure(lambda: bool(here.address("first")))
        here.put(**asked)
        await sure(lambda: word in here.says())
        here.put(**asked, metadata={"labels": {"touched": "yes"}})
        await sure(lambda: "touched" in here.shown().labels)
        pending = (here.address(), await here.held(), here.warnings())
        here.put(ipFamilyPolicy="SingleStack")
        await sure(lambda: bool(here.address()))

        assert pending[:2] == ("", ["198.51.100.9"])
        assert [each for each in pending[2] if word in each] == pending[2]
        assert len(pending[2]) == 1
        assert here.says() == ""


async def test_a_pool_that_is_named_later_moves_the_service_and_an_edit_of_something_else_does_not(database_url: str) -> None:
    """F027: the new address is there before the old one goes, and the status is replaced once."""
    async with lab(database_url) as here, here.followed():
        await here.here.pool("blue", "192.0.2.0/28", purpose="Service", cooldown=0)
        here.put(annotations={"pool": "front"})
        await sure(lambda: bool(here.address()))
        first = here.address()
        here.put(annotations={"pool": "front"}, metadata={"labels": {"tier": "gold"}})
        await sure(lambda: "tier" in here.shown().labels)
        same = here.address()
        here.put(annotations={"pool": "blue"})
        await sure(lambda: here.address().startswith("192.0.2."))
        await until(lambda: holds(here, "192.0.2.1"))

        assert (first, same) == ("198.51.100.1", "198.51.100.1")
        assert here.address() == "192.0.2.1"


async def holds(here: Lab, *addresses: str) -> bool:
    return await here.held() == [*addresses]


async def test_services_without_a_class_are_ours_where_the_cluster_says_so(database_url: str) -> None:
    async with lab(database_url) as here:
        here.put("plain", loadBalancerClass=None)
        here.put("foreign", loadBalancerClass="someone.else/lb")
        async with here.followed():
            here.put("ours")
            await sure(lambda: bool(here.address("ours")))
        before = here.address("plain")
        here.api = replace(here.api, class_less=True)
        async with here.followed():
            await sure(lambda: bool(here.address("plain")))

        assert before == here.address("foreign") == ""
        assert not here.shown("foreign").metadata.finalizers
        assert not [each for each in here.client.written if each.name == "foreign"]


async def test_a_service_that_is_edited_while_it_gets_its_address_ends_as_it_was_edited(database_url: str) -> None:
    async with lab(database_url) as here, here.followed():
        here.client.faults.before["patch services"] = lambda: here.put(annotations={"addresses": "198.51.100.5"})
        here.client.faults.before["apply services/status"] = lambda: here.put(annotations={"addresses": "198.51.100.6"})
        here.put()
        await sure(lambda: here.address() == "198.51.100.6")

        assert await here.held() == ["198.51.100.6"]
        assert here.shown().metadata.finalizers == [FINALIZER]


async def test_a_service_that_becomes_somebody_elses_while_it_gets_its_address_keeps_nothing_of_ours(database_url: str) -> None:
    async with lab(database_url) as here, here.followed():
        here.client.faults.before["apply services/status"] = lambda: here.put(type="ClusterIP")
        here.put()
        await sure(lambda: here.client.service("web") is not None and here.shown().spec.type == "ClusterIP")
        await sure(lambda: not here.shown().metadata.finalizers and not here.address())

        await until(lambda: nothing_left(here))


@pytest.mark.parametrize("moment", ["patch services", "apply services/status"])
async def test_a_service_that_is_deleted_meanwhile_leaves_nothing(database_url: str, moment: str) -> None:
    async with lab(database_url) as here, here.followed():
        here.client.faults.before[moment] = here.delete
        here.put()
        await sure(lambda: here.client.service("web") is None)

        await until(lambda: nothing_left(here))


async def test_one_that_is_made_again_meanwhile_is_another_one_with_one_address(database_url: str) -> None:
    def again() -> None:
        here.source.drop(SERVICES, "web", "shop")
        here.put(uid="second")

    async with lab(database_url) as here, here.followed():
        here.client.faults.before["apply services/status"] = again
        here.put(uid="first")
        await sure(lambda: here.shown().uid == "second" and bool(here.address()))
        await until(lambda: row_of(here, "second"))
        await sure(lambda: here.shown().metadata.finalizers == [FINALIZER])

        assert await here.held() == [here.address()]


async def row_of(here: Lab, uid: str) -> bool:
    return bool(await here.here.sql.fetchval("select uid from service") == uid)


async def test_what_went_while_nobody_followed_is_given_back(database_url: str) -> None:
    async with lab(database_url) as here:
        async with here.followed():
            here.put()
            await sure(lambda: bool(here.address()))
        here.source.drop(SERVICES, "web", "shop")  # somebody took the finalizer away by hand

        async with here.followed():
            await until(lambda: nothing_left(here))


async def test_in_a_namespace_that_ends_events_and_statuses_are_refused_and_the_finalizer_goes_all_the_same(database_url: str) -> None:
    """F049."""
    ending = "because it is being terminated"
    async with lab(database_url) as here, here.followed():
        for number in range(5):
            here.put(f"web-{number}")
        await sure(lambda: all(here.address(f"web-{number}") for number in range(5)))
        here.client.faults.errors["create events"] = ApiRefused("create", "events", ending)
        here.client.faults.errors["patch events"] = ApiRefused("patch", "events", ending)
        here.client.faults.errors["apply services/status"] = ApiRefused("patch", "services/status", ending)
        for number in range(5):
            here.delete(f"web-{number}")
        await sure(lambda: not here.source.objects[SERVICES.plural])

        await until(lambda: nothing_left(here))


async def test_what_cannot_be_written_any_more_is_withdrawn_once_and_not_tried_without_end(database_url: str) -> None:
    """F049: the namespace was removed by force, and every request about what is left of it is answered with 404."""
    async with lab(database_url) as here, here.followed():
        here.put()
        await sure(lambda: bool(here.address()))
        for what in ("patch services", "apply services/status", "create events", "patch events"):
            here.client.faults.errors[what] = ApiAbsent("services", "web")
        here.client.written.clear()
        here.delete()
        await until(lambda: nothing_left(here))
        tried = len(here.client.written)
        here.put("other")
        await sure(lambda: any(each.name == "other" for each in here.client.written))

        assert here.shown().metadata.deleting
        assert 0 < tried <= 6
        assert len([each for each in here.client.written if each.name == "web"]) <= 6


MANY = 12
SPOKEN = """
    insert into voice (cluster_id, address, node_id, term, stage, told_at)
    select cluster_id, address, $1, 1, 'speaking', clock_timestamp() from announcement
"""


async def test_services_that_leave_share_one_look_until_their_speakers_are_silent(database_url: str) -> None:
    names = [f"web-{number}" for number in range(MANY)]
    async with lab(database_url) as here, here.followed():
        for name in names:
            here.put(name)
        await sure(lambda: all(here.address(name) for name in names))
        speaker = await here.here.node("n1")
        await here.here.sql.execute(SPOKEN, speaker.node_id)

        for name in names:
            here.delete(name)
        await until(lambda: all_wait(here))
        before, looked = runs("services"), runs("leaving Services of default")
        await sure(lambda: runs("leaving Services of default") >= looked + 5)
        alone = runs("services") - before
        held = await here.held()
        await here.here.sql.execute("update voice set stage = 'silent'")
        await sure(lambda: not any(here.client.service(name) for name in names))
        await until(lambda: nothing_left(here))

        assert (alone, len(held)) == (0, MANY)


async def all_wait(here: Lab) -> bool:
    """Each was told to go, and nobody is looked at any more."""
    before = runs("services")
    waiting = await here.here.sql.fetchval("select count(*) from service where state = 'withdrawing'")
    await asyncio.sleep(0.1)
    return bool(waiting == MANY and runs("services") == before)


def runs(loop: str) -> float:
    """How often it was looked, with whatever outcome."""
    return sum(
        each.value
        for metric in LOOP_RUNS.collect()
        for each in metric.samples
        if each.name.endswith("_total") and each.labels["loop"] == loop
    )


async def test_a_right_that_is_missing_is_named_and_the_address_is_shown_when_it_is_there(database_url: str) -> None:
    async with lab(database_url) as here, here.followed() as view:
        here.client.faults.errors["apply services/status"] = ApiRefused("patch", "services/status", "RBAC")
        here.put()
        await sure(lambda: "patch services/status" in view.notes.get("services", ""))
        kept = await here.held()
        del here.client.faults.errors["apply services/status"]
        await sure(lambda: bool(here.address()))
        await sure(lambda: not view.notes["services"])

        assert kept == [here.address()]
