"""Services of type LoadBalancer: each gets its external address, shows it in its status, and gives it back when it wants none any more.

Our finalizer comes first, so that no Service goes while it holds an address, and goes last. What the API server refuses of statuses and
Events never holds up the finalizer: a namespace that is being deleted would wait for ever.
"""

import asyncio
import logging
from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from fabricmgr.controllers.cluster_view import ClusterView
from fabricmgr.controllers.leavers import Leavers
from fabricmgr.controllers.service_conditions import ASSIGNED, CONFLICT, OURS, Verdict, said, verdicts
from fabricmgr.controllers.waiting import Key, Waiting
from fabricmgr.domain.errors import ApiRefused, FabricError
from fabricmgr.domain.events import DomainEvent, ServicePending
from fabricmgr.domain.kube import ADDRESSES, POOL, PREFIX
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.service import MIGRATED, SHARING, Asked, ours
from fabricmgr.kube import write
from fabricmgr.kube.objects import Condition, Kind
from fabricmgr.kube.queue import Queue
from fabricmgr.kube.reflector import Change
from fabricmgr.kube.views import ENDPOINT_SLICES, SERVICES, EndpointSlice, Ingress, Service
from fabricmgr.kube.write import FINALIZER
from fabricmgr.loop import Loop, Outcome
from fabricmgr.metrics import KUBE_TRANSITIONS
from fabricmgr.problems import sentence
from fabricmgr.services import service_addresses, service_waiting
from fabricmgr.services.service_addresses import Settled, Shown
from fabricmgr.services.service_leaving import Leaving
from fabricmgr.services.service_waiting import Stamp
from fabricmgr.store import announce_rows, service_rows
from fabricmgr.store.announce_rows import Digest
from fabricmgr.store.tx import Tx

log = logging.getLogger(__name__)

LOCAL = "Local"  # externalTrafficPolicy: only nodes with an endpoint serve
RETRY = 3.0  # seconds between looks for Services that wait: addresses are released and pools change without a word of their cluster
RESYNC = 300.0
LOOK = 1.0  # seconds between looks at what becomes of announcements
IP_MODE = (1, 30)  # the first server that keeps ipMode unless it is told not to


class KubeServices:
    """A part of following."""

    name = "services"
    kinds: Sequence[Kind[Any]] = (SERVICES, ENDPOINT_SLICES)

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._known: set[Key] = set()
        self._waiting = Waiting()
        self._stamp: Stamp | None = None
        self._since: dict[tuple[Key, str], tuple[str, str, datetime]] = {}
        self._announced: dict[Key, Digest] = {}
        self._mode: str | None = None
        self._refused: dict[Key, str] = {}
        self._queue: Queue[Key] = Queue("services", self._noted, chance=view.chance, keys=self._keys, resync=RESYNC)
        self._leavers = Leavers(view, self._queue.add)
        self._loop = Loop(f"waiting Services of {view.cluster}", self._again, RETRY, view.chance)
        self._look = Loop(f"announced Services of {view.cluster}", self._follow, LOOK, view.chance)

    def changed(self, kind: Kind[Any], change: Change[Any]) -> None:
        if kind is ENDPOINT_SLICES:
            self._serves(change.object)
        elif self._concerns(change.object) or change.object.key in self._known:
            self._queue.add(change.object.key)

    def _concerns(self, found: Service) -> bool:
        return FINALIZER in (found.metadata.finalizers or ()) or ours(asked_of(found), self._view.api.class_less)

    def _serves(self, found: EndpointSlice) -> None:
        """Pods come and go all the time, and most Services are served by any node."""
        key = found.namespace, found.service
        service = self._view.copy(SERVICES).find(key[1], key[0]) if key in self._known else None
        if service is not None and service.spec.external_traffic_policy == LOCAL:
            self._queue.add(key)

    async def run(self) -> None:
        """Rows whose Service went meanwhile are looked at as well: what they hold is given back."""
        await self._view.until_synced(SERVICES)
        await self._view.until_known(ENDPOINT_SLICES)
        self._mode = "VIP" if (await self._view.client.version()).numbers >= IP_MODE else None
        async with self._view.database.read() as tx:
            self._known |= {(each.namespace, each.name) for each in await service_rows.every(tx, self._view.cluster_id)}
        for key in self._keys():
            self._queue.add(key)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._leavers.run())
            group.create_task(self._loop.run())
            group.create_task(self._look.run())

    def _keys(self) -> Iterable[Key]:
        return sorted({each.key for each in self._view.copy(SERVICES).store.values() if self._concerns(each)} | self._known)

    async def _again(self) -> Outcome:
        """One look for all that wait: where nothing changed that could help them, none of them is looked at."""
        if not len(self._waiting):
            self._stamp = None
            return Outcome.done("no Service waits for an address")
        now, cluster = self._view.clock(), ClusterName(self._view.cluster)
        async with self._view.database.read() as tx:
            found = await service_waiting.stamp(tx, self._view.cluster_id, cluster, now)
        if found != self._stamp:
            for key in self._waiting.firsts():
                self._queue.add(key)
        self._stamp = found
        return Outcome.done(f"{len(self._waiting)} Services wait for an address")

    def _note(self, found: Service, reason: str) -> None:
        """Whether it waits. Once one has what it wanted, the next that waits for the same may get it too."""
        if reason:
            looked = self._stamp.labels if self._stamp is not None else frozenset(found.labels)
            self._waiting.put(found.key, alike(found, reason, looked))
        elif (following := self._waiting.drop(found.key)) is not None:
            self._queue.add(following)

    async def _follow(self) -> Outcome:
        """What nodes announce changes without a word of the cluster."""
        async with self._view.database.look() as tx:
            found = await announce_rows.digests(tx, self._view.cluster_id)
        for key in self._announced.keys() & found.keys():
            if found[key] != self._announced[key]:
                self._queue.add(key)
        return Outcome.done("Services say who announces their addresses")

    async def _noted(self, key: Key) -> Outcome:
        """One look, which the cluster's page knows of where a right is missing for it."""
        try:
            outcome = await self.reconcile(key)
        except ApiRefused as refused:
            self._refused[key] = sentence(refused)
            raise
        else:
            self._refused.pop(key, None)
            return outcome
        finally:
            self._view.notes[self.name] = "; ".join(sorted(set(self._refused.values())))

    async def reconcile(self, key: Key) -> Outcome:
        """One look at one Service."""
        found = self._view.copy(SERVICES).find(key[1], key[0])
        if found is None or not ours(asked_of(found), self._view.api.class_less):
            return await self._end(key, found)
        self._known.add(key)
        await write.add_finalizer(self._view.client, SERVICES, found)
        settling = partial(
            service_addresses.settle,
            cluster_id=self._view.cluster_id,
            cluster=ClusterName(self._view.cluster),
            shown=shown_of(found, self._endpoints(found)),
            now=self._view.clock(),
        )
        settled = await self._view.database.run(settling)
        self._note(found, settled.reason)
        self._announced[key] = announce_rows.digest(settled.announced)
        await self._say(found, settled.told)  # first, since it is told once: a status that is refused is written at the next look
        await self._show(found, settled)
        if settled.replaces:
            await self._replaced(found, settled)
        if settled.waits:
            return self._leavers.wait(key, "it goes over to another address")
        return Outcome.blocked(settled.reason) if settled.reason else Outcome.done("it has its address")

    def _endpoints(self, found: Service) -> tuple[str, ...] | None:
        """Nodes with a ready endpoint, where only such may announce; None where they are not known."""
        if found.spec.external_traffic_policy != LOCAL:
            return ()
        if not self._view.synced(ENDPOINT_SLICES):
            return None
        slices = self._view.copy(ENDPOINT_SLICES).store.values()
        return serving([each for each in slices if (each.namespace, each.service) == found.key])

    async def _replaced(self, found: Service, settled: Settled) -> None:
        """Its status shows the new address: whoever announces the old one falls silent."""
        await self._view.database.run(lambda tx: self._leaving(tx).leave(*found.key))
        old = ", ".join(each.ip for each in found.status.load_balancer.ingress or ())
        new = ", ".join(map(str, settled.addresses))
        await self._view.events.say(SERVICES, found, "AddressMoved", f"{old} was replaced by {new}")

    def _leaving(self, tx: Tx) -> Leaving:
        return Leaving(tx, self._view.cluster_id, ClusterName(self._view.cluster), self._view.clock())

    async def _end(self, key: Key, found: Service | None) -> Outcome:
        """Nothing of ours is left at it, and nothing of it with us. Its address is silent before it is given back."""
        held = found is not None and FINALIZER in (found.metadata.finalizers or ())
        if found is not None and held and (found.status.load_balancer.ingress or said(found)):
            await self._clear(found)
        withdrawn = await self._view.database.run(lambda tx: self._leaving(tx).withdraw(*key))
        if withdrawn.waits:
            return self._leavers.wait(key, "its address is being withdrawn")
        if found is not None and held:
            await write.remove_finalizer(self._view.client, SERVICES, await self._newest(found))
            await self._say(found, withdrawn.told)
        self._known.discard(key)
        self._waiting.drop(key)
        self._announced.pop(key, None)
        for kind in OURS:
            self._since.pop((key, kind), None)
        return Outcome.done("it has no address of ours")

    async def _newest(self, found: Service) -> Service:
        """The status was written a moment ago, and a finalizer is only removed from what was read last."""
        newest = await self._view.client.get(SERVICES, found.namespace, found.name)
        return newest if newest is not None and newest.uid == found.uid else found

    async def _clear(self, found: Service) -> None:
        try:
            await write.service_status(self._view.client, found.namespace, found.name, ())
        except FabricError as error:
            log.info("status not cleared", extra={"service": f"{found.namespace}/{found.name}", "outcome": sentence(error)})

    async def _show(self, found: Service, settled: Settled) -> None:
        """Only where it shows something else."""
        ingress = [Ingress(ip=str(each), ip_mode=self._mode) for each in settled.addresses]
        before = said(found)
        after = verdicts(settled, before)
        if (found.status.load_balancer.ingress or []) == ingress and before == after:
            return
        conditions = [Condition(each.type, each.status, each.reason, each.message, self._turned(found, each)) for each in after]
        await write.service_status(self._view.client, found.namespace, found.name, ingress, conditions)
        for each in after:
            if each.type != ASSIGNED and each not in before:
                reason = each.type.removeprefix(PREFIX) if each.type == CONFLICT else each.reason
                await self._view.events.say(SERVICES, found, reason, each.message, warning=each.warns)

    def _turned(self, found: Service, verdict: Verdict) -> datetime:
        """Since when the condition has its status: the same each time, so that writing it twice changes nothing."""
        key, status = (found.key, verdict.type), verdict.status
        kept = self._since.get(key)
        if kept is None or kept[:2] != (found.uid, status):
            shown = [each for each in found.status.conditions or () if (each.type, each.status) == (verdict.type, status)]
            since = shown[0].last_transition_time if shown else None
            kept = self._since[key] = (found.uid, status, since or self._view.clock())
        return kept[2]

    async def _say(self, found: Service, told: Iterable[DomainEvent]) -> None:
        for event in told:
            KUBE_TRANSITIONS.labels(self._view.cluster, event.what).inc()
            log.info("service", extra={"event": event.what, "about": event.about()})
            about = event.about()
            pending = isinstance(event, ServicePending)
            message = str(about["reason"]) if pending else f"{about['address']} of pool {about['pool']}"
            await self._view.events.say(SERVICES, found, event.what.removeprefix("Service"), message, warning=pending)


def asked_of(found: Service) -> Asked:
    """What the Service asks for, as the domain has it."""
    spec = found.spec
    return Asked(
        spec.type,
        spec.load_balancer_class,
        tuple(spec.ip_families or ()),
        spec.ip_family_policy or "",
        spec.load_balancer_ip,
        tuple(sorted(f"{each.protocol}/{each.port}" for each in spec.ports or ())),
        spec.external_traffic_policy or "Cluster",
        found.annotations,
        found.metadata.deleting,
    )


def alike(found: Service, reason: str, looked: Iterable[str]) -> Hashable:
    """The same for Services that wait for the same: what pools they may use, what they ask for, and what stood in the way.

    looked: keys of labels that pools look at."""
    asked = asked_of(found)
    shares = asked.ports if asked.annotations.get(SHARING) else ()
    said = frozenset((key, asked.annotations[key]) for key in (ADDRESSES, POOL, SHARING, *MIGRATED) if key in asked.annotations)
    labels = frozenset((key, found.labels[key]) for key in looked if key in found.labels)
    return (found.namespace, reason, asked.families, asked.policy, asked.address, said, labels, shares)


def shown_of(found: Service, endpoints: tuple[str, ...] | None = ()) -> Shown:
    """What deciding wants to know of it."""
    return Shown(found.namespace, found.name, found.uid, found.labels, asked_of(found), endpoints)


def serving(slices: Iterable[EndpointSlice]) -> tuple[str, ...]:
    """Nodes with a ready endpoint; where there is none, with one that ends and serves on, as kube-proxy has it (KEP-1669)."""
    found = [each for one in slices for each in one.endpoints or () if each.node_name]
    ready = [each for each in found if each.conditions.ready is not False]
    ending = [each for each in found if each.conditions.serving is not False and each.conditions.terminating]
    return tuple(sorted({each.node_name for each in ready or ending if each.node_name}))
