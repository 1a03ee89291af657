"""Holds pods' addresses in the API server against ours, whenever pods have changed and from time to time."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from fabricmgr.controllers.cluster_view import ClusterView
from fabricmgr.domain.pod_addresses import Mismatch
from fabricmgr.kube.objects import Kind
from fabricmgr.kube.reflector import Change
from fabricmgr.kube.views import PODS
from fabricmgr.loop import Loop, Outcome
from fabricmgr.services import pod_addresses
from fabricmgr.services.kube_shown import pod_of

PERIOD = 5.0  # seconds while something differs or has changed
RESYNC = 30.0  # seconds otherwise
REASON = "AddressMismatch"


class KubePods:
    """A part of following. Its rows are another part's: it begins when they are whole."""

    name = "pods"
    kinds: Sequence[Kind[Any]] = (PODS,)

    def __init__(self, view: ClusterView, rows_whole: asyncio.Event) -> None:
        self._view = view
        self._rows_whole = rows_whole
        self._since: dict[Mismatch, datetime] = {}
        self._loop = Loop(f"pods of {view.cluster}", self.look, RESYNC, view.chance)

    def changed(self, kind: Kind[Any], change: Change[Any]) -> None:
        before, after = (None if each is None else pod_of(each) for each in (change.old, change.new))
        if before != after:
            self._loop.wake_within(PERIOD)

    async def run(self) -> None:
        await self._view.until_synced(PODS)
        await self._rows_whole.wait()
        await self._loop.run()

    async def look(self) -> Outcome:
        """One comparison."""
        now = self._view.clock()
        compared = await self._view.database.run(
            partial(pod_addresses.compare, cluster_id=self._view.cluster_id, cluster=self._view.cluster, since=self._since, now=now)
        )
        self._since = dict(compared.since)
        for each in compared.told:
            if (pod := self._view.copy(PODS).find(each.pod, each.namespace)) is not None:
                await self._view.events.say(PODS, pod, REASON, f"Address {each.address}: {each.reason}.", warning=True)
        if not self._since:
            return Outcome.done("pods have the addresses that they are given")
        return Outcome.again(PERIOD, f"{len(self._since)} addresses of pods differ from those that are given")
