"""Switches and ports put into a running manager's database, as a driver that observes them would."""

import asyncio
import json
from datetime import UTC, datetime

import asyncpg

from fabricmgr.app import local
from fabricmgr.settings import ManagerSettings
from tests.support.serve_process import ServeProcess

_SWITCH = """
insert into switch (name, manufacturer, model, serial, firmware, role, source, metrics, observed_at, created_at)
values ($1, 'Example', 'EX-48', $1 || '-0001', '1.2.3', 'leaf', 'simulated', $2, $3, $3) returning id
"""
_PORT = """
insert into port (switch_id, name, place, link, speed_mbps, max_speed_mbps, mtu, mac, kind, neighbour, metrics, observed_at)
select $1, 'Ethernet1/' || n, n, case when n % 4 = 0 then 'down' else 'up' end, 25000, 100000, 9216,
  '02:aa:00:00:' || lpad(to_hex(n / 256), 2, '0') || ':' || lpad(to_hex(n % 256), 2, '0'), 'downstream', $3, $4, $5
from generate_series(1, $2) n
"""
NEIGHBOUR = {"chassis_id": "02:00:00:00:00:01", "chassis_kind": "mac", "port_id": "eth0", "port_kind": "ifname", "system_name": "n1"}
COUNTERS = {"rx_bytes": 123456789, "tx_bytes": 987654321, "rx_errors": 0, "tx_errors": 0, "rx_frames": 100000, "tx_frames": 200000}


def observe(served: ServeProcess, name: str, ports: int) -> None:
    """A switch with so many ports, every fourth of which is down."""
    with local.database_url(ManagerSettings(data_dir=served.data_dir), lambda _: None) as url:
        asyncio.run(_observe(url, name, ports))


async def _observe(url: str, name: str, ports: int) -> None:
    now = datetime.now(UTC)
    connection = await asyncpg.connect(url)
    try:
        switch = await connection.fetchval(_SWITCH, name, json.dumps({}), now)
        await connection.execute(_PORT, switch, ports, json.dumps(NEIGHBOUR), json.dumps(COUNTERS), now)
    finally:
        await connection.close()
