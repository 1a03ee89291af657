"""Switches and ports, as drivers observed them."""

from collections.abc import Iterable

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.fabric import Port, Switch, safe
from fabricmgr.store import switch_rows
from fabricmgr.store.tx import Tx


async def names(tx: Tx) -> list[str]:
    """Of all switches, in order."""
    return await switch_rows.names(tx)


async def get(tx: Tx, name: str) -> Switch:
    """Raises NotFound."""
    return await switch_rows.get(tx, name)


async def of_names(tx: Tx, wanted: Iterable[str]) -> dict[str, Switch]:
    """Those of them that exist."""
    return await switch_rows.of_names(tx, wanted)


async def ports(tx: Tx, switch: str) -> list[Port]:
    """All of a switch. Raises NotFound."""
    return await switch_rows.ports(tx, switch)


async def port_names(tx: Tx, switch: str) -> list[str]:
    """Of a switch, in the same order. Raises NotFound."""
    return await switch_rows.port_names(tx, switch)


async def port(tx: Tx, switch: str, label: str) -> Port:
    """By the name that is safe in an id. Raises NotFound."""
    for each in await switch_rows.port_names(tx, switch):
        if safe(each) == label:
            return await switch_rows.one_port(tx, switch, each)
    raise NotFound("port", f"{label} of switch {switch}")


async def heard(tx: Tx, macs: Iterable[str]) -> list[Port]:
    """Ports whose neighbour, as LLDP told, is one of these NICs."""
    wanted = [mac for mac in macs if mac]
    return await switch_rows.neighbours(tx, wanted) if wanted else []
