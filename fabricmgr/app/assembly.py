"""What a worker answers with, put together once."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fabricmgr import __version__
from fabricmgr.api import build as api
from fabricmgr.api.build import Manager, Stores, Tree
from fabricmgr.app import authority, presence
from fabricmgr.app.presence import Presence, Seat
from fabricmgr.domain.errors import FabricError
from fabricmgr.domain.replica import BEAT
from fabricmgr.loop import Loop
from fabricmgr.redfish import build as redfish
from fabricmgr.redfish.feed import Feed
from fabricmgr.redfish.layer import refused as refused_by_redfish
from fabricmgr.redfish.resource import Site
from fabricmgr.redfish.streams import Streams
from fabricmgr.services.attachments import Desk
from fabricmgr.services.server_certificate import Here
from fabricmgr.settings import ManagerSettings
from fabricmgr.store.places import Places
from fabricmgr.store.tx import Database
from fabricmgr.store.writer import Writer
from fabricmgr.web.outbound import Outbound
from fabricmgr.web.responses import Answer, problem

REDFISH = "/redfish"

Clock = Callable[[], datetime]


def refused(error: FabricError | None, path: str) -> Answer:
    """An error in the form of the tree that its path belongs to, while no tree is there yet."""
    redfish_path = path == REDFISH or path.startswith(REDFISH + "/")
    return refused_by_redfish(error, path) if redfish_path else problem(error, path)


@dataclass(frozen=True)
class Assembled:
    """The application and what must be closed after it. authorities: PEM of the CAs whose client certificates count."""

    manager: Manager
    stores: Stores
    authorities: str
    beside: "asyncio.Task[None]"

    async def close(self) -> None:
        """After the last answer: the audit log is written to its end, callers of the writer are answered, connections given back."""
        self.beside.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.beside
        self.manager.parts.passwords.close()
        await self.stores.writer.close()
        await self.stores.database.close()


def mount_redfish(manager: Manager, stores: Stores, settings: ManagerSettings, clock: Clock, here: Here) -> None:
    """The Redfish tree, on what the rest of a manager works with."""
    parts = manager.parts
    streams = Streams(stores.database, Feed(stores.database), parts.listener, parts.stopping, clock)
    desk = Desk(stores.writer, stores.database, Places(stores.database))
    outbound = Outbound(settings.outbound_allow)
    site = Site(stores.database, parts.gate, parts.who, settings.session_timeout, desk, stores.sealer, outbound, streams, here)
    manager.mount(REDFISH, Tree(redfish.build(site, clock), refused_by_redfish, streams.run))


async def build(settings: ManagerSettings, url: str, clock: Clock, seat: Seat) -> Assembled:
    """Open what requests work with. Raises DatabaseUnavailable."""
    writer = await Writer.open(url, clock=clock)
    database = await Database.open(url, clock=clock, name="web")
    sealer = authority.sealer_of(settings)
    try:
        authorities = (await authority.find(settings, database, clock())).authorities()
        present = await presence.opened(database, sealer, settings, seat, clock)
        await present.once()
    except BaseException:
        await writer.close()
        await database.close()
        raise
    stores = Stores(url, database, writer, sealer)
    manager = api.build(stores, settings, clock, __version__)
    mount_redfish(manager, stores, settings, clock, present.here)
    return Assembled(manager, stores, authorities, asyncio.create_task(_beside(manager, present)))


async def _beside(manager: Manager, present: Presence) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(manager.run())
        group.create_task(Loop("presence", present.once, BEAT.total_seconds()).run())
