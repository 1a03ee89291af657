"""What the database knows of callers."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fabricmgr.domain.account import AccountPrincipal, NodePrincipal
from fabricmgr.services import identity, sessions
from fabricmgr.services.accounts import Gate
from fabricmgr.store.tx import Database


@dataclass(frozen=True)
class StoredDirectory:
    """Looks callers up. session_timeout: how long a session lives without a request."""

    database: Database
    gate: Gate
    session_timeout: timedelta

    async def session(self, token: str, now: datetime) -> AccountPrincipal:
        """By a session's token; its use is noted. Raises Unauthenticated."""
        return await self.database.run(lambda tx: sessions.find(tx, token, self.session_timeout, now))

    async def password(self, name: str, password: str, source: str, now: datetime) -> AccountPrincipal:
        """By name and password. Raises Unauthenticated, LockedOut."""
        return await self.gate.authenticate(name, password, source, now)

    async def node(self, serial: str, now: datetime) -> NodePrincipal:
        """By a certificate's serial. Raises Unauthenticated for one that is unknown, revoked or past its time."""
        async with self.database.read() as tx:
            return await identity.node_of_certificate(tx, serial, now)
