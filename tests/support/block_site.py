"""A site whose node has enrolled and claimed, for tests of blocks and of what nodes report."""

from ipaddress import ip_network
from uuid import UUID, uuid4

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from tests.support.writing import Site

BOOT = UUID(int=1)


async def enrolled(here: Site, name: str = "n1", count: int = 0) -> tuple[NodePrincipal, UUID, list[wire.GrantedBlock]]:
    """A node that said hello and holds some blocks."""
    node, life = await here.node(name), uuid4()
    await here.hello(node, life, BOOT)
    return node, life, await here.hold(node, life, count) if count else []


async def pods(here: Site, *prefixes: str, block: int | None = 28, reserved: tuple[str, ...] = (), cooldown: float = 60) -> None:
    await here.network("pods", await here.pool("pods", *(prefixes or ("10.10.0.0/24",)), block=block, reserved=reserved, cooldown=cooldown))


async def state(here: Site, prefix: str) -> tuple[str, int, int]:
    row = await here.sql.fetchrow("select state, claim, generation from block where cidr = $1", ip_network(prefix))
    assert row is not None
    return row["state"], row["claim"], row["generation"]


async def copy(here: Site) -> list[tuple[str, bool]]:
    """Addresses in our copy, and whether they were released."""
    rows = await here.sql.fetch("select host(coalesce(address4, address6)) as a, released_at is not null as r from allocation order by 1")
    return [(row["a"], row["r"]) for row in rows]
