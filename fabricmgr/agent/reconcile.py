"""What journal and kernel say of each attachment, made one: at start, before anybody is served, and from time to time.

| journal | link | then |
|---|---|---|
| intent | no, yes | release; delete, then release: nobody was told |
| done | yes | keep |
| done | no | namespace gone too: release; there: hold until DEL or GC |
| going | any | reap, then release |
| nothing | ours | adopt by its alias; unreadable, or of an address that another holds: touch nothing, say so |
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from fabricmgr.agent.alias import Origin
from fabricmgr.agent.holdings import Holdings
from fabricmgr.agent.leaving import Leaving, host_end
from fabricmgr.agent.links import Kernel, host_name
from fabricmgr.agent.records import Attached, Key, Place, Stage
from fabricmgr.agent.survey import Surveyed, survey
from fabricmgr.domain.errors import FabricError
from fabricmgr.loop import Outcome
from fabricmgr.netlink.links import delete_link
from fabricmgr.problems import sentence
from fabricmgr.wire import BlockAddress, Owned

log = logging.getLogger(__name__)

PERIOD = 30.0


class Reconcile:
    """busy: whether somebody works on an attachment. strays: links of our groups that belong to nothing we know, in words."""

    def __init__(
        self,
        kernel: Kernel,
        holdings: Holdings,
        leaving: Leaving,
        clock: Callable[[], datetime],
        busy: Callable[[Key], bool] = lambda key: False,
    ):
        self.strays: list[str] = []
        self._kernel = kernel
        self._holdings = holdings
        self._leaving = leaving
        self._clock = clock
        self._busy = busy

    def at_start(self) -> None:
        """Before the first call is served: nothing else works on attachments yet. Raises KernelRefused."""
        surveyed = survey(self._kernel)
        live = {each.link.name: each for each in surveyed if not each.reaping}
        for key, attached in list(self._holdings.state.attachments.items()):
            self._settle(key, attached, live)
        if any(each.reaping for each in surveyed):
            self._leaving.reap_leftovers()
        self._adopt(live.values())

    async def once(self) -> Outcome:
        """What the runtime forgot, the kernel shows: links that went without a DEL, and what a journal that was full left half done."""
        live = {each.link.name: each for each in survey(self._kernel) if not each.reaping}
        gone = 0
        for key, attached in list(self._holdings.state.attachments.items()):
            name = host_end(key, attached.place.owned.host_interface)
            if self._busy(key):
                continue
            if attached.stage is Stage.INTENT and not attached.place.asking:
                self._end_intent(key, attached, live.pop(name, None) is not None)
            elif attached.stage is Stage.DONE and name not in live:
                gone += self._release_if_dead(key, attached)
        self._adopt(live.values())
        return Outcome.done(f"{gone} attachments had gone without a word" if gone else "journal and kernel agree")

    def _settle(self, key: Key, attached: Attached, live: dict[str, Surveyed]) -> None:
        name = host_end(key, attached.place.owned.host_interface)
        if attached.stage is Stage.INTENT:
            self._end_intent(key, attached, live.pop(name, None) is not None)
        elif attached.stage is Stage.GOING:
            self._leaving.finish(key)
        elif name not in live:
            self._release_if_dead(key, attached)

    def _end_intent(self, key: Key, attached: Attached, there: bool) -> None:
        """there: whether it has a link. It is deleted, so it is in no list that is looked through for links of nobody's."""
        if there:
            delete_link(self._kernel.route, host_end(key, attached.place.owned.host_interface))
        if attached.place.asking:
            self._holdings.leave_open(attached.place)
        else:
            self._holdings.undo(key, self._clock() if there else None)

    def _release_if_dead(self, key: Key, attached: Attached) -> bool:
        """No link carries its addresses. While its namespace is there, a DEL will come and the address stays its own till then."""
        if namespace_lives(attached.place):
            return False
        log.info("released", extra={"container": key[1], "ifname": key[2], "reason": "link and namespace are gone"})
        self._leaving.leave(key, "link and namespace are gone")
        return True

    # --- links that the journal does not know ---

    def _adopt(self, live: Iterable[Surveyed]) -> None:
        before, self.strays = self.strays, []
        known = {host_end(key, each.place.owned.host_interface) for key, each in self._holdings.state.attachments.items()}
        held = {a.address for each in self._holdings.state.attachments.values() for a in each.place.owned.addresses}
        for each in live:
            if each.link.name in known:
                continue
            reason = self._adopt_one(each, held)
            if reason:
                self.strays.append(f"link {each.link.name}: {reason}")
                if self.strays[-1] not in before:
                    log.warning("a link of ours belongs to nothing", extra={"link": each.link.name, "reason": reason})

    def _adopt_one(self, surveyed: Surveyed, held: set[str]) -> str:
        """Why it was left alone, or ""."""
        origin = surveyed.origin
        if origin is None:
            return "its alias cannot be read"
        if taken := sorted(held & {str(address) for address in origin.addresses}):
            return f"address {taken[0]} is held by another attachment"
        if host_name(origin.network, origin.container, origin.ifname) != surveyed.link.name:
            return "its alias names a container by a digest: DEL finds it by its name"
        try:
            self._holdings.adopt(place_found(origin, surveyed, self._clock()))
        except FabricError as error:
            return sentence(error)
        held.update(map(str, origin.addresses))
        return ""


def place_found(origin: Origin, surveyed: Surveyed, now: datetime) -> Place:
    """An attachment as its link's alias tells it. Which blocks its addresses are of, and their generations, come later."""
    owned = Owned(
        network=origin.network,
        container=origin.container,
        ifname=origin.ifname,
        addresses=[BlockAddress(address=str(address), generation=0) for address in origin.addresses],
        at=now,
        mac=origin.mac,
        host_interface=surveyed.link.name,
    )
    return Place(owned=owned, mtu=surveyed.link.mtu, spoof_check=origin.spoof_check, found=True)


def namespace_lives(place: Place) -> bool:
    """Whether the path that ADD was given still leads to the namespace that ADD saw."""
    with suppress(OSError):
        status = Path(place.sandbox).stat()
        return (status.st_dev, status.st_ino) == place.namespace
    return False
