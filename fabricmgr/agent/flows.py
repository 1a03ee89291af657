"""Flows of addresses that rest, forgotten ahead of the next owner: that walks the kernel's table, and an ADD should not wait for it.

Done when the cooldown is over. Until then whoever still sends to the former owner could bring a flow back, by rules that name it; from
then on the rules are those that the next owner meets as well."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from fabricmgr.agent.holdings import Holdings
from fabricmgr.domain.addresses import Address, parse_address
from fabricmgr.domain.errors import KernelRefused
from fabricmgr.loop import Outcome
from fabricmgr.problems import sentence

# Seconds until the next look.
PERIOD = 1.0

Forget = Callable[[Iterable[Address]], None]


class Flows:
    """forget: deletes the tracked flows of addresses; raises KernelRefused."""

    def __init__(self, holdings: Holdings, forget: Forget, clock: Callable[[], datetime]):
        self._holdings = holdings
        self._forget = forget
        self._clock = clock

    async def once(self) -> Outcome:
        """Forget those of every address that has rested, one at a time: calls go between. What fails is left to the ADD."""
        waiting = self._holdings.uncleaned
        while waiting and waiting[0][0] <= self._clock():
            _, rest = waiting.popleft()
            if self._holdings.state.resting.get(rest.address.address) is not rest:
                continue
            try:
                self._forget((parse_address(rest.address.address),))
            except KernelRefused as error:
                return Outcome.again(PERIOD, f"flows of {rest.address.address} are left to the next ADD: {sentence(error)}")
            self._holdings.cleaned[rest.address.address] = rest
            await asyncio.sleep(0)
        return Outcome.done("flows of rested addresses are forgotten")
