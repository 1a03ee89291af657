"""/healthz: the process answers. /readyz: it can do its work, or what it waits for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from fabricmgr.api.dispatch import Ask, RawRoute
from fabricmgr.domain.errors import DatabaseUnavailable, FabricError
from fabricmgr.problems import sentence
from fabricmgr.store import gauges
from fabricmgr.store.listen import Listener
from fabricmgr.store.tx import Database
from fabricmgr.web.asgi import App, Receive, Scope, Send
from fabricmgr.web.responses import Answer, Renderer, ok, send_answer

PATIENCE = 2.0  # seconds for the database to answer


@dataclass(frozen=True)
class Health:
    """Looks at what this process works with."""

    database: Database
    listener: Listener
    stopping: asyncio.Event

    def routes(self) -> list[RawRoute]:
        """For the dispatch."""
        return [
            RawRoute("GET", "/healthz", self.alive, "The process answers"),
            RawRoute("GET", "/readyz", self.ready, "It can do its work, or what it waits for"),
        ]

    async def alive(self, ask: Ask) -> Answer:
        """Always 200: whoever restarts us by it must not do so because of a database."""
        del ask
        return ok({"status": "ok"})

    async def ready(self, ask: Ask) -> Answer:
        """200, or 503 with what is waited for."""
        del ask
        waiting = await self._waiting_for()
        return ok({"ready": not waiting, "waiting_for": waiting}, 503 if waiting else 200)

    async def _waiting_for(self) -> str:
        if self.stopping.is_set():
            return "nothing: this manager is stopping"
        try:
            async with asyncio.timeout(PATIENCE), self.database.read() as tx:
                await gauges.answers(tx)
        except FabricError as error:
            return f"the database: {sentence(error)}"
        except TimeoutError:
            return f"the database, which did not answer within {PATIENCE:.0f} s"
        return "" if self.listener.connected else "the database's notifications"


def waiting_app(waiting_for: Callable[[], str], renderer: Renderer) -> App:
    """What is served while the database is not there yet: health as it is, 503 with the reason for all else."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if scope["type"] != "http":
            return
        path, reason = scope["path"], waiting_for()
        answer = renderer(DatabaseUnavailable(f"waiting for {reason}"), path)
        if path == "/healthz":
            answer = ok({"status": "ok"})
        elif path == "/readyz":
            answer = ok({"ready": False, "waiting_for": reason}, 503)
        await send_answer(send, answer, head=scope["method"] == "HEAD")

    return app
