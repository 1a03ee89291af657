"""Where an API server and we say different things of pods' addresses, and when that is told.

kubelet writes a pod's status a moment after the node's agent assigned, and the agent reports a moment after that: what differs must go on
differing for a while, and longer than the node's report trail, before it counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from fabricmgr.domain.events import Json, PodAddressMismatch

PATIENCE = timedelta(seconds=10)
LEFT = timedelta(seconds=120)  # for what is held for a pod that is not shown: a DEL comes up to a minute after the pod went


class What(Enum):
    """conflict: it is held for another. unknown: nobody holds it. missing: it is held for a pod that does not show it."""

    CONFLICT = "conflict"
    UNKNOWN = "unknown"
    MISSING = "missing"


@dataclass(frozen=True)
class Mismatch:
    """node: where the pod is, or the address is held. holder: in words, for a conflict. shown: the API server shows the pod."""

    what: What
    namespace: str
    pod: str
    node: str
    address: str
    holder: str = ""
    shown: bool = True

    @property
    def patience(self) -> timedelta:
        return PATIENCE if self.shown else LEFT

    @property
    def reason(self) -> str:
        if self.what is What.CONFLICT:
            return f"the API server shows it at this pod, but it is held for {self.holder}"
        if self.what is What.UNKNOWN:
            return "the API server shows it at this pod, but nobody holds it"
        if not self.shown:
            return "it is held for this pod, which the API server does not show"
        return "it is held for this pod, whose status does not show it"

    def to_json(self) -> dict[str, Json]:
        return {"what": self.what.value, "address": self.address, "node": self.node, "holder": self.holder}

    def event(self, cluster: str) -> PodAddressMismatch:
        return PodAddressMismatch(cluster, self.namespace, self.pod, self.node, self.address, self.what.value, self.reason)


@dataclass(frozen=True)
class Trail:
    """How far our copy of a node is behind. heard_at: None where no agent is known."""

    heard_at: datetime | None
    behind: timedelta = timedelta(0)


def due(
    found: Iterable[Mismatch], since: Mapping[Mismatch, datetime], trails: Mapping[str, Trail], now: datetime
) -> tuple[dict[Mismatch, datetime], list[Mismatch]]:
    """Since when each differs, and those that have for long enough. A node whose agent has not spoken since then has not had its say."""
    known = {each: since.get(each, now) for each in found}
    return known, [each for each, began in known.items() if now >= began + each.patience and _spoke(trails.get(each.node), began)]


def _spoke(trail: Trail | None, began: datetime) -> bool:
    return trail is None or trail.heard_at is None or trail.heard_at - trail.behind > began
