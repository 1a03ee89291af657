"""Keeps what a cluster uses without asking out of pools: externalIPs of its Services, and service ranges that grow."""

from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

from fabricmgr.controllers.cluster_view import ClusterView
from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.domain.names import ClusterName
from fabricmgr.kube.objects import Kind
from fabricmgr.kube.reflector import Change
from fabricmgr.kube.views import SERVICE_CIDRS, SERVICES
from fabricmgr.loop import Loop, Outcome
from fabricmgr.services import occupied

SOON = 0.5  # seconds after a change
RESYNC = 60.0  # an address that somebody held may be free by now


class KubeOccupied:
    """A part of following."""

    name = "occupied"
    kinds: Sequence[Kind[Any]] = (SERVICES, SERVICE_CIDRS)

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._loop = Loop(f"occupied addresses of {view.cluster}", self.look, RESYNC, view.chance)

    def changed(self, kind: Kind[Any], change: Change[Any]) -> None:
        if kind is SERVICE_CIDRS or _outside(change.old) != _outside(change.new):
            self._loop.wake_within(SOON)

    async def run(self) -> None:
        await self._view.until_synced(SERVICES)
        await self._view.until_known(SERVICE_CIDRS)
        await self._loop.run()

    async def look(self) -> Outcome:
        """All of them, held against what is reserved."""
        view, cluster, now = self._view, ClusterName(self._view.cluster), self._view.clock()
        found = [cidr for each in view.copy(SERVICE_CIDRS).store.values() for cidr in _prefixes(each.spec.cidrs)]
        service = await view.database.run(partial(occupied.grow, cluster_id=view.cluster_id, found=found))
        notes = await view.database.run(partial(occupied.keep_ranges_out, cluster=cluster, service=service, now=now))
        notes += await view.database.run(partial(occupied.keep_out, cluster=cluster, wanted=self._external(), now=now))
        view.notes[self.name] = "; ".join(notes)
        return Outcome.blocked(notes[0]) if notes else Outcome.done("what the cluster uses by itself is kept out of pools")

    def _external(self) -> dict[Address, str]:
        """By address; of several Services with one, the first by name."""
        shown = sorted(self._view.copy(SERVICES).store.values(), key=lambda each: each.key, reverse=True)
        return {address: f"{each.namespace}/{each.name}" for each in shown for address in _addresses(each.spec.external_ips)}


def _outside(service: Any) -> object:
    return None if service is None else service.spec.external_ips


def _addresses(texts: Sequence[str] | None) -> list[Address]:
    """The API server checked them when they were written; one that is none all the same is nobody's address."""
    found = []
    for text in texts or ():
        try:
            found.append(ip_address(text))
        except ValueError:
            continue
    return found


def _prefixes(texts: Sequence[str] | None) -> list[Prefix]:
    found: list[Prefix] = []
    for text in texts or ():
        try:
            found.append(ip_network(text))
        except ValueError:
            continue
    return found
