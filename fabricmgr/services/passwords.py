"""Passwords: argon2 away from the event loop, and a short memory of those that were right.

Basic authentication brings the password with each request, and argon2 costs tens of milliseconds by design. What is remembered is a
digest under a key that this process alone has, together with the hash it matched: a changed password counts at once.
"""

import asyncio
import hmac
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fabricmgr.domain.account import Hashed, check_password

T = TypeVar("T")

REMEMBERED = 60.0  # seconds
MOST_REMEMBERED = 1024
# RFC 9106, section 4, second recommendation scaled down: 19 MiB and two passes are some 20 ms of one core.
_MEMORY_KIB = 19456
_PASSES = 2


@dataclass
class Passwords:
    """One for each process. key: secret and random, at least 32 bytes. threads: how many hashes at once; the others wait."""

    key: bytes
    threads: int = 1
    clock: Callable[[], float] = time.monotonic
    _hasher: PasswordHasher = field(init=False)
    _executor: ThreadPoolExecutor = field(init=False)
    _known: dict[bytes, tuple[float, str]] = field(default_factory=dict)
    _nobody: str = ""

    def __post_init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1)
        # A thread of our own, since argon2 has no other way to leave the loop, and few, since each takes its memory.
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="argon2")

    async def hashed(self, password: str, field: str = "password") -> Hashed:
        """Check the rule and hash. Raises Invalid."""
        check_password(password, field)
        return Hashed(await self._run(lambda: self._hasher.hash(password)))

    async def verify(self, name: str, password: str, expected: str | None) -> bool:
        """Whether it is the password of this hash. None: there is no such account, which takes as long to find out."""
        digest = hmac.digest(self.key, f"{len(name)}:{name}{password}".encode(errors="surrogatepass"), "sha256")
        if expected is not None and self._is_known(digest, expected):
            return True
        against = expected or await self._hash_of_nobody()
        right = await self._run(lambda: self._matches(against, password)) and expected is not None
        if right and expected is not None:
            self._remember(digest, expected)
        return right

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _is_known(self, digest: bytes, expected: str) -> bool:
        known = self._known.get(digest)
        return known is not None and known[0] > self.clock() and known[1] == expected

    def _remember(self, digest: bytes, expected: str) -> None:
        self._known.pop(digest, None)
        self._known[digest] = (self.clock() + REMEMBERED, expected)
        while len(self._known) > MOST_REMEMBERED:
            del self._known[next(iter(self._known))]

    def _matches(self, expected: str, password: str) -> bool:
        try:
            return self._hasher.verify(expected, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False

    async def _hash_of_nobody(self) -> str:
        if not self._nobody:
            self._nobody = await self._run(lambda: self._hasher.hash(self.key))
        return self._nobody

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
