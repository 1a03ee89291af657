"""Attachments, blocks and records for tests of the agent's memory and journal."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from fabricmgr.agent.records import BlockHeld, Done, Header, Intent, Place
from fabricmgr.wire import BlockAddress, Owned

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
BOOT = UUID("11111111-2222-3333-4444-555555555555")
LIFE = UUID("99999999-8888-7777-6666-555555555555")
HEADER = Header(boot_id=BOOT, life=LIFE)
BLOCK = BlockHeld(pool="pods", prefix="10.1.0.0/26", claim=3, state="confirmed", generation=7)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def address(ordinal: int, generation: int, block: str | None = "10.1.0.0/26", claim: int = 3) -> BlockAddress:
    """The address at a place of BLOCK; block None: one the manager assigned."""
    return BlockAddress(address=f"10.1.0.{ordinal}", generation=generation, block=block, claim=claim if block else 0)


def place(container: str, *addresses: BlockAddress, uid: str = "", ifname: str = "eth0", network: str = "podnet") -> Place:
    owned = Owned(network=network, container=container, ifname=ifname, addresses=list(addresses), at=NOW, uid=uid, host_interface="fm0")
    return Place(owned=owned, namespace=(4, 4026532000), sandbox="/run/netns/x")


def intent(container: str, *addresses: BlockAddress) -> Intent:
    return Intent(place=place(container, *addresses))


def done(container: str, *addresses: BlockAddress) -> Done:
    return Done(place=place(container, *addresses))
