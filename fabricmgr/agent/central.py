"""Addresses that the manager decides: asked for during an ADD, with the question in the journal so that no answer is ever lost."""

import asyncio
from collections.abc import Callable

import msgspec

from fabricmgr.agent.holdings import Holdings
from fabricmgr.agent.manager import CALL_LIMIT, Manager, NotSent
from fabricmgr.agent.records import Place
from fabricmgr.agent.request import CniRequest
from fabricmgr.domain.addresses import Family, family_of, parse_address
from fabricmgr.domain.errors import FabricError, ManagerUnavailable, PoolExhausted
from fabricmgr.wire import Attach, Attached

# Seconds for which "no free address" is believed: other nodes give addresses back, and nobody tells us.
EXHAUSTED_FOR = 60.0


class Central:
    """clock: monotonic seconds."""

    def __init__(self, holdings: Holdings, manager: Manager, clock: Callable[[], float]):
        self._exhausted: dict[str, float] = {}
        self._clock = clock
        self._holdings = holdings
        self._manager = manager

    def exhausted(self, network: str) -> bool:
        """Whether the manager had no address for a network when it was asked within the last minute."""
        return self._clock() - self._exhausted.get(network, -EXHAUSTED_FOR) < EXHAUSTED_FOR

    async def complete(self, place: Place, missing: list[Family], request: CniRequest) -> Place:
        """Give an intent the addresses that no held block had. Raises what the manager refuses with, ManagerUnavailable after 5 s; then
        the intent is undone, or stays as an open question where the manager may have answered it."""
        try:
            answer = await self._ask(place, missing, request)
        except NotSent:
            self._holdings.undo(place.key)
            raise
        except ManagerUnavailable:
            self._holdings.leave_open(place)
            raise
        except FabricError as error:
            if isinstance(error, PoolExhausted):
                self._exhausted[place.owned.network] = self._clock()
            self._holdings.undo(place.key)
            raise
        self._exhausted.pop(place.owned.network, None)
        addresses = [*place.owned.addresses, *(each for each in answer.addresses if family_of(parse_address(each.address)) in missing)]
        whole = msgspec.structs.replace(place, owned=msgspec.structs.replace(place.owned, addresses=addresses), asking=False)
        self._holdings.intend(whole)
        return whole

    async def _ask(self, place: Place, missing: list[Family], request: CniRequest) -> Attached:
        owned = place.owned
        versions = {family.value for family in missing}
        asked = [str(address) for address in request.asked if address.version in versions]
        attach = Attach(families=sorted(versions), asked=asked, mac=owned.mac, namespace=owned.namespace, pod=owned.pod, uid=owned.uid)
        try:
            async with asyncio.timeout(CALL_LIMIT):
                return await self._manager.attach(*place.key, attach)
        except TimeoutError:
            raise ManagerUnavailable(self._manager.url, f"it did not answer within {CALL_LIMIT:g} s") from None
