"""What a manager needs from its database before it serves: our schema, a name, a CA, somebody who may come in. Made once, found later."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from fabricmgr.app import authority, tls
from fabricmgr.app.refusal import Refusal
from fabricmgr.domain.errors import AlreadyExists, DatabaseUnavailable
from fabricmgr.problems import sentence
from fabricmgr.services import accounts, clusters, installation
from fabricmgr.services.passwords import Passwords
from fabricmgr.settings import ManagerSettings
from fabricmgr.store import connect, migrate
from fabricmgr.store.migrate import Patience
from fabricmgr.store.tx import Database

PAUSE = 1.0  # seconds between tries while a database of the operator's is away

Clock = Callable[[], datetime]
Report = Callable[[str], None]


async def schema(settings: ManagerSettings, url: str, report: Report, patience: Patience = Patience()) -> None:
    """Wait for the database, make sure that it may hold addresses, and bring it to our schema. report: what is waited for.

    A database that is away is waited for without end, a migration's locks for as long as `patience` says. Raises DatabaseUnsuitable, and
    Refusal when the locks did not come; the schema is then as it was."""
    while True:
        began = None
        try:
            if settings.database_url:
                await connect.check_server(url)
            await (await connect.connect(url, "first look")).close()
            began = time.monotonic()
            await migrate.upgrade(url, report, patience)
            return
        except DatabaseUnavailable as error:
            if began is not None and time.monotonic() - began >= patience.limit.total_seconds():
                raise Refusal(sentence(error), 3) from error
            report(f"the database: {error.reason}")
        await asyncio.sleep(PAUSE)


async def first_start(settings: ManagerSettings, database: Database, passwords: Passwords, clock: Clock) -> Path | None:
    """Whatever is not there yet: the installation's id, the default cluster, the CA with our certificate, the first administrator.

    Gives back where a password made now lies. Raises SettingRefused and DatabaseUnsuitable for a master key that does not fit."""
    now = clock()
    await database.run(lambda tx: installation.ensure(tx, uuid4(), now))
    with contextlib.suppress(AlreadyExists):  # another manager that starts was quicker
        await database.run(lambda tx: clusters.ensure_default(tx, now))
    tls.keep_current(settings, await authority.find(settings, database, now), now)
    return await accounts.ensure_first_administrator(database, passwords, settings.data_dir, now)
