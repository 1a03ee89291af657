"""Links whose pods are gone, deleted in bunches.

Deleting a link waits for an RCU grace period inside `send`, 10 to 20 ms for one link and hardly more for thirty: so they gather for a
moment, and a thread does it. It is the one thread the agent has, forced by that wait.
"""

from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import Generic, TypeVar

from fabricmgr.agent.links import REAP
from fabricmgr.domain.errors import KernelRefused
from fabricmgr.netlink.links import delete_group
from fabricmgr.netlink.sockets import ROUTE, NetlinkSocket

T = TypeVar("T")

GATHER = 0.05  # seconds
# While more come, it gathers on: pods that leave together would wait for each other's deletion. At most so many times GATHER.
_LONGEST = 10
_AGAIN = 1.0


class Reaper(Generic[T]):
    """Deletes the links of group REAP and says whose are gone.

    gone: called in the reaper's thread with the tokens of a bunch, once each, after the kernel has deleted their links.
    Started in the node's namespace."""

    def __init__(
        self,
        gone: Callable[[Sequence[T]], None],
        open_socket: Callable[[int], NetlinkSocket] = NetlinkSocket,
        gather: float = GATHER,
        again: float = _AGAIN,
    ) -> None:
        self._gone, self._open_socket, self._gather, self._again = gone, open_socket, gather, again
        self._waiting: list[T] = []
        self._changed = Condition()
        self._ending = False
        self._thread = Thread(target=self._run, name="reaper", daemon=True)
        self.trouble = ""
        """Why the last deletion failed; empty when it did not. Tried again each second."""

    def start(self) -> None:
        self._thread.start()

    def take(self, token: T) -> None:
        """Delete the link of this token soon. It is in group REAP already: `detach` has put it there."""
        with self._changed:
            self._waiting.append(token)
            self._changed.notify()

    def stop(self, timeout: float = 5.0) -> None:
        """Delete what waits, and end. Seconds at most; what is left then is found by the next survey."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while self._wait_for_work():
            self._let_gather()
            with self._changed:
                bunch, self._waiting = self._waiting, []
            if not self._delete(bunch):
                with self._changed:
                    self._waiting = bunch + self._waiting
                    if self._ending:
                        return
                self._pause(self._again)

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            return bool(self._waiting)

    def _let_gather(self) -> None:
        for _ in range(_LONGEST):
            before = len(self._waiting)
            self._pause(self._gather)
            if len(self._waiting) == before or self._ending:
                return

    def _pause(self, seconds: float) -> None:
        """Wait, unless the end has come."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending, seconds)

    def _delete(self, bunch: Sequence[T]) -> bool:
        try:
            with self._open_socket(ROUTE) as sock:
                delete_group(sock, REAP)
        except (KernelRefused, OSError) as refused:
            self.trouble = str(refused)
            return False
        self.trouble = ""
        self._gone(bunch)
        return True
