"""What a worker answers with, put together once."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fabricmgr import __version__
from fabricmgr.api import build as api
from fabricmgr.api.build import Manager, Stores, Tree
from fabricmgr.app import authority
from fabricmgr.domain.errors import FabricError
from fabricmgr.redfish import build as redfish
from fabricmgr.redfish.layer import refused as refused_by_redfish
from fabricmgr.redfish.resource import Site
from fabricmgr.services.attachments import Desk
from fabricmgr.settings import ManagerSettings
from fabricmgr.store.places import Places
from fabricmgr.store.tx import Database
from fabricmgr.store.writer import Writer
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


async def build(settings: ManagerSettings, url: str, clock: Clock) -> Assembled:
    """Open what requests work with. Raises DatabaseUnavailable."""
    writer = await Writer.open(url, clock=clock)
    database = await Database.open(url, clock=clock, name="web")
    try:
        authorities = (await authority.find(settings, database, clock())).authorities()
    except BaseException:
        await writer.close()
        await database.close()
        raise
    stores = Stores(url, database, writer, authority.sealer_of(settings))
    manager = api.build(stores, settings, clock, __version__)
    parts = manager.parts
    desk = Desk(writer, database, Places(database))
    site = Site(database, parts.gate, parts.who, settings.session_timeout, desk)
    manager.mount(REDFISH, Tree(redfish.build(site, clock), refused_by_redfish))
    return Assembled(manager, stores, authorities, asyncio.create_task(manager.run()))
