"""Batches of reports. A report is applied once, whatever is sent how often; reports of several nodes share a commit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.store.mark import MARK
from fabricmgr.store.repeat import Caller


@dataclass(frozen=True, slots=True)
class Spot:
    """One address as an agent reports it. block and claim: None and 0 where the manager assigned it."""

    address: Address
    generation: int
    block: Prefix | None = None
    claim: int = 0


@dataclass(frozen=True, slots=True)
class ReportedChange:
    """what: assigned, released or gone. at: when it was, by the manager's clock."""

    what: str
    owner: UUID
    network: str
    container: str
    ifname: str
    at: datetime
    v4: Spot | None
    v6: Spot | None
    mac: str = ""
    about: str = "{}"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reported:
    """A numbered report of a node's life. serial: of the certificate that brought it. age_ms and free: as the agent says them."""

    node_id: int
    serial: str
    life: UUID
    number: int
    changes: tuple[ReportedChange, ...]
    age_ms: int = 0
    free: str = "{}"


class Outcome(Enum):
    APPLIED = "applied"
    REPEATED = "repeated"
    GAP = "gap"
    HELLO = "hello"  # the report is of another life
    GONE = "gone"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """last_number: the last that took effect. mark: how far the log had come after the commit."""

    outcome: Outcome
    last_number: int
    mark: str


_REPORT = f"select * from report_batch_2({', '.join(f'${n}' for n in range(1, 27))})"
# What may follow what in one set; anything else begins another wave.
_RANK = {"assigned": 0, "released": 1, "gone": 2}


class Reporting:
    """Sends the batches of the lane of reports."""

    def __init__(self, caller: Caller, clock: Callable[[], datetime]) -> None:
        self._caller = caller
        self._clock = clock

    async def send(self, reports: Sequence[Reported]) -> list[Verdict | Exception]:
        heads = [[getattr(report, name) for report in reports] for name in ("node_id", "serial", "life", "number", "age_ms", "free")]
        rows = await self._caller.call("report", _REPORT, self._clock(), *heads, *_columns(reports))
        # After the commit, so that whoever has seen this mark has not seen less than what the report did.
        mark = (await self._caller.call("mark", MARK))[0]["mark"]
        verdicts = {row["r"]: Verdict(Outcome(row["outcome"]), row["last_number"], mark) for row in rows}
        return [verdicts[place] for place in range(1, len(reports) + 1)]


def _columns(reports: Sequence[Reported]) -> list[list[object]]:
    columns: list[list[object]] = [[] for _ in range(19)]
    for place, report in enumerate(reports, 1):
        for wave, change in zip(waves(report.changes), report.changes, strict=True):
            for column, value in zip(columns, (place, wave, *_row(change)), strict=True):
                column.append(value)
    return columns


def _row(change: ReportedChange) -> tuple[object, ...]:
    about = (change.network, change.container, change.ifname, change.mac, change.about, change.at, change.reason or None)
    return (change.what, change.owner, *about, *_spot(change.v4), *_spot(change.v6))


def _spot(spot: Spot | None) -> tuple[object, ...]:
    return (None, None, None, None) if spot is None else (spot.address, spot.generation, spot.block, spot.claim)


def waves(changes: Sequence[ReportedChange]) -> list[int]:
    """For each change the set it is applied in: within a set no owner and no address goes back from gone to assigned."""
    reached: dict[object, tuple[int, int]] = {}
    result = []
    for change in changes:
        rank = _RANK[change.what]
        things = [change.owner, *(spot.address for spot in (change.v4, change.v6) if spot is not None)]
        wave, last = max((reached[thing] for thing in things if thing in reached), default=(0, -1))
        # The same rank again stays in its set only as a repetition of a release: two assignments of one thing must not meet in one insert.
        if rank < last or (rank == last == 0):
            wave += 1
        reached.update(dict.fromkeys(things, (wave, rank)))
        result.append(wave)
    return result
