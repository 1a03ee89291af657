"""What this manager tells the others of itself, and how it takes up a certificate that somebody gave it."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from fabricmgr import __version__
from fabricmgr.app import tls
from fabricmgr.domain.replica import Sign, replica_id
from fabricmgr.loop import Outcome
from fabricmgr.services import installation, replicas, server_certificate
from fabricmgr.services.server_certificate import Here
from fabricmgr.settings import Listen, ManagerSettings
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database, Tx


@dataclass(frozen=True)
class Seat:
    """Where a worker serves. listen: as it is bound. identity: the certificate in use."""

    listen: Listen
    identity: tls.Identity

    @property
    def url(self) -> str:
        """For people: a wildcard is no address to go to."""
        return f"https://{Listen(socket.gethostname(), self.listen.port) if _is_wildcard(self.listen.host) else self.listen}"


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


@dataclass(frozen=True)
class Presence:
    """One for each worker; all workers of a manager say the same."""

    database: Database
    sealer: Sealer
    seat: Seat
    here: Here
    clock: Callable[[], datetime]

    async def once(self) -> Outcome:
        """Take up what is stored for us, then give a sign of life."""
        now = self.clock()

        async def use(tx: Tx) -> None:
            given = await server_certificate.stored(tx, self.sealer, self.here.id)
            if given is not None and not self.here.fixed:
                self.here.serve(given)
            sign = Sign(self.here.id, socket.gethostname(), __version__, self.seat.url, self.seat.identity.chain())
            await replicas.beat(tx, sign, now)

        await self.database.run(use)
        return Outcome.done("told the others that this manager serves")


async def opened(database: Database, sealer: Sealer, settings: ManagerSettings, seat: Seat, clock: Callable[[], datetime]) -> Presence:
    """Who we are follows from the installation, this machine and the data directory."""
    async with database.read() as tx:
        ours = await installation.get(tx)
    own = replica_id(ours, socket.gethostname(), str(settings.data_dir.resolve()))
    fixed = "" if settings.tls_certificate is None else f"the setting tls_certificate names {settings.tls_certificate}: replace that file"
    return Presence(database, sealer, seat, Here(own, seat.identity.serve, seat.identity.key, fixed), clock)
