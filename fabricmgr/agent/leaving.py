"""How an attachment leaves: going is journalled, its links are cut off, and when the reaper has deleted them its addresses rest."""

import logging
from collections.abc import Callable, Iterable

from fabricmgr.agent import links
from fabricmgr.agent.holdings import Holdings
from fabricmgr.agent.links import Kernel
from fabricmgr.agent.records import Key, Stage
from fabricmgr.agent.request import Namespace
from fabricmgr.domain.errors import JournalUnusable, KernelRefused
from fabricmgr.loop import Outcome
from fabricmgr.metrics import REAPED
from fabricmgr.netlink.links import link_named
from fabricmgr.problems import sentence

log = logging.getLogger(__name__)


class Leaving:
    """reap: hands a token to the reaper; the key of an attachment, or None for a link of nobody's."""

    def __init__(self, kernel: Kernel, holdings: Holdings, reap: Callable[[Key | None], None]):
        self.left: Callable[[], None] = lambda: None
        self._kernel = kernel
        self._holdings = holdings
        self._reap = reap

    def leave(self, key: Key, reason: str, namespace: Namespace | None = None) -> None:
        """Detach and release at once. Nothing there: nothing to do.

        Raises KernelRefused when a link cannot be cut off; it is tried again."""
        attached = self._holdings.get(key)
        if attached is None:
            self._cut(None, links.host_name(*key), namespace, None)
            return
        if attached.stage is Stage.INTENT:
            # Of an ADD that failed while it asked the manager: there is no link, and its question is settled apart.
            return
        self._note_going(key, reason)
        place = attached.place
        self._cut(key, host_end(key, place.owned.host_interface), namespace, place.namespace if place.namespace != (0, 0) else None)

    def cut_stray(self, name: str) -> None:
        """Cut off a host end of nobody's. Raises KernelRefused."""
        self._cut(None, name, None, None)

    def finish(self, key: Key) -> None:
        """Go on with a leaving that a crash cut off: its link may live, wait for the reaper, or be gone. Raises KernelRefused."""
        attached = self._holdings.get(key)
        if attached is not None and attached.stage is Stage.GOING:
            self._cut(key, host_end(key, attached.place.owned.host_interface), None, None)

    def reap_leftovers(self) -> None:
        """Links of group *reap* that an earlier run left."""
        self._reap(None)

    def _note_going(self, key: Key, reason: str) -> None:
        """A journal that cannot be written must not keep a pod from going: after a crash the missing link tells the same."""
        try:
            self._holdings.going(key, reason)
        except JournalUnusable as error:
            log.error("leaving is not journalled", extra={"reason": sentence(error)})

    def _cut(self, key: Key | None, name: str, namespace: Namespace | None, identity: tuple[int, int] | None) -> None:
        descriptor = namespace.fd if namespace is not None else None
        # Where nothing was to be cut, its link is gone, or in the reaper's hands already: the next bunch ends it.
        if links.detach(self._kernel, name, descriptor, identity) or key is not None:
            self._reap(key)

    def reaped(self, keys: Iterable[Key | None]) -> None:
        """Called when their links are deleted."""
        for key in keys:
            if key is None:
                continue
            REAPED.inc()
            try:
                self._holdings.reaped(key)
            except JournalUnusable as error:
                log.error("a reaped link is not journalled", extra={"reason": sentence(error)})
        self.left()

    async def again(self) -> Outcome:
        """Finish what was not finished: a going attachment whose link still lives, or of which the journal took no note."""
        going = [key for key, each in self._holdings.state.attachments.items() if each.stage is Stage.GOING]
        try:
            for key in going:
                self.finish(key)
        except KernelRefused as error:
            return Outcome.again(2.0, sentence(error))
        return Outcome.done(f"{len(going)} are leaving" if going else "nobody is leaving")

    def link_lives(self, key: Key, host_interface: str) -> bool:
        """Whether the kernel still shows an attachment's host end."""
        return link_named(self._kernel.route, host_end(key, host_interface)) is not None


def host_end(key: Key, host_interface: str) -> str:
    """Name of an attachment's host end."""
    return host_interface or links.host_name(*key)
