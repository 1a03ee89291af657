"""Batches of releases."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

from fabricmgr.store.repeat import Caller


@dataclass(frozen=True, slots=True)
class End:
    """Give back what an owner holds. generation: as quoted; of two addresses the greater one; None for whatever it is.

    free: no link carries the addresses; they rest from now. Else they stay taken until the link is reported gone."""

    owner: UUID
    generation: int | None
    free: bool
    actor: str | None = None


class Ended(Enum):
    """absent: there was nothing, or it was released before."""

    FREED = "freed"
    RELEASED = "released"
    STALE = "stale"
    ABSENT = "absent"


_RELEASE = "select * from release_batch_1($1, $2, $3, $4, $5)"


class Releasing:
    """Sends the batches of the lane of releases."""

    def __init__(self, caller: Caller, clock: Callable[[], datetime]) -> None:
        self._caller = caller
        self._clock = clock

    async def send(self, ends: Sequence[End]) -> list[Ended | Exception]:
        ordered = sorted(ends, key=lambda end: end.owner)
        columns = [[getattr(end, name) for end in ordered] for name in ("owner", "generation", "free", "actor")]
        rows = await self._caller.call("release", _RELEASE, self._clock(), *columns)
        outcomes = {row["owner"]: Ended(row["outcome"]) for row in rows}
        return [outcomes[end.owner] for end in ends]
