"""Leads, or stands by: one process across all managers runs the loops that must not be run twice."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from fabricmgr.domain.errors import DatabaseUnavailable
from fabricmgr.loop import Loop, Outcome
from fabricmgr.store.leadership import Leading, lead

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between tries while the database is away


class Duty(Protocol):
    """What runs during a reign: a loop, or what keeps loops of its own."""

    @property
    def name(self) -> str: ...

    async def run(self) -> None: ...


Duties = Callable[[Leading], Sequence[Duty]]


class Leader:
    """url: of the database. duties: the loops of a reign, made anew for each. name: of this process, as the server shows it."""

    def __init__(self, url: str, name: str, duties: Duties) -> None:
        self._url = url
        self._name = name
        self._duties = duties
        self.leads = False

    async def run(self) -> None:
        """Until cancelled. A reign ends when its session does."""
        await Loop("leader", self._reign, PAUSE).run()

    async def _reign(self) -> Outcome:
        try:
            async with lead(self._url, self._name) as leading:
                self.leads = True
                log.info("leading", extra={"backend": leading.since})
                await self._serve(leading)
        except DatabaseUnavailable as error:
            return Outcome.again(PAUSE, f"the database is away: {error.reason}")
        finally:
            self.leads = False
        return Outcome.again(0, "leadership was lost")

    async def _serve(self, leading: Leading) -> None:
        """Run the loops until the session is lost, then end them all before another reign begins."""
        tasks = [asyncio.create_task(loop.run(), name=loop.name) for loop in self._duties(leading)]
        try:
            await leading.lost.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
