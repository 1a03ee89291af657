"""What the database knows of callers."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fabricmgr.domain.account import AccountPrincipal, NodePrincipal, Presented
from fabricmgr.services import client_certificates, identity, sessions
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

    async def certificate(self, shown: Presented, source: str, now: datetime) -> AccountPrincipal | NodePrincipal:
        """By a client certificate: a node's, else an account's. Raises Unauthenticated for one that is unknown, revoked or past its time,
        LockedOut."""
        async with self.database.read() as tx:
            node = await identity.node_of_presented(tx, shown, now)
            return node or await client_certificates.account_of(tx, shown, source, self.gate.lockout, now)
