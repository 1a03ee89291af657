"""Deployments, StatefulSets and DaemonSets: what an API server shows of them, brought to the one function that says what happened."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from fabricmgr.controllers.cluster_view import ClusterView
from fabricmgr.domain.events import DomainEvent, WorkloadUnschedulable
from fabricmgr.domain.workload import ADDRESSES, DEADLINE, EXCEEDED, Obstacle, Place, Seen, obstacles
from fabricmgr.kube.objects import Condition, Kind
from fabricmgr.kube.queue import Queue
from fabricmgr.kube.reflector import Change
from fabricmgr.kube.views import (
    DAEMON_SETS,
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
    DaemonSet,
    Deployment,
    Pod,
    ReplicaSet,
    StatefulSet,
)
from fabricmgr.loop import Outcome
from fabricmgr.metrics import KUBE_TRANSITIONS
from fabricmgr.services import workloads
from fabricmgr.store import workload_rows
from fabricmgr.store.tx import Tx
from fabricmgr.store.workload_rows import Key

log = logging.getLogger(__name__)

REVISION = "deployment.kubernetes.io/revision"
TEMPLATE = "deprecated.daemonset.template.generation"
_KINDS: Mapping[str, Kind[Any]] = {kind.name: kind for kind in (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS)}


class Workloads:
    """A part of following."""

    name = "workloads"
    kinds: Sequence[Kind[Any]] = (*_KINDS.values(), REPLICA_SETS, PODS)

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._stuck: dict[Key, dict[str, str]] = {}
        self._queue: Queue[Key] = Queue("workloads", self.reconcile, chance=view.chance, keys=self._keys)

    def changed(self, kind: Kind[Any], change: Change[Any]) -> None:
        if kind.name in _KINDS:
            self._queue.add(Key(kind.name, change.object.namespace, change.object.name))
        elif kind is PODS:
            self._pod(change.object, change.new)

    def _pod(self, pod: Pod, now: Pod | None) -> None:
        """Only pods that find no node, or found one after all, say something of their workload that its own status does not."""
        key = self._workload(pod)
        if key is None:
            return
        stuck = self._stuck.setdefault(key, {})
        before, message = stuck.get(pod.uid), unschedulable(now) if now is not None else None
        if message == before:
            if not stuck:
                del self._stuck[key]
            return
        if message is None:
            del stuck[pod.uid]
        else:
            stuck[pod.uid] = message
        if not stuck:
            del self._stuck[key]
        self._queue.add(key)

    def _workload(self, pod: Pod) -> Key | None:
        owner = pod.metadata.owner
        if owner is None:
            return None
        if owner.kind != REPLICA_SETS.name:
            return Key(owner.kind, pod.namespace, owner.name) if owner.kind in _KINDS else None
        found = self._view.copy(REPLICA_SETS).find(owner.name, pod.namespace)
        return Key(DEPLOYMENTS.name, pod.namespace, _deployment(pod, owner.name, found))

    async def run(self) -> None:
        """What was there before anybody looked is taken in first, as one change; then what vanished meanwhile is forgotten."""
        await self._view.until_known(*self.kinds)
        if self._view.first:
            await self._view.database.run(self._take_in)
        await self._view.database.run(self._forget_gone)
        self._view.settled.set()
        for key in self._keys():
            self._queue.add(key)
        await self._queue.run()

    async def _take_in(self, tx: Tx) -> None:
        for key in self._keys():
            if seen := self.seen(key):
                await workloads.observe(tx, self._view.cluster_id, self._place(key), seen, self._view.clock(), baseline=True)

    async def _forget_gone(self, tx: Tx) -> None:
        known = await workload_rows.keys(tx, self._view.cluster_id)
        for key in known - set(self._keys()):
            if key.kind in _KINDS and self._view.synced(_KINDS[key.kind]):
                await workloads.forget(tx, self._view.cluster_id, self._place(key))

    def _keys(self) -> Iterable[Key]:
        return [Key(name, found.namespace, found.name) for name, kind in _KINDS.items() for found in self._view.copy(kind).store.values()]

    def _place(self, key: Key) -> Place:
        return Place(self._view.cluster, key.kind, key.namespace, key.name)

    def seen(self, key: Key) -> Seen | None:
        """As the copies show it now."""
        found = self._view.copy(_KINDS[key.kind]).find(key.name, key.namespace)
        met = obstacles([*self._stuck.get(key, {}).values()])
        if isinstance(found, Deployment):
            return deployment(found, met)
        if isinstance(found, StatefulSet):
            return stateful_set(found, met)
        return daemon_set(found, met) if isinstance(found, DaemonSet) else None

    async def reconcile(self, key: Key) -> Outcome:
        """One look at one workload."""
        seen = self.seen(key)
        if seen is None:
            if self._view.synced(_KINDS[key.kind]):
                gone = await self._view.database.run(lambda tx: workloads.forget(tx, self._view.cluster_id, self._place(key)))
                await self._say(key, gone)
            return Outcome.done("gone")
        now = self._view.clock()
        observed = partial(workloads.observe, cluster_id=self._view.cluster_id, place=self._place(key), seen=seen, now=now)
        told, again = await self._view.database.run(observed)
        await self._say(key, told)
        if again is not None:
            self._queue.add_within(key, max(0.1, (again - now).total_seconds()))
        return Outcome.done("told")

    async def _say(self, key: Key, told: Iterable[DomainEvent]) -> None:
        """At the object, where only we can say it: the scheduler knows of no addresses."""
        found = self._view.copy(_KINDS[key.kind]).find(key.name, key.namespace)
        for event in told:
            KUBE_TRANSITIONS.labels(self._view.cluster, event.what).inc()
            log.info("workload", extra={"event": event.what, "about": event.about()})
            if found is not None and isinstance(event, WorkloadUnschedulable) and event.resource == ADDRESSES:
                message = f"{event.pods} pods wait: no node has a free address for them."
                await self._view.events.say(_KINDS[key.kind], found, "NoAddresses", message, warning=True)


def unschedulable(pod: Pod) -> str | None:
    """What the scheduler says of a pod that finds no node; None for any other."""
    for each in pod.status.conditions or ():
        if each.type == "PodScheduled" and each.status == "False" and each.reason == "Unschedulable" and not pod.metadata.deleting:
            return each.message
    return None


def _deployment(pod: Pod, replica_set: str, found: ReplicaSet | None) -> str:
    """The ReplicaSet says whose it is; where the pod is here before it, its name does: it ends with the hash of the template."""
    if found is not None and found.metadata.owner is not None:
        return found.metadata.owner.name
    return replica_set.removesuffix(f"-{pod.labels.get('pod-template-hash', '')}")


def deployment(found: Deployment, met: Mapping[Obstacle, int]) -> Seen:
    conditions = {each.type: each for each in found.status.conditions or ()}
    progressing = conditions.get("Progressing")
    wanted, deadline = _wanted(found.spec.replicas), found.spec.progress_deadline_seconds
    return Seen(
        uid=found.uid,
        current=_current(found),
        revision=found.annotations.get(REVISION, ""),
        wanted=wanted,
        updated=found.status.updated_replicas,
        available=found.status.available_replicas,
        old=max(0, found.status.replicas - found.status.updated_replicas),
        spare=spare(found.spec.max_unavailable, wanted),
        paused=found.spec.paused,
        exceeded=progressing is not None and progressing.status == "False" and progressing.reason == EXCEEDED,
        deadline=DEADLINE if deadline is None else timedelta(seconds=min(deadline, 86400 * 365)),
        failure=_failure(conditions.get("ReplicaFailure")),
        obstacles=met,
    )


def stateful_set(found: StatefulSet, met: Mapping[Obstacle, int]) -> Seen:
    status = found.status
    rolling = status.current_revision != status.update_revision
    return Seen(
        uid=found.uid,
        current=_current(found),
        revision=status.update_revision,
        wanted=_wanted(found.spec.replicas),
        updated=status.updated_replicas if rolling else status.replicas,
        available=status.available_replicas,
        old=max(0, status.replicas - status.updated_replicas) if rolling else 0,
        obstacles=met,
    )


def daemon_set(found: DaemonSet, met: Mapping[Obstacle, int]) -> Seen:
    status = found.status
    return Seen(
        uid=found.uid,
        current=status.observed_generation >= found.metadata.generation,
        revision=found.annotations.get(TEMPLATE, ""),
        wanted=status.desired_number_scheduled,
        updated=status.updated_number_scheduled,
        available=status.number_available,
        old=max(0, status.current_number_scheduled - status.updated_number_scheduled),
        obstacles=met,
    )


def spare(max_unavailable: int | str | None, wanted: int) -> int:
    """How many replicas may be unavailable in a rollout: a number, or a share of those wanted, rounded down (Kubernetes' default: 25 %)."""
    given = "25%" if max_unavailable is None else str(max_unavailable)
    found = re.fullmatch(r"(\d+)(%?)", given)
    if found is None:
        return 0
    return min(wanted, int(found[1]) * wanted // 100 if found[2] else int(found[1]))


def _wanted(replicas: int | None) -> int:
    return 1 if replicas is None else replicas


def _current(found: Deployment | StatefulSet) -> bool:
    return found.status.observed_generation >= found.metadata.generation


def _failure(condition: Condition | None) -> str:
    return condition.message[:300] or condition.reason if condition is not None and condition.status == "True" else ""
