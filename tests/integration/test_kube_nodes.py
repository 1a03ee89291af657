"""Nodes and pods of an API server beside ours: matched, told of, mended by the side that is wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from fabricmgr.domain.kube import MIRROR, KubeNode, KubePod
from fabricmgr.domain.kube_node import Rules, Seen
from fabricmgr.domain.names import ClusterName
from fabricmgr.services import kube_nodes, pod_addresses
from fabricmgr.services.pod_addresses import Compared
from fabricmgr.store import kube_rows
from fabricmgr.store.tables import allocation, network, node, outbox
from fabricmgr.store.tx import Database
from tests.support.database import NOW
from tests.support.rows import insert_allocation, insert_block, insert_node
from tests.support.writing import Site, site

LAB = ClusterName("default")


@dataclass
class Lab:
    """A cluster with a node w1 that holds a block, and the pods that its API server shows."""

    site: Site
    cluster: int
    node: int

    @property
    def database(self) -> Database:
        return self.site.database

    async def holds(self, address: str, pod: str, uid: str = "", **more: Any) -> UUID:
        about = {"namespace": "shop", "pod": pod} | ({"uid": uid} if uid else {})
        values: dict[str, Any] = {
            "cluster_id": self.cluster,
            "network": "pods",
            "container_id": f"c-{pod}",
            "ifname": "eth0",
            "about": about,
        } | more
        return await self.database.run(lambda tx: insert_allocation(tx, address, node_id=self.node, **values))

    async def shows(self, name: str, *addresses: str, **more: Any) -> None:
        given = {"node": "w1", "phase": "Running", "uid": f"u-{name}"} | more
        pod = KubePod(namespace="shop", name=name, addresses=tuple(ip_address(each) for each in addresses), **given)
        await self.database.run(lambda tx: kube_rows.write_pods(tx, self.cluster, [pod]))

    async def heard(self, seconds: float) -> None:
        values = {"seen_at": NOW + timedelta(seconds=seconds)}
        await self.database.run(lambda tx: tx.change(update(node).where(node.c.id == self.node).values(values)))

    async def compare(self, seconds: float, before: Compared | None = None) -> Compared:
        since = before.since if before else {}
        now = NOW + timedelta(seconds=seconds)
        return await self.database.run(lambda tx: pod_addresses.compare(tx, self.cluster, LAB, since, now))

    async def differs(self) -> list[tuple[str, str, str]]:
        """What is told once all have had their say: what, pod, address. Only by the end of it: nothing is told at once."""
        first = await self.compare(0)
        await self.heard(130)
        second = await self.compare(130, first)
        third = await self.compare(140, second)
        assert first.told == []
        assert third.told == []
        return [(each.what.value, each.pod, each.address) for each in second.told]

    async def ours(self) -> kube_nodes.Ours:
        async with self.database.read() as tx:
            return await kube_nodes.ours_of(tx, self.cluster)

    async def looks(self) -> int:
        async with self.database.read() as tx:
            return int(await tx.value(select(node.c.looks).where(node.c.id == self.node)))

    async def told(self, what: str) -> list[dict[str, Any]]:
        async with self.database.read() as tx:
            return [row.about for row in await tx.all(select(outbox.c.about).where(outbox.c.what == what).order_by(outbox.c.id))]


@asynccontextmanager
async def lab(url: str) -> AsyncIterator[Lab]:
    async with site(url) as made:
        pool = await made.pool("pods", "10.10.0.0/24", block=26)
        await made.network("pods", pool)
        who = await made.node("w1")
        await made.database.run(lambda tx: insert_block(tx, "10.10.0.0/26", "confirmed", who.node_id, claim=1))
        async with made.database.read() as tx:
            cluster = int(await tx.value(select(network.c.cluster_id)))
        yield Lab(made, cluster, who.node_id)


# --- pods ------------------------------------------------------------------------------------------------------------------


async def test_pods_that_have_what_they_were_given_are_no_news(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.holds("10.10.0.20", "web", "u-web")
        await here.shows("web", "10.10.0.20")
        await here.shows("elsewhere", "172.16.0.9")  # another network's: not ours to speak of

        assert await here.differs() == []


async def test_finished_and_host_network_pods_raise_nothing_and_a_second_owner_is_named(database_url: str) -> None:
    """F047: what is in podIPs need not be held."""
    async with lab(database_url) as here:
        await here.holds("10.10.0.20", "web", "u-web")
        await here.shows("web", "10.10.0.20")
        await here.shows("job", "10.10.0.20", phase="Succeeded")
        await here.shows("evicted", "10.10.0.20", phase="Failed")
        await here.shows("leaving", "10.10.0.20", deleting=True)
        for name in ("a", "b", "c"):
            await here.shows(f"host-{name}", "10.10.0.3", host_network=True)
        quiet = await here.differs()
        await here.shows("thief", "10.10.0.20")

        found = await here.differs()

        assert quiet == []
        assert found == [("conflict", "thief", "10.10.0.20")]
        (event,) = await here.told("PodAddressMismatch")
        assert "held for pod shop/web of node w1" in event["reason"]
        assert await here.looks() == 1


async def test_an_address_that_nobody_holds_is_told_once_its_node_has_had_its_say(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.shows("web", "10.10.0.30")
        await here.heard(-1)
        first = await here.compare(0)
        silent = await here.compare(600, first)
        await here.heard(601)
        after = await here.compare(602, silent)
        restarted = await here.compare(900)
        again = await here.compare(1000, restarted)

        assert (silent.told, again.told) == ([], [])
        assert [(each.what.value, each.pod) for each in after.told] == [("unknown", "web")]
        assert len(await here.told("PodAddressMismatch")) == 1


async def test_an_allocation_that_its_pod_does_not_show_is_told_and_nothing_is_freed(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.holds("10.10.0.20", "web", "u-web")
        await here.shows("web", "10.10.0.20")
        await here.holds("10.10.0.21", "web", "u-web", container_id="c2", ifname="net1")  # a second interface: not in podIPs
        await here.holds("10.10.0.22", "moved", "u-moved")
        await here.shows("moved", "172.16.0.1")
        await here.holds("10.10.0.23", "left")
        await here.holds("10.10.0.24", "again", "u-before")  # a namesake's, whose end is on its way
        await here.shows("again", "172.16.0.2")

        found = await here.differs()

        assert found == [("missing", "left", "10.10.0.23"), ("missing", "moved", "10.10.0.22")]
        async with here.database.read() as tx:
            assert len(await tx.all(select(allocation.c.owner))) == 5


async def test_what_was_mended_and_broke_again_is_told_again(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.shows("web", "10.10.0.30")
        await here.differs()
        await here.holds("10.10.0.30", "web", "u-web")
        assert await here.differs() == []
        await here.database.run(lambda tx: tx.change(allocation.delete()))
        await here.heard(0)

        assert await here.differs() == [("unknown", "web", "10.10.0.30")]


async def test_a_static_pods_allocation_is_known_by_its_mirrors_uid(database_url: str) -> None:
    """F048: the runtime passes the hash of its configuration."""
    digest = "0123456789abcdef0123456789abcdef"
    async with lab(database_url) as here:
        owner = await here.holds("10.10.0.20", "web-w1", digest)
        await here.compare(0)
        await here.shows("web-w1", "10.10.0.20", uid="11111111-2222-3333-4444-555555555555", annotations={MIRROR: digest})

        assert await here.differs() == []
        async with here.database.read() as tx:
            about = await tx.value(select(allocation.c.about).where(allocation.c.owner == owner))
        assert about["uid"] == "11111111-2222-3333-4444-555555555555"
        assert about["configuration"] == digest


# --- nodes -----------------------------------------------------------------------------------------------------------------


async def test_a_node_is_matched_and_its_labels_are_ours(database_url: str) -> None:
    """F051: the operating system and the firmware tell the same UUID in two byte orders."""
    async with lab(database_url) as here:
        values = {"system_uuid": "00112233-4455-6677-8899-AABBCCDDEEFF"}
        await here.database.run(lambda tx: tx.change(update(node).where(node.c.id == here.node).values(values)))
        shown = KubeNode("w1", "n-1", "33221100-5544-7766-8899-aabbccddeeff", {"zone": "a"}, (), True)
        ours, rules = await here.ours(), Rules(NOW, NOW, timedelta(minutes=15))

        seen = await here.database.run(
            lambda tx: kube_nodes.observe(tx, here.cluster, LAB, "w1", shown, Seen("n-1", ready=True), ours, rules)
        )
        other = await here.database.run(
            lambda tx: kube_nodes.observe(tx, here.cluster, LAB, "w9", KubeNode("w9", "n-9"), Seen("n-9", ready=True), ours, rules)
        )

        assert (seen.system, other.system) == ("w1", None)
        assert [(each["node"], each["system"]) for each in await here.told("KubeNodeJoined")] == [("w1", "w1"), ("w9", None)]
        async with here.database.read() as tx:
            assert await tx.value(select(node.c.labels).where(node.c.id == here.node)) == {"zone": "a"}


async def test_nodes_without_an_agent_and_agents_without_a_node_are_named(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.database.run(lambda tx: insert_node(tx, here.cluster, "w2"))
        shown = [KubeNode("w1", "n-1"), KubeNode("w9", "n-9")]

        async with here.database.read() as tx:
            ours = await kube_nodes.ours_of(tx, here.cluster)
        said = kube_nodes.doubtful(shown, ours)
        as_one = kube_nodes.doubtful([KubeNode("w1", "n-1"), KubeNode("w2", "n-2")], ours)

        assert said == "no agent on w9; not in the API: w2"
        assert as_one == ""


async def test_a_deleted_node_with_a_silent_agent_is_given_up_and_one_that_speaks_is_not(database_url: str) -> None:
    async with lab(database_url) as here:
        await here.heard(0)
        grace = timedelta(minutes=15)

        async def observe(minutes: float, seen: Seen | None) -> None:
            shown = None if seen is None else KubeNode("w1", "n-1", ready=True)
            rules = Rules(NOW + timedelta(minutes=minutes), NOW, grace)
            ours = await here.ours()
            await here.database.run(lambda tx: kube_nodes.observe(tx, here.cluster, LAB, "w1", shown, seen, ours, rules))

        await observe(0, Seen("n-1", ready=True))
        await observe(1, None)
        await here.heard(20 * 60)
        await observe(30, None)
        speaking = await here.told("NodeGone")
        await observe(36, None)

        assert speaking == []
        assert [each["released"] for each in await here.told("NodeGone")] == [0]
        assert [each["system"] for each in await here.told("KubeNodeGone")] == ["w1"]


async def test_a_node_has_room_while_its_pool_has_and_none_when_both_are_out(database_url: str) -> None:
    async with lab(database_url) as here:

        async def room(free: int) -> kube_nodes.Headroom:
            values = {"free": {"pods/4": free}, "state": "enrolled"}
            await here.database.run(lambda tx: tx.change(update(node).where(node.c.id == here.node).values(values)))
            async with here.database.read() as tx:
                ours, held = await kube_nodes.ours_of(tx, here.cluster), await kube_nodes.stock(tx, here.cluster, LAB, NOW)
            return kube_nodes.headroom(ours, held, "pods")["w1"]

        plenty = await room(0)
        for third in ("10.10.0.64/26", "10.10.0.128/26", "10.10.0.192/26"):
            await here.database.run(partial(insert_block, cidr=third, state="confirmed", node_id=here.node, claim=1))
        out = await room(0)

        assert plenty.free > 0
        assert plenty.exhausted == ()
        assert (out.free, out.exhausted) == (0, ("pods/4",))
        assert (await room(3)).exhausted == ()
