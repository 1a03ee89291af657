"""Follows the API server of every cluster that has one: copies of what it holds, and the parts that work on them.

Each cluster is followed by itself: one whose server is silent, refuses us or is misconfigured holds up no other. Where we have no right to
a kind, the parts that need it stand still, the others go on, and the cluster's page says which right is missing.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fabricmgr.controllers.cluster_view import ClusterView, Part, Parts
from fabricmgr.domain.errors import (
    ApiRefused,
    ApiTooOld,
    ApiUnauthorized,
    ApiUntrusted,
    DatabaseUnavailable,
    FabricError,
    KubeconfigRefused,
)
from fabricmgr.domain.events import ClusterFollowed, ClusterUnreachable, DomainEvent
from fabricmgr.domain.names import ClusterName
from fabricmgr.kube.client import Client
from fabricmgr.kube.objects import Kind
from fabricmgr.kube.reflector import Change, Reflector
from fabricmgr.kube.transport import Dial
from fabricmgr.kube.views import ATTACHMENT_DEFINITIONS, JOBS, KINDS
from fabricmgr.loop import Loop, Outcome
from fabricmgr.problems import sentence
from fabricmgr.services import cluster_apis
from fabricmgr.store import api_rows
from fabricmgr.store.api_rows import ApiRow
from fabricmgr.store.leadership import Leading
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database, Tx
from fabricmgr.store.wake import OUTBOX_CHANNEL

log = logging.getLogger(__name__)

# What no part reads is not asked for: the roles that an operator grants do not name it.
FOLLOWED = tuple(kind for kind in KINDS.values() if kind not in (JOBS, ATTACHMENT_DEFINITIONS))
PERIOD = 5.0  # seconds between looks at which clusters there are
SOON = 0.2  # seconds after a change of anything
HEALTH = 1.0  # seconds between looks at how it goes
NOTED = timedelta(seconds=15)  # how stale the time of progress in the database may be
SILENT = timedelta(seconds=10)  # without a word, while something is in the way: then the server is not followed any more
PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)  # seconds before another try, by failures in a row
_REFUSALS = (ApiUnauthorized, ApiUntrusted, ApiTooOld, KubeconfigRefused)


@dataclass(frozen=True)
class Means:
    """What following takes. dial: the outbound policy. parts: what is done for each cluster."""

    database: Database
    sealer: Sealer
    dial: Dial
    clock: Callable[[], datetime]
    chance: Callable[[], float]
    parts: Parts


class Following:
    """A duty of the leader. leading: to be woken by changes; None: it looks by the clock alone."""

    name = "following"

    def __init__(self, means: Means, leading: Leading | None = None) -> None:
        self._means = means
        self._leading = leading
        self._tasks: dict[int, tuple[int, asyncio.Task[None]]] = {}
        self._loop = Loop(self.name, self.look, PERIOD, means.chance)

    async def run(self) -> None:
        """Until cancelled: then nothing of it runs any more."""
        try:
            if self._leading is not None:
                await self._leading.listen(OUTBOX_CHANNEL, lambda: self._loop.wake_within(SOON))
            await self._loop.run()
        finally:
            await self._end([*self._tasks])

    async def look(self) -> Outcome:
        """Begin with clusters that are new or reached in another way now, end with those that are gone."""
        async with self._means.database.read() as tx:
            rows = {row.cluster_id: row for row in await api_rows.every(tx)}
        await self._end(
            [each for each, (version, task) in self._tasks.items() if each not in rows or rows[each].version != version or task.done()]
        )
        for each, row in rows.items():
            if each not in self._tasks:
                self._tasks[each] = row.version, asyncio.create_task(self._follow(row), name=f"following {row.cluster}")
        return Outcome.done(f"{len(self._tasks)} clusters are followed")

    async def _end(self, clusters: Sequence[int]) -> None:
        tasks = [self._tasks.pop(each)[1] for each in clusters]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, row: ApiRow) -> None:
        """For ever, whatever happens."""
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await Followed(self._means, row.cluster).run()
            except FabricError as error:
                await self._failed(row, error)
            except ExceptionGroup as group:
                log.error("following failed", exc_info=group, extra={"cluster": row.cluster})
            failures = 0 if asyncio.get_running_loop().time() - began > PAUSES[-1] else failures + 1
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)] * (0.75 + self._means.chance() / 2))

    async def _failed(self, row: ApiRow, error: FabricError) -> None:
        state = "refused" if isinstance(error, _REFUSALS) else "unreachable"
        with contextlib.suppress(DatabaseUnavailable):
            await self._means.database.run(lambda tx: _note(tx, row.cluster_id, state, sentence(error)))


class Followed:
    """One cluster, from the first request on until something ends it."""

    def __init__(self, means: Means, cluster: ClusterName) -> None:
        self._means = means
        self._cluster = cluster
        self._parts: Sequence[Part] = ()

    async def run(self) -> None:
        """Raises KubeconfigRefused, the Api... errors, NotFound when the cluster is gone, and an ExceptionGroup of what a part met."""
        async with self._means.database.read() as tx:
            row = await api_rows.find(tx, self._cluster)
        if row is None:
            return
        client = Client(cluster_apis.access(self._means.sealer, row), self._means.dial)
        try:
            await self._run(row, client)
        finally:
            await client.close()

    async def _run(self, row: ApiRow, client: Client) -> None:
        version = await client.version()
        version.require()
        await self._means.database.run(lambda tx: api_rows.note(tx, row.cluster_id, {"server_version": version.git_version}))
        clock, chance = self._means.clock, self._means.chance
        reflectors = {kind.name: Reflector(client, kind, self._told(kind), clock=clock, chance=chance) for kind in FOLLOWED}
        view = ClusterView(row, client, self._means.database, reflectors, clock, chance, clock(), row.progressed_at is None)
        self._parts = self._means.parts(view)
        health = Loop(f"health of {row.cluster}", Health(view).look, HEALTH, chance)
        async with asyncio.TaskGroup() as group:
            for part in self._parts:
                group.create_task(part.run(), name=f"{part.name} of {row.cluster}")
            for reflector in reflectors.values():
                group.create_task(reflector.run(), name=f"{reflector.kind.plural} of {row.cluster}")
            group.create_task(health.run())

    def _told(self, kind: Kind[Any]) -> Callable[[Change[Any]], None]:
        def told(change: Change[Any]) -> None:
            for part in self._parts:
                if kind in part.kinds:
                    part.changed(kind, change)

        return told


class Health:
    """How the following of a cluster goes, as its page and its events say."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._noted: tuple[str, str] | None = None
        self._at: datetime | None = None

    def judge(self) -> tuple[str, str] | None:
        """State and reason; None while it is too early to say."""
        reflectors = [*self._view.reflectors.values()]
        refused = [each.error for each in reflectors if isinstance(each.error, ApiRefused)]
        wrong = next((each.error for each in reflectors if isinstance(each.error, _REFUSALS)), None)
        if wrong is not None:
            return "refused", sentence(wrong)
        silent = [each for each in reflectors if each.error is not None and not isinstance(each.error, ApiRefused) and self._silent(each)]
        if silent and silent[0].error is not None:
            return "unreachable", sentence(silent[0].error)
        missing = "; ".join(sentence(error) for error in refused)
        notes = "; ".join([*([missing] if missing else []), *filter(None, self._view.notes.values())])
        if refused and len(refused) == len(reflectors):
            return "refused", missing
        if all(each.synced.is_set() or isinstance(each.error, ApiRefused) for each in reflectors):
            return "following", notes
        return None

    def _silent(self, reflector: Reflector[Any]) -> bool:
        return self._view.clock() - (reflector.progressed_at or self._view.began) > SILENT

    async def look(self) -> Outcome:
        """One look, written down where it differs."""
        found = self.judge()
        if found is None:
            return Outcome.done("lists are under way")
        progressed, now = self._progressed(), self._view.clock()
        if found != self._noted or (progressed and (self._at is None or now - self._at >= NOTED)):
            await self._view.database.run(lambda tx: _note(tx, self._view.cluster_id, *found, progressed))
            self._noted, self._at = found, now
        return Outcome.done(found[1] or "the API server is followed")

    def _progressed(self) -> datetime | None:
        """Of what was heard last. None until what was there at first is taken in: a restart before then begins anew."""
        if not self._view.settled.is_set():
            return None
        return max((each.progressed_at for each in self._view.reflectors.values() if each.progressed_at), default=None)


async def _note(tx: Tx, cluster_id: int, state: str, reason: str, progressed: datetime | None = None) -> None:
    """Whoever listens is told once of each turn."""
    row = await api_rows.by_id(tx, cluster_id, lock=True)
    if row is None:
        return
    if event := _turned(row, state, reason):
        tx.emit(event)
    at = {"progressed_at": progressed} if progressed is not None else {}
    await api_rows.note(tx, cluster_id, {"state": state, "reason": reason, **at})


def _turned(row: ApiRow, state: str, reason: str) -> DomainEvent | None:
    if state == "following" and row.state != "following":
        return ClusterFollowed(row.cluster, row.server, row.server_version)
    # A server that is away and says so in another sentence each time is away all the same.
    return ClusterUnreachable(row.cluster, row.server, reason) if state not in ("following", row.state) else None
