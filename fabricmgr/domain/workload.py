"""What happens to a workload, worked out from what its API server shows: each transition once, whatever is seen twice or not at all.

`look` compares what is seen with what is remembered. It counts replicas first and reads conditions only for what counts do not tell:
a Deployment's `Progressing` turns False only inside a rollout and stays True when a finished one loses its pods (Kubernetes reference,
"Deployments"). No replicas wanted and paused are lawful states.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from fabricmgr.domain.events import (
    DomainEvent,
    Json,
    WorkloadAvailable,
    WorkloadComplete,
    WorkloadDegraded,
    WorkloadDeleted,
    WorkloadPaused,
    WorkloadProgressing,
    WorkloadStalled,
    WorkloadUnschedulable,
)

SETTLE = timedelta(seconds=30)  # that replicas may be short without a word, and that an obstacle is remembered after it went
GATHER = timedelta(seconds=2)  # so that many pods that find no node are told as one number
DEADLINE = timedelta(seconds=600)  # of a rollout, where its author named none
EXCEEDED = "ProgressDeadlineExceeded"
_INSUFFICIENT = re.compile(r"Insufficient ([\w./-]+)")
_TAINT = re.compile(r"taint(?:s|\(s\))? \{([^:}]+)")
ADDRESSES = "fabricmgr.io/addresses"  # as a resource that nodes have too little of
OURS = {"fabricmgr.io/no-addresses": ADDRESSES}


class Rollout(Enum):
    NONE = ""
    PROGRESSING = "progressing"
    STALLED = "stalled"
    COMPLETE = "complete"


@dataclass(frozen=True)
class Place:
    """Which workload. kind: Deployment, StatefulSet or DaemonSet."""

    cluster: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Obstacle:
    """Why pods find no node."""

    resource: str
    reason: str


@dataclass(frozen=True)
class Seen:
    """A workload as its API server shows it. current: the status is about the newest specification (observedGeneration).

    revision: of the template that is being rolled out; empty where none was yet. old: replicas of earlier ones. spare: how many may be
    unavailable while a rollout goes on. failure: why replicas could not be made. obstacles: how many pods each keeps from a node."""

    uid: str
    current: bool
    revision: str
    wanted: int
    updated: int
    available: int
    old: int = 0
    spare: int = 0
    paused: bool = False
    exceeded: bool = False
    deadline: timedelta = DEADLINE
    failure: str = ""
    obstacles: Mapping[Obstacle, int] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.updated >= self.wanted and self.old == 0 and self.available >= self.wanted


@dataclass(frozen=True)
class Met:
    """An obstacle: since when, when it was seen last, and whether it was told."""

    since: datetime
    seen: datetime
    told: bool = False


@dataclass(frozen=True)
class Memory:
    """available: None where nothing was said of it yet. short_since: when fewer than enough replicas were seen first."""

    uid: str
    revision: str = ""
    rollout: Rollout = Rollout.NONE
    paused: bool = False
    available: bool | None = None
    short_since: datetime | None = None
    met: Mapping[Obstacle, Met] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        return {
            "uid": self.uid,
            "revision": self.revision,
            "rollout": self.rollout.value,
            "paused": self.paused,
            "available": self.available,
            "short_since": None if self.short_since is None else self.short_since.isoformat(),
            "met": [[each.resource, each.reason, met.since.isoformat(), met.seen.isoformat(), met.told] for each, met in self.met.items()],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Json]) -> "Memory":
        """Of what `to_json` gave. Raises KeyError, ValueError, TypeError for anything else."""
        short = found["short_since"]
        return cls(
            uid=str(found["uid"]),
            revision=str(found["revision"]),
            rollout=Rollout(found["rollout"]),
            paused=bool(found["paused"]),
            available=None if found["available"] is None else bool(found["available"]),
            short_since=datetime.fromisoformat(str(short)) if short else None,
            met=dict(_met(entry) for entry in _list(found["met"])),
        )


def _list(found: Json) -> list[Json]:
    if not isinstance(found, list):
        raise TypeError(found)
    return found


def _met(entry: Json) -> tuple[Obstacle, Met]:
    resource, reason, since, seen, told = _list(entry)
    return Obstacle(str(resource), str(reason)), Met(_time(since), _time(seen), bool(told))


def _time(text: Json) -> datetime:
    return datetime.fromisoformat(str(text))


@dataclass(frozen=True)
class Look:
    """events: in their order. again: when to look once more though nothing changes, since something will be due then."""

    memory: Memory
    events: Sequence[DomainEvent]
    again: datetime | None


def look(place: Place, memory: Memory | None, seen: Seen, now: datetime, *, baseline: bool = False, settle: timedelta = SETTLE) -> Look:
    """What happened since the last look. baseline: it was there before anybody looked, so what it is then is no news."""
    told: list[DomainEvent] = []
    if memory is None or memory.uid != seen.uid:
        # Another one of the same name: the end of the first was not seen by itself.
        told += [WorkloadDeleted(**vars(place))] if memory is not None else []
        memory = _as_found(seen, now) if baseline else Memory(seen.uid)
    if seen.current:
        memory = _available(place, _rollout(place, memory, seen, told), seen, told, now, settle)
        if memory.rollout is Rollout.PROGRESSING and _through(seen):
            memory = _completed(place, memory, seen, told)
    memory = _obstacles(place, memory, seen, told, now, settle)
    return Look(memory, told, _due(memory, seen, settle))


def _as_found(seen: Seen, now: datetime) -> Memory:
    enough = seen.available >= seen.wanted
    rollout = Rollout.COMPLETE if seen.finished or seen.paused or enough else Rollout.PROGRESSING
    available = None if not seen.wanted else True
    short = None if enough else now
    return Memory(seen.uid, seen.revision, Rollout.STALLED if seen.exceeded else rollout, seen.paused, available, short)


# --- rollouts --------------------------------------------------------------------------------------------------------------


def _rollout(place: Place, memory: Memory, seen: Seen, told: list[DomainEvent]) -> Memory:
    if seen.paused:
        if not memory.paused:
            told.append(WorkloadPaused(**vars(place)))
        return replace(memory, paused=True)
    memory = replace(memory, paused=False)
    if seen.revision != memory.revision:
        return _began(place, memory, seen, told)
    if memory.rollout is Rollout.STALLED and seen.finished:
        return replace(memory, rollout=Rollout.PROGRESSING)  # and through, as it turns out
    if memory.rollout is Rollout.PROGRESSING and seen.exceeded and not seen.finished:
        told.append(WorkloadStalled(**vars(place), revision=seen.revision, reason=EXCEEDED))
        return replace(memory, rollout=Rollout.STALLED)
    if memory.rollout is Rollout.STALLED and not seen.exceeded:
        told.append(WorkloadProgressing(**vars(place), revision=seen.revision, wanted=seen.wanted))
        return replace(memory, rollout=Rollout.PROGRESSING)
    return memory


def _began(place: Place, memory: Memory, seen: Seen, told: list[DomainEvent]) -> Memory:
    memory = replace(memory, revision=seen.revision)
    if not seen.wanted and not seen.old:
        return replace(memory, rollout=Rollout.COMPLETE)  # of nothing, to nobody
    told.append(WorkloadProgressing(**vars(place), revision=seen.revision, wanted=seen.wanted))
    if seen.exceeded and not seen.finished:
        told.append(WorkloadStalled(**vars(place), revision=seen.revision, reason=EXCEEDED))
        return replace(memory, rollout=Rollout.STALLED)
    return replace(memory, rollout=Rollout.PROGRESSING)


def _through(seen: Seen) -> bool:
    return not seen.paused and seen.finished


def _completed(place: Place, memory: Memory, seen: Seen, told: list[DomainEvent]) -> Memory:
    told.append(WorkloadComplete(**vars(place), revision=seen.revision, wanted=seen.wanted))
    return replace(memory, rollout=Rollout.COMPLETE)


# --- availability ----------------------------------------------------------------------------------------------------------


def _available(place: Place, memory: Memory, seen: Seen, told: list[DomainEvent], now: datetime, settle: timedelta) -> Memory:
    if not seen.wanted:
        return replace(memory, available=None, short_since=None)
    if seen.available >= seen.wanted:
        if memory.available is not True:
            told.append(WorkloadAvailable(**vars(place), available=seen.available, wanted=seen.wanted))
        return replace(memory, available=True, short_since=None)
    if seen.available >= seen.wanted - _spare(memory, seen) or not _expected(memory, seen):
        return replace(memory, short_since=None)
    since = memory.short_since or now
    memory = replace(memory, short_since=since)
    if memory.available is False or now < _limit(memory, seen, since, settle):
        return memory
    told.append(WorkloadDegraded(**vars(place), available=seen.available, wanted=seen.wanted, reason=_why(seen)))
    return replace(memory, available=False)


def _spare(memory: Memory, seen: Seen) -> int:
    """In a rollout a workload may be short of some replicas, as its author said."""
    return seen.spare if memory.rollout is Rollout.PROGRESSING else 0


def _expected(memory: Memory, seen: Seen) -> bool:
    """One that was made paused has no replicas yet, and that is what its author asked for."""
    return bool(memory.revision) or not (memory.paused or seen.paused)


def _limit(memory: Memory, seen: Seen, since: datetime, settle: timedelta) -> datetime:
    """A first rollout has the time of its deadline: until then it is merely new."""
    if seen.failure:
        return since
    first = memory.available is None and memory.rollout is Rollout.PROGRESSING
    return since + (max(settle, seen.deadline) if first else settle)


def _why(seen: Seen) -> str:
    if seen.failure:
        return seen.failure
    missing = seen.wanted - seen.available
    return f"{missing} {'replica is' if missing == 1 else 'replicas are'} not available"


# --- obstacles -------------------------------------------------------------------------------------------------------------


def _obstacles(place: Place, memory: Memory, seen: Seen, told: list[DomainEvent], now: datetime, settle: timedelta) -> Memory:
    """Once for each workload and reason. One that went is remembered for a while: a pod's successor meets the same."""
    met = {each: found for each, found in memory.met.items() if each in seen.obstacles or now < found.seen + settle}
    for each, pods in seen.obstacles.items():
        found = met.get(each) or Met(now, now)
        tell = not found.told and now >= found.since + GATHER
        if tell:
            told.append(WorkloadUnschedulable(**vars(place), pods=pods, resource=each.resource, reason=each.reason))
        met[each] = Met(found.since, max(now, found.seen), found.told or tell)
    return replace(memory, met=met)


def obstacles(messages: Sequence[str]) -> dict[Obstacle, int]:
    """Of pods by what the scheduler said of each (condition PodScheduled, reason Unschedulable): how many each thing keeps from a node."""
    counted: dict[Obstacle, int] = {}
    for message in messages:
        for each in obstacles_of(message):
            counted[each] = counted.get(each, 0) + 1
    return counted


def obstacles_of(message: str) -> Sequence[Obstacle]:
    """The scheduler's sentence without its numbers of nodes, which change with every node that comes and goes."""
    head = (message.partition(":")[2] or message).partition(". ")[0].rstrip(".")
    resources = dict.fromkeys(found.rstrip(".") for found in _INSUFFICIENT.findall(head))
    met = [Obstacle(each, f"Insufficient {each}") for each in resources]
    met += [Obstacle("pods", "Too many pods")] if "Too many pods" in head else []
    taints = [found.strip() for found in _TAINT.findall(head)]
    met += [Obstacle(OURS[each], f"taint {each}") for each in dict.fromkeys(taints) if each in OURS]
    if met:
        return met
    if taints:
        return [Obstacle(f"nodes without taint {taints[0]}", f"taint {taints[0]}")]
    return [Obstacle("nodes", re.sub(r"\b\d+ ", "", head).strip()[:200] or "Unschedulable")]


# --- time ------------------------------------------------------------------------------------------------------------------


def _due(memory: Memory, seen: Seen, settle: timedelta) -> datetime | None:
    due = [met.since + GATHER for each, met in memory.met.items() if not met.told and each in seen.obstacles]
    if memory.short_since is not None and memory.available is not False:
        due.append(_limit(memory, seen, memory.short_since, settle))
    return min(due, default=None)
