"""What happens to a Node of a cluster's API: it joins, is suspect, returns, is gone. Each is told once.

A deleted Node alone is only suspect: people delete Nodes to register them again, under living pods. It is gone when its agent has been
silent for the grace period too, counted from when we began to listen, or when somebody gave the node up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fabricmgr.domain.events import DomainEvent, Json, KubeNodeGone, KubeNodeJoined, KubeNodeReturned, KubeNodeSuspect

SETTLE = timedelta(seconds=10)  # that a Node may be not ready without a word
DELETED = "its Node object was deleted"


@dataclass(frozen=True)
class Seen:
    """A Node as its API server shows it. reason: why it is not ready."""

    uid: str
    ready: bool
    reason: str = ""


@dataclass(frozen=True)
class Agent:
    """Who speaks for the machine: name of our node. heard_at: when last. given_up: an operator declared it gone."""

    system: str
    heard_at: datetime | None
    given_up: bool = False


@dataclass(frozen=True)
class Memory:
    """was_ready: once, or before anybody looked."""

    uid: str
    was_ready: bool = False
    suspect: bool = False
    unready_since: datetime | None = None
    deleted_at: datetime | None = None

    def to_json(self) -> dict[str, Json]:
        times = {"unready_since": self.unready_since, "deleted_at": self.deleted_at}
        plain: dict[str, Json] = {"uid": self.uid, "was_ready": self.was_ready, "suspect": self.suspect}
        return plain | {name: None if at is None else at.isoformat() for name, at in times.items()}

    @classmethod
    def from_json(cls, found: Mapping[str, Json]) -> "Memory":
        times = {name: datetime.fromisoformat(str(found[name])) if found[name] else None for name in ("unready_since", "deleted_at")}
        return cls(str(found["uid"]), bool(found["was_ready"]), bool(found["suspect"]), **times)


@dataclass(frozen=True)
class Rules:
    """began: when we began to listen. grace: None for never."""

    now: datetime
    began: datetime
    grace: timedelta | None
    baseline: bool = False


@dataclass(frozen=True)
class Look:
    """memory: None where there is nothing to remember. gone: its agent's node is to be given up. again: when to look once more."""

    memory: Memory | None
    events: Sequence[DomainEvent] = ()
    again: datetime | None = None
    gone: bool = False


def look(cluster: str, node: str, memory: Memory | None, seen: Seen | None, agent: Agent | None, rules: Rules) -> Look:
    """What happened since the last look."""
    system = None if agent is None else agent.system
    if seen is None:
        return Look(None) if memory is None else _absent(cluster, node, memory, agent, rules)
    told: list[DomainEvent] = []
    if memory is None:
        memory = Memory(seen.uid, was_ready=rules.baseline)
        if not rules.baseline:
            told.append(KubeNodeJoined(cluster, node, system))
    memory = replace(memory, uid=seen.uid, deleted_at=None)
    if seen.ready:
        if memory.suspect:
            told.append(KubeNodeReturned(cluster, node, system))
        return Look(Memory(seen.uid, was_ready=True), told)
    if memory.suspect or not memory.was_ready:
        return Look(memory, told)
    since = memory.unready_since or rules.now
    if rules.now < since + SETTLE:
        return Look(replace(memory, unready_since=since), told, again=since + SETTLE)
    told.append(KubeNodeSuspect(cluster, node, seen.reason or "it is not ready", system))
    return Look(replace(memory, unready_since=since, suspect=True), told)


def _absent(cluster: str, node: str, memory: Memory, agent: Agent | None, rules: Rules) -> Look:
    system = None if agent is None else agent.system
    told: list[DomainEvent] = []
    deleted = memory.deleted_at or rules.now
    if memory.deleted_at is None and not memory.suspect:
        told.append(KubeNodeSuspect(cluster, node, DELETED, system))
    due = None if rules.grace is None else max(deleted, rules.began, (agent and agent.heard_at) or deleted) + rules.grace
    if (agent is not None and agent.given_up) or (due is not None and rules.now >= due):
        return Look(None, [*told, KubeNodeGone(cluster, node, system)], gone=agent is not None)
    return Look(replace(memory, suspect=True, deleted_at=deleted), told, again=due)
