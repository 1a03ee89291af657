"""Announcing on a real database: beats, elections, and an address that is silent before it is given back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.election import LAPSE
from fabricmgr.domain.errors import HelloRequired, Invalid
from fabricmgr.domain.names import DEFAULT_CLUSTER
from fabricmgr.domain.service import Asked
from fabricmgr.metrics import SERVICE_ADDRESSES
from fabricmgr.services import announcing, elections, gauges, service_addresses, service_leaving
from fabricmgr.services.service_addresses import Settled, Shown
from fabricmgr.services.service_leaving import Leaving, Withdrawn
from fabricmgr.store import announce_rows, voice_rows
from tests.support.crowd import crowd
from tests.support.writing import Site, site

pytestmark = pytest.mark.anyio

POOL = "192.0.2.0/28"
LONG = 60.0


class Lab:
    """A site with two nodes on the segment of a pool for Services. Silence is made by setting beats back."""

    def __init__(self, here: Site, cluster_id: int) -> None:
        self.here, self.id = here, cluster_id
        self.nodes: dict[str, NodePrincipal] = {}
        self.lives: dict[str, UUID] = {}

    async def add(self, name: str) -> None:
        node = self.nodes[name] = await self.here.node(name)
        self.lives[name] = uuid4()
        number = len(self.nodes)
        nic = wire.Interface(name="eth0", mac=f"02:00:00:00:00:0{number}", mtu=1500, up=True, addresses=[f"192.0.2.{100 + number}/24"])
        await self.here.hello(node, self.lives[name], uuid4(), interfaces=[nic])

    async def settle(self, name: str = "web", **more: Any) -> Settled:
        asked = Asked(**{"families": ("IPv4",), "ports": ("TCP/80",)} | more)
        shown = Shown("shop", name, "u-1", {}, asked, ())
        return await self.here.database.run(lambda tx: service_addresses.settle(tx, self.id, DEFAULT_CLUSTER, shown, self.here.clock()))

    async def look(self, led: float = LONG) -> None:
        """Until nothing changes any more."""
        while (await elections.look(self.here.database, led)).changed:
            pass

    async def told(self, name: str) -> dict[str, int]:
        async with self.here.database.look() as tx:
            rows = await voice_rows.told(tx)
        return {str(each.address): each.term for each in rows if each.node_id == self.nodes[name].node_id}

    async def beat(self, name: str, *voices: wire.Voice) -> list[wire.Held]:
        said = wire.Announcing(life=self.lives[name], voices=list(voices))
        return (await self.here.database.run(lambda tx: announcing.beat(tx, self.nodes[name], said))).leases

    async def speak(self, name: str) -> list[wire.Held]:
        """It does what it is told."""
        return await self.beat(
            name, *(wire.Voice(address=each, term=term, speaking=True) for each, term in (await self.told(name)).items())
        )

    async def fall_silent(self, name: str, seconds: float = LAPSE + 0.5) -> None:
        node = self.nodes[name].node_id
        await self.here.sql.execute("update announcer set beat_at = beat_at - make_interval(secs => $1) where node_id = $2", seconds, node)
        await self.here.sql.execute("update voice set told_at = told_at - make_interval(secs => $1) where node_id = $2", seconds, node)

    async def holder(self) -> str:
        """The one that announces the only address; it speaks."""
        await self.look()
        (name,) = [each for each in self.nodes if await self.told(each)]
        await self.speak(name)
        await self.look()
        return name

    def other(self, name: str) -> str:
        return next(each for each in self.nodes if each != name)

    async def state(self) -> tuple[str, str, str]:
        (row,) = await self.here.sql.fetch("select state, conflict, reason from announcement")
        return (row["state"], row["conflict"], row["reason"])

    async def count(self, table: str) -> int:
        return int(await self.here.sql.fetchval(f"select count(*) from {table}"))

    async def sql_rows(self) -> list[str]:
        """The very versions of the rows of what was said."""
        return [each["at"] for each in await self.here.sql.fetch("select ctid::text || xmin::text as at from voice")]

    async def events(self, what: str) -> list[dict[str, Any]]:
        rows = await self.here.sql.fetch("select about from outbox where what = $1 order by id", what)
        return [msgspec.json.decode(each["about"]) for each in rows]

    async def measured(self) -> dict[str, float]:
        async with self.here.database.look() as tx:
            found = await gauges.of_clusters(tx, self.here.clock())
        return {labels[1]: value for query, labels, value in found if query is SERVICE_ADDRESSES}

    async def withdraw(self, name: str = "web") -> Withdrawn:
        return await self.here.database.run(lambda tx: Leaving(tx, self.id, DEFAULT_CLUSTER, self.here.clock()).withdraw("shop", name))

    async def going(self) -> dict[str, bool]:
        """Services that wait, and whether their next step can be done."""
        async with self.here.database.look() as tx:
            found = await service_leaving.going(tx, self.id, self.here.clock())
        return {name: ready for (_, name), ready in found.items()}


@asynccontextmanager
async def lab(url: str, *names: str) -> AsyncIterator[Lab]:
    async with site(url) as here:
        await here.pool("front", POOL, purpose="Service", cooldown=0)
        made = Lab(here, await here.sql.fetchval("select id from cluster"))
        for name in names or ("n1", "n2"):
            await made.add(name)
        yield made


async def test_an_address_of_a_service_is_announced_by_one_node_which_is_told_and_holds_a_lease(database_url: str) -> None:
    async with lab(database_url) as here:
        address = str((await here.settle()).addresses[0])

        holder = await here.holder()
        leases = await here.speak(holder)

        assert (await here.told(holder), await here.told(here.other(holder))) == ({address: 1}, {})
        assert [(each.address, each.term) for each in leases] == [(address, 1)]
        assert 0 < leases[0].until_ms < LAPSE * 1000
        assert await here.state() == ("speaking", "", "")
        moved = await here.events("ServiceAddressMoved")
        assert [(each["node"], each["before"], each["name"]) for each in moved] == [(holder, None, "web")]


async def test_a_silent_holder_stays_named_until_its_successor_speaks(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.settle()
        holder = await here.holder()
        other = here.other(holder)

        await here.fall_silent(holder)
        await here.look()
        both = (await here.told(holder), await here.told(other))
        early = await here.speak(other)
        await here.look()
        after = (await here.told(holder), await here.told(other))

        assert [list(each.values()) for each in both] == [[1], [2]]
        assert early == []
        assert [list(each.values()) for each in after] == [[], [2]]
        assert [(each["node"], each["before"]) for each in await here.events("ServiceAddressMoved")][1:] == [(other, holder)]


async def test_a_holder_that_only_lost_the_manager_keeps_its_address(database_url: str) -> None:
    async with lab(database_url) as here:
        address = str((await here.settle()).addresses[0])
        holder = await here.holder()
        other, mac = here.other(holder), "02:00:00:00:00:01" if holder == "n1" else "02:00:00:00:00:02"
        await here.fall_silent(holder)
        await here.look()

        await here.beat(other, wire.Voice(address=address, term=2, asking=True, conflict=mac))
        await here.look()
        cut_off = await here.state()
        await here.speak(holder)
        await here.look()

        assert cut_off == ("speaking", "", f"{holder} announces it and is not heard and goes on answering")
        assert (await here.told(holder), await here.told(other)) == ({address: 1}, {})
        assert await here.state() == ("speaking", "", "")
        assert len(await here.events("ServiceAddressMoved")) == 1
        assert await here.events("AddressConflictDetected") == []


async def test_a_leader_that_has_just_begun_takes_nothing_from_anybody(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.settle()
        holder = await here.holder()
        await here.fall_silent(holder)

        await here.look(led=1.0)

        assert await here.told(here.other(holder)) == {}


async def test_an_agent_that_ends_is_followed_at_once(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.settle()
        holder = await here.holder()

        await here.beat(holder)  # names nothing any more
        await here.look()

        assert await here.told(holder) == {}
        assert list((await here.told(here.other(holder))).values()) == [2]


async def test_a_foreign_answerer_is_told_of_once_with_its_mac_and_node(database_url: str) -> None:
    """F028."""
    async with lab(database_url) as here:
        address = str((await here.settle()).addresses[0])
        holder = await here.holder()
        macs = {"n1": "02:00:00:00:00:01", "n2": "02:00:00:00:00:02"}
        mac = macs[here.other(holder)]
        for _ in range(3):
            await here.beat(holder, wire.Voice(address=address, term=1, speaking=True, conflict=mac))
            await here.look()

        assert await here.state() == ("speaking", mac, "")
        (told,) = await here.events("AddressConflictDetected")
        assert told == {
            "address": address,
            "holder": f"Service shop/web, announced by {holder}",
            "other": f"{mac} ({here.other(holder)})",
        }


async def test_what_a_node_says_again_is_not_written_again(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.settle()
        holder = await here.holder()
        before = await here.sql_rows()

        await here.speak(holder)

        assert await here.sql_rows() == before


async def test_another_life_and_what_cannot_be_read_are_refused(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.settle()
        holder = await here.holder()
        node = here.nodes[holder]
        stranger = wire.Announcing(life=uuid4())
        nonsense = wire.Announcing(life=here.lives[holder], voices=[wire.Voice(address="192.0.2.300", term=1)])
        negative = wire.Announcing(life=here.lives[holder], voices=[wire.Voice(address="192.0.2.1", term=-1)])

        for said, error in ((stranger, HelloRequired), (nonsense, Invalid), (negative, Invalid)):
            with pytest.raises(error):
                await here.here.database.run(partial(announcing.beat, node=node, asked=said))


async def test_what_a_node_says_of_addresses_that_are_not_announced_leaves_nothing(database_url: str) -> None:
    async with lab(database_url) as here:
        leases = await here.beat("n1", wire.Voice(address="203.0.113.9", term=1, speaking=True))

        assert leases == []
        assert await here.count("voice") == 0


async def test_an_address_is_given_back_only_when_its_speaker_is_silent(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.settle()
        holder = await here.holder()

        first = await here.withdraw()
        told = await here.told(holder)
        still = await here.withdraw()
        held = await here.count("allocation where released_at is null")
        waits = await here.going()
        await here.beat(holder)
        ready = await here.going()
        done = await here.withdraw()
        await here.look()

        assert (first.waits, told, still.waits, held) == (True, {}, True, 1)
        assert (waits, ready, await here.going()) == ({"web": False}, {"web": True}, {})
        assert [each.what for each in done.told] == ["ServiceAddressWithdrawn"]
        assert (await here.count("allocation"), await here.count("announcement"), await here.count("service")) == (0, 0, 0)


async def test_a_speaker_that_is_not_heard_any_more_holds_no_address_for_ever(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.settle()
        holder = await here.holder()
        await here.withdraw()

        waits = await here.going()
        await here.fall_silent(holder, 11)
        ready = await here.going()
        done = await here.withdraw()
        await here.look()
        await here.look()

        assert (waits, ready, done.waits) == ({"web": False}, {"web": True}, False)
        assert (await here.count("announcement"), await here.count("voice")) == (0, 0)


async def test_a_decision_on_what_was_wanted_before_names_nobody(database_url: str) -> None:
    """Somebody withdraws while the leader decides."""
    async with lab(database_url) as here:
        await here.settle()
        async with here.here.database.look() as tx:
            seen = await announce_rows.picture(tx)
        (place,) = seen.standings
        before = seen.standings[place]
        after = elections.decided(seen, place, LONG, label=True)
        await here.withdraw()

        changed = await here.here.database.run(lambda tx: announce_rows.decide(tx, {place: (before, after)}))

        assert after.holder is not None
        assert changed == set()
        assert await here.count("announcement where node_id is not null") == 0


async def test_a_service_that_goes_over_shows_the_new_address_when_it_is_announced_and_the_old_one_falls_silent(database_url: str) -> None:
    """F027."""
    async with lab(database_url) as here:
        old = (await here.settle()).addresses[0]
        first = await here.holder()
        new = ip_address("192.0.2.9")
        wanted: dict[str, Any] = {"annotations": {"fabricmgr.io/addresses": str(new)}}

        begun = await here.settle(**wanted)
        await here.look()
        both = {address for name in here.nodes for address in await here.told(name)}
        turns = [await here.going()]
        for name in here.nodes:
            await here.speak(name)
        await here.look()
        turns.append(await here.going())
        shows = await here.settle(**wanted)
        await here.here.database.run(lambda tx: Leaving(tx, here.id, DEFAULT_CLUSTER, here.here.clock()).leave("shop", "web"))
        waits = await here.settle(**wanted)
        held = await here.count("allocation")
        turns.append(await here.going())
        await here.speak(first)
        turns.append(await here.going())
        done = await here.settle(**wanted)

        assert (begun.addresses, begun.replaces, [each.what for each in begun.told]) == ((old,), False, ["ServiceAddressAssigned"])
        assert both == {str(old), str(new)}
        assert turns == [{"web": False}, {"web": True}, {"web": False}, {"web": True}]
        assert await here.going() == {}
        assert (shows.addresses, shows.replaces) == ((new,), True)
        assert (waits.addresses, waits.waits, held) == ((new,), True, 2)
        assert (done.addresses, done.waits, [each.what for each in done.told]) == ((new,), False, ["ServiceAddressWithdrawn"])
        assert await here.count("allocation") == 1


async def test_one_that_goes_over_waits_for_an_announcement_no_longer_than_two_seconds(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.settle()
        await here.holder()
        await here.settle(annotations={"fabricmgr.io/addresses": "192.0.2.9"})
        early = await here.going()

        here.here.clock.go(2.1)

        assert (early, await here.going()) == ({"web": False}, {"web": True})


async def test_an_address_that_another_service_shares_by_now_is_not_waited_for(database_url: str) -> None:
    async with lab(database_url) as here:
        shared: dict[str, Any] = {"annotations": {"fabricmgr.io/sharing-key": "edge"}}
        await here.settle(**shared)
        await here.holder()
        first = await here.withdraw()
        before = await here.going()

        await here.settle("beside", **shared | {"ports": ("TCP/81",)})
        after = await here.going()
        done = await here.withdraw()

        assert (first.waits, before, after) == (True, {"web": False}, {"web": True})
        assert not done.waits
        assert await here.count("allocation where released_at is null") == 1


async def test_of_many_addresses_only_those_of_a_node_that_fell_silent_get_successors(database_url: str) -> None:
    async with site(database_url) as here:
        made = await crowd(here, services=200, nodes=5)
        well = await elections.look(here.database, LONG)

        await made.silence("n3")
        after = await elections.look(here.database, LONG)
        named = await here.sql.fetch(
            "select distinct n.name from announcement a join node n on n.id = a.node_id where a.successor_id is not null"
        )

        assert (well.addresses, well.spoken, well.changed) == (200, 200, 0)
        assert (after.spoken, after.changed) == (200, 40)
        assert [each["name"] for each in named] == ["n3"]


async def test_where_every_node_is_labelled_the_address_counts_as_unannounced(database_url: str) -> None:
    """F022."""
    async with lab(database_url) as here:
        await here.settle()
        first = await here.holder()
        before = await here.measured()
        await here.here.sql.execute("update node set labels = $1", '{"node.kubernetes.io/exclude-from-external-load-balancers": "false"}')
        await here.look()

        assert before == {"announced": 1, "unannounced": 0, "off_segment": 0}
        assert await here.measured() == {"announced": 0, "unannounced": 1, "off_segment": 0}
        assert await here.told(first) == {}
        assert "exclude-from-external-load-balancers" in (await here.state())[2]
        assert (await elections.look(here.here.database, LONG, label=False)).changed == 1


async def test_where_nobody_can_announce_it_the_service_shows_its_address_and_why(database_url: str) -> None:
    async with lab(database_url, "n1") as here:
        await here.here.sql.execute("update node set interfaces = '[]'")
        await here.settle()
        await here.look()

        shown = await here.settle()

        assert [each.reason for each in shown.announced] == ["no node has a link that is up with an address on its segment"]
        assert await here.measured() == {"announced": 0, "unannounced": 0, "off_segment": 1}
