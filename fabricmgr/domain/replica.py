"""Managers that serve on one database, this one among them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid5

BEAT = timedelta(seconds=10)  # between signs of life
LOST_AFTER = 3 * BEAT
FORGOTTEN_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class Sign:
    """A sign of life. url: where it listens. certificate: what it serves with, PEM, with its chain; "" while it has none."""

    id: UUID
    host: str
    software: str
    url: str
    certificate: str


@dataclass(frozen=True)
class Replica:
    """A manager as its last sign of life told. ntp_servers: kept for whoever reads them; no name of theirs is ever looked up."""

    id: UUID
    host: str
    software: str
    url: str
    certificate: str
    ntp_servers: tuple[str, ...]
    seen_at: datetime
    version: int

    def lives(self, now: datetime) -> bool:
        """Whether it was heard of lately."""
        return self.seen_at + LOST_AFTER > now

    @property
    def port(self) -> int:
        """Where it listens for HTTPS."""
        return int(self.url.rpartition(":")[2])


def replica_id(installation: UUID, host: str, data_dir: str) -> UUID:
    """The same at each start: one of each data directory on each machine."""
    return uuid5(installation, f"{host} {data_dir}")
