"""Managers of one database: signs of life, and what is kept for each."""

import re
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.events import ManagerChanged
from fabricmgr.domain.replica import FORGOTTEN_AFTER, Replica, Sign
from fabricmgr.store import replica_rows
from fabricmgr.store.tx import Tx

MOST_NTP_SERVERS = 16
_HOST = re.compile(r"[A-Za-z0-9._:%\-]{1,253}\Z")


async def beat(tx: Tx, sign: Sign, now: datetime) -> None:
    """Note that a manager serves. Those that were not heard of for a week are forgotten."""
    await replica_rows.beat(tx, sign, now)
    await replica_rows.forget_before(tx, now - FORGOTTEN_AFTER)


async def get(tx: Tx, replica: UUID) -> Replica:
    """Raises NotFound."""
    return await replica_rows.get(tx, replica)


async def list_all(tx: Tx) -> list[Replica]:
    """All that were heard of in the last week."""
    return await replica_rows.every(tx)


async def change_ntp(tx: Tx, replica: UUID, servers: Sequence[str], if_version: int | None, by: str, now: datetime) -> Replica:
    """Keep these names or addresses. Raises NotFound, VersionConflict, Invalid."""
    del now
    check_ntp(servers)
    await replica_rows.change_ntp(tx, replica, servers, if_version)
    tx.emit(ManagerChanged(replica, ("ntp_servers",), by))
    return await replica_rows.get(tx, replica)


async def show_certificate(tx: Tx, replica: UUID, chain: str) -> None:
    """It serves with another one now, which need not wait for the next sign of life to be seen."""
    await replica_rows.show_certificate(tx, replica, chain)


def check_ntp(servers: Sequence[str], field: str = "NTP/NTPServers") -> None:
    """Raises Invalid."""
    if len(servers) > MOST_NTP_SERVERS:
        raise Invalid(field, len(servers), f"at most {MOST_NTP_SERVERS} servers")
    for index, each in enumerate(servers):
        if not _HOST.match(each):
            raise Invalid(f"{field}/{index}", each, "a host name or an address")
