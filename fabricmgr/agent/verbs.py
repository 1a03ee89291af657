"""What the server calls for each CNI operation, and who may work on an attachment when."""

import asyncio
from collections.abc import Hashable
from typing import Protocol

from fabricmgr.agent.request import CniRequest
from fabricmgr.agent.result import CniResult


class Verbs(Protocol):
    """The operations of CNI, over typed requests. Each raises a FabricError, which becomes the CNI error object by its row in `problems`.

    The server has parsed and checked the request, holds the attachment's turn (ADD, DEL, CHECK), and has replayed its spooled DELs.
    A namespace is open while the call runs; who needs it for longer keeps a duplicate. A call is never cancelled but by the agent's end:
    a caller that hung up is met after it, by `undo`."""

    async def add(self, request: CniRequest) -> CniResult:
        """Attach. Leaves nothing behind when it raises."""

    async def undo(self, request: CniRequest) -> None:
        """Take back an `add` that succeeded and whose result nobody got. The attachment's turn is still held."""

    async def delete(self, request: CniRequest) -> None:
        """Detach. Succeeds when there is nothing. Also called for spooled DELs, then without a namespace."""

    async def check(self, request: CniRequest) -> None:
        """Compare the kernel with `request.prev` and the journal. Raises CheckFailed."""

    async def gc(self, request: CniRequest) -> None:
        """Free all of the network that is not in `request.valid`; None frees nothing. Takes no turn: see `Turns`."""

    async def status(self, request: CniRequest) -> None:
        """Raises AgentNotReady (50) or RunningPodsSuffer (51)."""


class Turns:
    """One at a time for each key; keys do not wait for each other. For everybody who works on attachments: server, GC, reconcile."""

    def __init__(self) -> None:
        self._held: dict[Hashable, _Queue] = {}

    def of(self, key: Hashable) -> "Turn":
        """Wait for the key's turn and hold it: `async with`. First come, first served."""
        return Turn(self._held, key)

    async def let_others_come(self) -> None:
        """Where others are at work too, let each come as far as this one.

        A burst that goes step by step finds the code and the kernel's path of each step in the processor's caches: measured at 32 ADDs at
        once, one takes an eighth less processor time. Alone it would cost a turn of the loop."""
        if len(self._held) > 1:
            await asyncio.sleep(0)

    def busy(self, key: Hashable) -> bool:
        """Whether somebody holds or awaits the key's turn."""
        return key in self._held


class _Queue:
    """Who holds and awaits one key's turn."""

    __slots__ = ("lock", "size")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.size = 0


class Turn:
    """One key's turn, for one holder. A class of its own, since contextlib's generators cost an ADD more than the lock does."""

    __slots__ = ("_held", "_key", "_queue")

    def __init__(self, held: dict[Hashable, _Queue], key: Hashable):
        self._held = held
        self._key = key

    async def __aenter__(self) -> None:
        queue = self._held.get(self._key)
        if queue is None:
            queue = self._held[self._key] = _Queue()
        self._queue = queue
        queue.size += 1
        try:
            await queue.lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._queue.lock.release()
        self._leave()

    def _leave(self) -> None:
        self._queue.size -= 1
        if not self._queue.size:
            del self._held[self._key]  # nothing is kept of attachments that are at rest
