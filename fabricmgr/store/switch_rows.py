"""Rows of switches and their ports, to be read. Drivers write them."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, bindparam, func, select

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.fabric import Port, Switch
from fabricmgr.store.tables import port, switch
from fabricmgr.store.tx import Tx

_PORTS = select(port, switch.c.name.label("switch")).join(switch, switch.c.id == port.c.switch_id)
# Built once: building a statement costs as much as running it.
_OF_SWITCH = _PORTS.where(switch.c.name == bindparam("switch_name")).order_by(port.c.place, port.c.name)
_NAMED = _PORTS.where(switch.c.name == bindparam("switch_name"), port.c.name == bindparam("port_name"))
_NAMES = (
    select(port.c.name)
    .join(switch, switch.c.id == port.c.switch_id)
    .where(switch.c.name == bindparam("switch_name"))
    .order_by(port.c.place, port.c.name)
)


async def names(tx: Tx) -> list[str]:
    """Of all switches."""
    return [row.name for row in await tx.all(select(switch.c.name).order_by(switch.c.name))]


async def of_names(tx: Tx, wanted: Iterable[str]) -> dict[str, Switch]:
    """Those of them that exist."""
    return {row.name: _switch(row) for row in await tx.all(select(switch).where(switch.c.name.in_(list(wanted))))}


async def get(tx: Tx, name: str) -> Switch:
    """Raises NotFound."""
    found = await of_names(tx, [name])
    if name not in found:
        raise NotFound("switch", name)
    return found[name]


async def ports(tx: Tx, name: str) -> list[Port]:
    """All of a switch, in the order of its front. Raises NotFound."""
    found = [_port(row) for row in await tx.all(_OF_SWITCH, {"switch_name": name})]
    if not found:
        await get(tx, name)
    return found


async def port_names(tx: Tx, name: str) -> list[str]:
    """Of a switch, in the order of its front. Raises NotFound."""
    found = [row.name for row in await tx.all(_NAMES, {"switch_name": name})]
    if not found:
        await get(tx, name)
    return found


async def one_port(tx: Tx, name: str, port_name: str) -> Port:
    """Of a switch. Raises NotFound."""
    row = await tx.first(_NAMED, {"switch_name": name, "port_name": port_name})
    if row is None:
        raise NotFound("port", f"{port_name} of switch {name}")
    return _port(row)


async def neighbours(tx: Tx, macs: Iterable[str]) -> list[Port]:
    """Ports that heard one of these MAC addresses as the port id of their neighbour."""
    heard = func.lower(port.c.neighbour["port_id"].astext).in_([mac.lower() for mac in macs])
    return [
        _port(row) for row in await tx.all(_PORTS.where(port.c.neighbour["port_kind"].astext == "mac", heard).order_by("switch", "place"))
    ]


def _switch(row: Row[Any]) -> Switch:
    return Switch(
        row.id,
        row.name,
        row.manufacturer,
        row.model,
        row.serial,
        row.firmware,
        row.role,
        row.reachable,
        row.source,
        row.metrics,
        row.observed_at,
        row.version,
    )


def _port(row: Row[Any]) -> Port:
    return Port(
        row.switch,
        row.name,
        row.place,
        row.enabled,
        row.link,
        row.speed_mbps,
        row.max_speed_mbps,
        row.mtu,
        row.mac,
        row.kind,
        row.neighbour,
        row.metrics,
        row.observed_at,
        row.version,
    )
