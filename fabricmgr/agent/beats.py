"""Tells the manager what this node announces: often while there is anything, at once when it changes, and a last time at the end."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

from fabricmgr.domain.errors import FabricError
from fabricmgr.loop import Outcome
from fabricmgr.problems import sentence
from fabricmgr.wire import ANNOUNCING_PERIOD, Announced, Announcing, Voice

IDLE_PERIOD = 60.0


class Beats:
    """The upward side of announcing. voices: what to tell. send: one call to the manager. leased: takes its answer."""

    def __init__(
        self,
        life: Callable[[], UUID],
        voices: Callable[[], list[Voice]],
        send: Callable[[Announcing], Awaitable[Announced]],
        leased: Callable[[Announced], None],
    ):
        self._life, self._voices, self._send, self._leased = life, voices, send, leased
        self._told: list[Voice] | None = None

    async def once(self) -> Outcome:
        """One beat. Without announcements only the end of the last one is told."""
        voices = self._voices()
        if not voices and not self._told:
            return Outcome.again(IDLE_PERIOD, "nothing is announced")
        try:
            answer = await self._send(Announcing(life=self._life(), voices=voices))
        except FabricError as error:
            return Outcome.again(ANNOUNCING_PERIOD, f"the manager does not hear of announcements: {sentence(error)}")
        self._told = voices
        self._leased(answer)
        if self._voices() != voices:
            return Outcome.again(0.0, "announcements changed meanwhile")
        return Outcome.again(ANNOUNCING_PERIOD, "the manager hears of announcements")

    async def farewell(self) -> None:
        """Say that nothing is announced any more, where the manager answers at once."""
        if self._told:
            with suppress(FabricError):
                await self._send(Announcing(life=self._life()))
            self._told = None
