"""When a pool runs full: marks are crossed upwards at once, and cleared a little below, so that a pool on the edge does not chatter."""

from dataclasses import dataclass

from fabricmgr.domain.pool import CRITICAL, WARNING, Usage

CLEARED_BELOW = 5  # points under a threshold
EXHAUSTED = 100


@dataclass(frozen=True)
class Crossings:
    """Marks that a family of a pool went over, and that it is under again."""

    raised: tuple[int, ...]
    cleared: tuple[int, ...]


def percent_used(usage: Usage) -> int:
    """Of what can be assigned, the part that is held or rests; rounded down, so that 100 means all. A pool of nothing is full."""
    assignable = usage.total - usage.reserved
    return EXHAUSTED if assignable <= 0 else (usage.held + usage.cooling) * 100 // assignable


def crossings(usage: Usage, standing: frozenset[int], marks: tuple[int, ...] = (WARNING, CRITICAL)) -> Crossings:
    """standing: the marks that were crossed before. marks: the pool's thresholds now; one that is no threshold any more is cleared.

    EXHAUSTED stands while nothing is free, whatever idles in nodes' blocks."""
    percent = percent_used(usage)
    raised = [mark for mark in marks if percent >= mark and mark not in standing]
    cleared = [mark for mark in sorted(standing - {EXHAUSTED}) if mark not in marks or percent < mark - CLEARED_BELOW]
    if (usage.free == 0) != (EXHAUSTED in standing):
        (raised if usage.free == 0 else cleared).append(EXHAUSTED)
    return Crossings(tuple(raised), tuple(cleared))
