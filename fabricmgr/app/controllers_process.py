"""The controllers process: prepares the database, then runs the loops that nothing slow may stand beside."""

import asyncio
import contextlib
import logging
import random
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from fabricmgr.app import authority, prepare, tls
from fabricmgr.app.inside import Inside
from fabricmgr.app.messages import Database as DatabaseOrder
from fabricmgr.app.messages import Failed, Prepared, Serving, Waiting
from fabricmgr.app.refusal import Refusal
from fabricmgr.controllers import deliveries, identities, liveness, logins, retention, sweep, tasks, thresholds
from fabricmgr.controllers.announcers import Announcers
from fabricmgr.controllers.cluster_view import ClusterView, Part, Parts
from fabricmgr.controllers.deliveries import Deliveries, Post
from fabricmgr.controllers.following import Following, Means
from fabricmgr.controllers.kube_nodes import KubeNodes
from fabricmgr.controllers.kube_occupied import KubeOccupied
from fabricmgr.controllers.kube_pods import KubePods
from fabricmgr.controllers.kube_rows import KubeRows
from fabricmgr.controllers.kube_services import KubeServices
from fabricmgr.controllers.kube_sticky import KubeSticky
from fabricmgr.controllers.leader import Duty, Leader
from fabricmgr.controllers.outbox import positioning
from fabricmgr.controllers.workloads import Workloads
from fabricmgr.domain.errors import DatabaseUnavailable, FabricError
from fabricmgr.domain.events import ManagerStarted, ManagerStopping
from fabricmgr.loop import Loop, Outcome
from fabricmgr.problems import sentence
from fabricmgr.redfish.streams import UNSEEN
from fabricmgr.services import events
from fabricmgr.services.passwords import Passwords
from fabricmgr.settings import ManagerSettings
from fabricmgr.store.leadership import Leading
from fabricmgr.store.tx import Database
from fabricmgr.web.outbound import Outbound

log = logging.getLogger(__name__)

# Each followed cluster has some six queues of four workers beside our fifteen loops, and a loop may hold one for a second. While 300
# Services came and two connections were held, a short transaction took 40 ms (p50) with 4 and 11 ms with 12; a caller is refused after 5 s.
CONNECTIONS = 12
CERTIFICATE_PERIOD = 3600.0  # seconds
GOODBYE = 0.6  # seconds for what is said at the end
DATABASE_REFUSED = 3  # exit code


def clock() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


def _post(settings: ManagerSettings) -> Post:
    authorities = "" if settings.outbound_authorities is None else settings.outbound_authorities.read_text()
    return Post(Outbound(settings.outbound_allow), authority.sealer_of(settings), authorities)


def _parts(settings: ManagerSettings) -> Parts:
    """What is done for each cluster that has an API server."""

    def made(view: ClusterView) -> list[Part]:
        rows = KubeRows(view)
        pods, nodes = KubePods(view, rows.whole), KubeNodes(view, settings.node_grace)
        return [rows, Workloads(view), nodes, pods, KubeServices(view), KubeOccupied(view), KubeSticky(view)]

    return made


def duties(database: Database, settings: ManagerSettings) -> Callable[[Leading], Sequence[Duty]]:
    """What the leader does."""

    def loop(name: str, once: Callable[[datetime], Awaitable[Outcome]], period: float) -> Loop:
        return Loop(name, lambda: once(clock()), period)

    post = _post(settings)
    dial = Outbound(settings.outbound_allow).address
    following = Means(database, authority.sealer_of(settings), dial, clock, random.random, _parts(settings))

    def made(leading: Leading) -> list[Duty]:
        return [
            positioning(leading),
            Deliveries(database, post, clock, leading),
            Following(following, leading),
            Announcers(database, leading, label=not settings.announce_on_excluded),
            loop("streams' subscriptions", partial(deliveries.sweep, database, UNSEEN), deliveries.SWEEP_PERIOD),
            loop("history months", partial(retention.make_months, database), retention.PERIOD),
            loop("retention", partial(retention.cut, database, settings), retention.PERIOD),
            loop("logins", partial(logins.forget, database, settings), logins.PERIOD),
            loop("blocks", partial(sweep.blocks_back, database), sweep.PERIOD),
            loop("empty central blocks", partial(thresholds.empty_central, database), thresholds.EMPTY_PERIOD),
            loop("thresholds", partial(thresholds.watch, database), thresholds.PERIOD),
            loop("tasks", partial(tasks.work, database), tasks.PERIOD),
            loop("old tasks", partial(tasks.forget, database), tasks.FORGET_PERIOD),
            loop("identities", partial(identities.forget, database), identities.PERIOD),
            loop("liveness", partial(liveness.look, database), liveness.PERIOD),
        ]

    return made


async def run(inside: Inside) -> None:
    """Until SIGTERM."""
    inside.listen()
    settings = inside.settings
    url = await _database(inside)
    await prepare.schema(settings, url, lambda reason: inside.report(Waiting(reason)))
    database = await Database.open(url, clock=clock, connections=CONNECTIONS, name="controllers")
    passwords = Passwords(secrets.token_bytes(32))
    path = await prepare.first_start(settings, database, passwords, clock)
    passwords.close()
    inside.report(Prepared(str(path or "")))
    leader = Leader(url, "leader", duties(database, settings))
    certificate = Loop("certificate", lambda: _renew(settings, database), CERTIFICATE_PERIOD)
    inside.report(Serving())
    name = socket.gethostname()
    await database.run(lambda tx: events.tell(tx, ManagerStarted(name)))
    work = [asyncio.create_task(leader.run()), asyncio.create_task(certificate.run())]
    try:
        await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await _say_goodbye(database, name)
        raise
    finally:
        for task in work:
            task.cancel()
        ended = await asyncio.gather(*work, return_exceptions=True)
        await database.close()
    raise next(each for each in ended if isinstance(each, Exception))


async def _say_goodbye(database: Database, name: str) -> None:
    """Tell subscribers, while there is somebody to deliver it; a database that is away is not waited for."""
    with contextlib.suppress(DatabaseUnavailable, TimeoutError):
        async with asyncio.timeout(GOODBYE):
            await database.run(lambda tx: events.tell(tx, ManagerStopping(name)))
            await asyncio.sleep(GOODBYE / 2)


async def _database(inside: Inside) -> str:
    while not isinstance(order := await inside.next(), DatabaseOrder):
        pass
    return order.url


async def _renew(settings: ManagerSettings, database: Database) -> Outcome:
    """This manager's own certificate, on each of them: its file is theirs."""
    now = clock()
    renewed = tls.keep_current(settings, await authority.find(settings, database, now), now)
    return Outcome.done("made a new server certificate" if renewed else "the server certificate is good for longer")


def main() -> None:
    """Ends with a report where starting again would not help."""
    inside = Inside()
    try:
        asyncio.run(_until_told(inside))
    except DatabaseUnavailable as error:
        log.error("the database went away", extra={"reason": error.reason})
        raise SystemExit(1) from None
    except Refusal as error:
        inside.report(Failed(error.sentence, error.code))
        raise SystemExit(error.code) from None
    except FabricError as error:
        inside.report(Failed(sentence(error), DATABASE_REFUSED))
        raise SystemExit(DATABASE_REFUSED) from None


async def _until_told(inside: Inside) -> None:
    task = asyncio.create_task(run(inside))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    main()
