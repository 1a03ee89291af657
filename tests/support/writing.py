"""A small site for the writer's tests: a database with pools, a network and nodes, and a clock that goes when it is told to."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from uuid import UUID, uuid4

import msgspec

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.addresses import block_length, blocks_are_central, parse_address
from fabricmgr.domain.names import ClusterName, NodeName
from fabricmgr.services import attachments, blocks, direct, hello, history, reports
from fabricmgr.services.attachments import Desk
from fabricmgr.services.direct import Allocation
from fabricmgr.services.reports import Inbox
from fabricmgr.store import connect
from fabricmgr.store.connect import Connection
from fabricmgr.store.places import Places
from fabricmgr.store.pressure import Pressure
from fabricmgr.store.tx import Database
from fabricmgr.store.writer import Writer

CLUSTER = ClusterName("default")
BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Clock:
    """Time goes only when it is told to."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        return self.now

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Site:
    """One manager's hands on a database."""

    url: str
    clock: Clock
    database: Database
    writer: Writer
    desk: Desk
    inbox: Inbox
    sql: Connection
    serials: dict[str, NodePrincipal] = field(default_factory=dict)

    async def pool(
        self,
        name: str,
        *prefixes: str,
        purpose: str = "Pod",
        cooldown: float = 60,
        block: int | None = None,
        central: bool = False,
        reserved: Sequence[str] = (),
        reuse_early: bool = False,
        skip_ends: bool = True,
    ) -> int:
        """A pool as `pools.create` makes it."""
        pool_id = int(
            await self.sql.fetchval(
                "insert into pool (cluster_id, name, purpose, cooldown, reuse_early, skip_ends, created_at)"
                " select id, $1, $2, $3, $4, $5, now() from cluster where name = 'default' returning id",
                name,
                purpose,
                timedelta(seconds=cooldown),
                reuse_early,
                skip_ends,
            )
        )
        for text in prefixes:
            cidr = ip_network(text)
            # A length for both families: as many addresses in a block of either.
            wanted = block if block is None or cidr.version == 4 else block + 96
            length = block_length(cidr, wanted if wanted is None or wanted >= cidr.prefixlen else None)
            alone = central or purpose != "Pod" or blocks_are_central(cidr, length)
            prefix_id = await self.sql.fetchval(
                "insert into prefix (pool_id, scope, cidr, block_len, central, created_at) values ($1, 0, $2, $3, $4, now()) returning id",
                pool_id,
                cidr,
                length,
                alone,
            )
            await self.sql.execute("insert into supply (prefix_id) values ($1)", prefix_id)
            await self.sql.execute(
                "insert into reservation select $1, r, 'test', now() from unnest($2::cidr[]) r where r <<= $3",
                prefix_id,
                [ip_network(each) for each in reserved],
                cidr,
            )
        return pool_id

    async def network(self, name: str, *pools: int) -> None:
        network_id = await self.sql.fetchval(
            "insert into network (cluster_id, name, created_at) select id, $1, now() from cluster where name = 'default' returning id", name
        )
        for place, pool in enumerate(pools):
            await self.sql.execute("insert into network_pool values ($1, $2, $3)", network_id, pool, place)

    async def node(self, name: str) -> NodePrincipal:
        """An enrolled node."""
        serial, machine = uuid4().hex, uuid4().hex
        node_id = await self.sql.fetchval(
            "insert into node (cluster_id, name, state, created_at) select id, $1, 'enrolled', now() from cluster where name = 'default'"
            " returning id",
            name,
        )
        await self.sql.execute(
            "insert into certificate values ($1, $2, $3, $1::text::bytea, now(), now() + interval '1 day', null, '')",
            serial,
            node_id,
            machine,
        )
        return NodePrincipal(node_id, NodeName(name), CLUSTER, serial, machine)

    async def take(
        self, pool: str, owner: str, *, families: Sequence[int] = (), address: str | None = None, by: str = "admin"
    ) -> Allocation:
        """What a direct client gets."""
        return (await direct.allocate(self.desk, CLUSTER, pool, owner, families, address, by, self.clock()))[0]

    async def give(self, pool: str, owner: str) -> bool:
        return await direct.release(self.desk, CLUSTER, pool, owner, None, "admin")

    async def attach(self, node: NodePrincipal, container: str, *, network: str = "pods", **request: object) -> wire.Attached:
        asked = msgspec.structs.replace(wire.Attach(), **request)
        return await attachments.attach(self.desk, node, network, container, "eth0", asked, self.clock())

    async def detach(self, node: NodePrincipal, container: str, generation: int | None = None) -> None:
        await attachments.detach(self.desk, node, "pods", container, "eth0", generation)

    async def hello(self, node: NodePrincipal, life: UUID, boot: UUID, **said: object) -> wire.Welcome:
        begun = msgspec.structs.replace(wire.Hello(life=life, boot_id=boot, machine_id=node.machine_id, agent_version="1"), **said)
        return await self.database.run(lambda tx: hello.hello(tx, node, begun, self.clock()))

    async def want(
        self,
        node: NodePrincipal,
        life: UUID,
        *counts: tuple[str, int, int],
        confirm: Sequence[wire.HeldBlock] = (),
        give_back: Sequence[wire.HeldBlock] = (),
    ) -> wire.BlocksGranted:
        wanted = [wire.WantedBlocks(network=network, family=family, count=count) for network, family, count in counts]
        asked = wire.BlocksWanted(life=life, wanted=wanted, confirm=list(confirm), give_back=list(give_back))
        return await self.database.run(lambda tx: blocks.wanted(tx, node, asked, self.clock()))

    async def report(self, node: NodePrincipal, life: UUID, number: int, *changes: wire.Change, age_ms: int = 0) -> wire.Acknowledged:
        batch = wire.Report(life=life, number=number, changes=list(changes), age_ms=age_ms)
        return await reports.report(self.inbox, node, batch, self.clock())

    async def had(self, address: str, seconds: float) -> str | None:
        """The container that had an address so many seconds from now."""
        async with self.database.read() as tx:
            found = await history.who_had(tx, parse_address(address), self.clock() + timedelta(seconds=seconds))
        return found[0].label.split()[1] if found else None

    async def hold(self, node: NodePrincipal, life: UUID, count: int, family: int = 4, network: str = "pods") -> list[wire.GrantedBlock]:
        """Claim and confirm."""
        granted = (await self.want(node, life, (network, family, count))).blocks
        pending = [held(each) for each in granted if each.state == "pending"]
        return (await self.want(node, life, (network, family, count), confirm=pending)).blocks


def held(block: wire.GrantedBlock) -> wire.HeldBlock:
    return wire.HeldBlock(prefix=block.prefix, claim=block.claim, generation=block.generation)


def change(
    kind: str, container: str, *addresses: wire.BlockAddress, at: datetime = BEGIN, network: str = "pods", released: bool = False
) -> wire.Change:
    return wire.Change(kind=wire.ChangeKind(kind), owned=owned(container, *addresses, at=at, network=network, released=released))


def owned(container: str, *addresses: wire.BlockAddress, at: datetime = BEGIN, network: str = "pods", released: bool = False) -> wire.Owned:
    return wire.Owned(network=network, container=container, ifname="eth0", addresses=list(addresses), at=at, released=released)


def at_block(block: wire.GrantedBlock, place: int, generation: int) -> wire.BlockAddress:
    """An address of a block, as its agent reports it."""
    return wire.BlockAddress(address=str(ip_network(block.prefix)[place]), generation=generation, block=block.prefix, claim=block.claim)


@asynccontextmanager
async def site(url: str, clock: Clock | None = None) -> AsyncIterator[Site]:
    """A manager on a database; several on one are replicas."""
    clock = clock or Clock()
    database = await Database.open(url, clock=clock, connections=4, name="test", chance=lambda: 0.0)
    writer = await Writer.open(url, clock=clock, connections=4, name="test", chance=lambda: 0.5)
    sql = await connect.connect(url, "test")
    ticking = iter(range(0, 10**9, 10))
    places = Places(database, clock=lambda: float(next(ticking)))
    pressure = Pressure(database, clock, clock=lambda: float(next(ticking)))
    await sql.execute("insert into cluster (name, created_at) values ('default', now()) on conflict do nothing")
    try:
        yield Site(url, clock, database, writer, Desk(writer, database, places), Inbox(writer, pressure), sql)
    finally:
        await writer.close()
        await database.close()
        await sql.close()
