"""Who is asking: a session's token, a password, or a certificate, looked up so that a write never trusts an old answer.

An answer may be TRAIL seconds old where the request only reads. A request that writes gets an answer that was asked for after it came;
callers with the same credentials share one question, so that 64 of them cost the database one look.
"""

import asyncio
import base64
import binascii
import functools
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from fabricmgr.domain import account as accounts
from fabricmgr.domain.errors import Unauthenticated
from fabricmgr.services.client_certificates import presented
from fabricmgr.web.asgi import Scope, header

TRAIL = 1.0  # seconds
KEPT = 4096  # answers; the oldest go first
READS = frozenset({"GET", "HEAD", "OPTIONS"})

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Principal:
    """Who a request comes from. privileges: Redfish's names. actor: as history and audit show it."""

    name: str
    privileges: frozenset[str] = frozenset()
    must_change_password: bool = False

    @staticmethod
    def anonymous() -> "Principal":
        """Nobody in particular."""
        return Anonymous("anonymous")

    @property
    def actor(self) -> str:
        return self.name

    @property
    def certificate(self) -> str:
        """SHA-256 of the client certificate that an account came with, hex; "" where it came by other means."""
        return ""


@dataclass(frozen=True)
class Anonymous(Principal):
    """A request without credentials."""


@dataclass(frozen=True)
class AccountPrincipal(Principal):
    """A person or a program with an account."""

    account: accounts.AccountPrincipal = field(kw_only=True)

    @property
    def certificate(self) -> str:
        return self.account.certificate

    @classmethod
    def of(cls, found: accounts.AccountPrincipal) -> "AccountPrincipal":
        """As the services know it."""
        return cls(found.name, found.privileges, found.must_change, account=found)


@dataclass(frozen=True)
class NodePrincipal(Principal):
    """A node's agent, by its certificate. It reaches nothing but its own node."""

    node: accounts.NodePrincipal = field(kw_only=True)

    @classmethod
    def of(cls, found: accounts.NodePrincipal) -> "NodePrincipal":
        """As the services know it."""
        return cls(found.name, node=found)

    @property
    def actor(self) -> str:
        return f"node {self.node.cluster}/{self.name}"


class Directory(Protocol):
    """What is known of callers. Each raises Unauthenticated (or LockedOut) for credentials that do not count."""

    async def session(self, token: str, now: datetime) -> accounts.AccountPrincipal: ...

    async def password(self, name: str, password: str, source: str, now: datetime) -> accounts.AccountPrincipal: ...

    async def certificate(
        self, shown: accounts.Presented, source: str, now: datetime
    ) -> accounts.AccountPrincipal | accounts.NodePrincipal: ...


class Lookups(Generic[K, V]):
    """Questions with the same key, asked once for all who wait. kept: how many answers are remembered, for those who need no fresh one."""

    def __init__(self, ask: Callable[[K], Awaitable[V]], clock: Callable[[], float] = time.monotonic, kept: int = KEPT) -> None:
        self._ask = ask
        self._clock = clock
        self._kept = kept
        self._known: dict[K, tuple[float, V]] = {}
        self._running: dict[K, asyncio.Task[V]] = {}
        self._next: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, *, fresh: bool) -> V:
        """The answer; fresh: of a question that began after this call did."""
        known = self._known.get(key)
        if not fresh and known is not None and self._clock() - known[0] < TRAIL:
            return known[1]
        return await asyncio.shield(self._joined(key))

    def forget(self, key: K) -> None:
        """What was known may be wrong now."""
        self._known.pop(key, None)

    def forget_answers(self, wrong: Callable[[V], bool]) -> None:
        """Answers that may be wrong now."""
        for key in [key for key, (_, answer) in self._known.items() if wrong(answer)]:
            self.forget(key)

    def _joined(self, key: K) -> "asyncio.Task[V]":
        """A question not yet begun: the one that waits behind the running one, or a new one."""
        if key not in self._next:
            task = asyncio.create_task(self._answer(key, self._running.get(key)))
            self._next[key] = task
            task.add_done_callback(_seen)
        return self._next[key]

    async def _answer(self, key: K, before: "asyncio.Task[V] | None") -> V:
        if before is not None:
            await asyncio.wait([before])
        task = self._next.pop(key)
        self._running[key] = task
        began = self._clock()
        try:
            answer = await self._ask(key)
        finally:
            if self._running.get(key) is task:
                del self._running[key]
        self._keep(key, began, answer)
        return answer

    def _keep(self, key: K, began: float, answer: V) -> None:
        self._known.pop(key, None)
        self._known[key] = (began, answer)
        while len(self._known) > self._kept:
            del self._known[next(iter(self._known))]


def _seen(task: "asyncio.Task[V]") -> None:
    """An answer nobody waits for any more must not be complained about."""
    if not task.cancelled():
        task.exception()


@dataclass
class Who:
    """Finds a request's principal."""

    directory: Directory
    clock: Callable[[], datetime]
    basic: bool = True
    monotonic: Callable[[], float] = time.monotonic
    _sessions: Lookups[str, accounts.AccountPrincipal] = field(init=False)
    _certificates: Lookups[tuple[accounts.Presented, str], accounts.AccountPrincipal | accounts.NodePrincipal] = field(init=False)

    def __post_init__(self) -> None:
        self._sessions = Lookups(lambda token: self.directory.session(token, self.clock()), self.monotonic)
        self._certificates = Lookups(lambda shown: self.directory.certificate(*shown, self.clock()), self.monotonic)

    async def identify(self, scope: Scope) -> Principal:
        """The principal of a request, Anonymous without credentials. Credentials that do not count raise Unauthenticated, whatever
        others the request brings: a token first, then a password, then a certificate."""
        fresh = scope["method"] not in READS
        if token := header(scope, b"x-auth-token"):
            return AccountPrincipal.of(await self._sessions.get(token, fresh=fresh))
        if authorization := header(scope, b"authorization"):
            name, password = self._basic(authorization)
            # Not kept here: the directory remembers passwords that were right as digests, which is the costly part.
            return AccountPrincipal.of(await self.directory.password(name, password, source(scope), self.clock()))
        if shown := certificate(scope):
            # Known apart by where they come from, since an account is locked out for a source.
            found = await self._certificates.get((shown, source(scope)), fresh=fresh)
            return AccountPrincipal.of(found) if isinstance(found, accounts.AccountPrincipal) else NodePrincipal.of(found)
        return Principal.anonymous()

    def forget_session(self, token: str) -> None:
        """A session was closed here: it ends at once in this process, within TRAIL in others."""
        self._sessions.forget(token)

    def forget_session_id(self, session: UUID) -> None:
        """The same, where only the session's id is known."""
        self._sessions.forget_answers(lambda principal: principal.session == session)

    def forget_account(self, name: str) -> None:
        """An account was changed or removed here: what it may do now counts at once in this process, within TRAIL in others."""
        self._sessions.forget_answers(lambda principal: principal.name == name)
        self._certificates.forget_answers(lambda found: isinstance(found, accounts.AccountPrincipal) and found.name == name)

    def forget_certificates(self) -> None:
        """Which certificates count was changed here."""
        self._certificates.forget_answers(lambda found: isinstance(found, accounts.AccountPrincipal))

    def _basic(self, authorization: str) -> tuple[str, str]:
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            raise Unauthenticated(f"the scheme {scheme[:20]!r} is not known here: use X-Auth-Token or Basic")
        if not self.basic:
            raise Unauthenticated("Basic is switched off here: open a session")
        try:
            name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthenticated("the Authorization header cannot be read") from None
        if not colon:
            raise Unauthenticated("the Authorization header cannot be read")
        return name, password


def source(scope: Scope) -> str:
    """The address a request came from; "local" over a unix socket. Headers that claim another are not believed."""
    client = scope.get("client")
    return str(client[0]) if client else "local"


def certificate(scope: Scope) -> accounts.Presented | None:
    """The client certificate that TLS has taken; None without one."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain") or ()
    return _presented(chain[0]) if chain else None


_presented = functools.lru_cache(maxsize=KEPT)(presented)
