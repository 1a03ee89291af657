"""Many Services' addresses, each announced by one of many nodes, as rows: what elections and leaving cost when there are that many."""

from dataclasses import dataclass
from ipaddress import ip_network

from tests.support.writing import Site

POOL = "10.99.0.0/16"


@dataclass(frozen=True)
class Crowd:
    """Nodes are n1, n2, ...; Services are shop/s1, s2, ..., whose addresses follow one another in POOL, spread over the nodes by turns."""

    site: Site
    cluster: int
    nodes: int
    services: int

    async def settle(self) -> None:
        """All is decided and spoken, and every node was heard now."""
        await self.name_nobody()
        await self.site.sql.execute(_ANNOUNCED, self.nodes)
        await self.site.sql.execute(_SPOKEN)
        await self.beat()

    async def name_nobody(self) -> None:
        """As when all of the Services were made a moment ago."""
        await self.site.sql.execute("delete from voice")
        await self.site.sql.execute("delete from announcement")
        await self.site.sql.execute(_UNNAMED, self.cluster)

    async def withdraw(self) -> None:
        """Every Service was deleted a moment ago, and its address is still spoken for."""
        await self.site.sql.execute("update service set state = 'withdrawing'")
        await self.site.sql.execute("update announcement set node_id = null, state = 'unassigned'")

    async def beat(self) -> None:
        await self.site.sql.execute(_BEATS)

    async def silence(self, node: str) -> None:
        """As if it had not been heard for a while."""
        await self.site.sql.execute(_SILENT, node)


_NODES = """
    insert into node (cluster_id, name, state, created_at, interfaces)
    select $1, 'n' || i, 'enrolled', now(), jsonb_build_array(jsonb_build_object('name', 'eth0', 'up', true,
      'mac', '02:00:00:00:00:' || lpad(to_hex(i), 2, '0'), 'mtu', 1500, 'addresses', jsonb_build_array('10.99.255.' || i || '/16')))
    from generate_series(1, $2::int) i
"""
_SERVICES = """
    with made as (
      insert into allocation (owner, scope, prefix4, address4, generation4, kind, cluster_id, name, about, at)
      select gen_random_uuid(), 0, (select id from prefix where cidr = $3), host($3::cidr)::inet + i, 1, 'service', $1, 'shop/s' || i, '{}',
        now()
      from generate_series(1, $2::int) i returning owner, name
    )
    insert into service (cluster_id, namespace, name, uid, owner, state, assigned_at, wanted)
    select $1, 'shop', split_part(name, '/', 2), name, owner, 'assigned', now(), '{}' from made
"""
_UNNAMED = """
    insert into announcement (cluster_id, address, since) select $1, address4, now() from allocation where kind = 'service'
"""
_ANNOUNCED = """
    update announcement a set node_id = n.id, term = 1, state = 'speaking' from node n
    where n.name = 'n' || (1 + (a.address - '10.99.0.0'::inet) % $1::int)
"""
_SPOKEN = """
    insert into voice (cluster_id, address, node_id, term, stage, told_at)
    select cluster_id, address, node_id, term, 'speaking', now() - interval '1 minute' from announcement
"""
_BEATS = """
    insert into announcer (node_id, beat_at) select id, clock_timestamp() from node
    on conflict (node_id) do update set beat_at = excluded.beat_at
"""
_SILENT = """
    update announcer set beat_at = clock_timestamp() - interval '3 seconds' where node_id = (select id from node where name = $1)
"""


async def crowd(site: Site, services: int, nodes: int) -> Crowd:
    """All of it, announced."""
    await site.pool("front", POOL, purpose="Service", cooldown=0)
    cluster = int(await site.sql.fetchval("select id from cluster"))
    await site.sql.execute(_NODES, cluster, nodes)
    await site.sql.execute(_SERVICES, cluster, services, ip_network(POOL))
    made = Crowd(site, cluster, nodes, services)
    await made.settle()
    await site.sql.execute("analyze")
    return made
