"""What a worker shows from its first moment on: the application, or, until there is one, what it waits for."""

from fabricmgr.api.health import waiting_app
from fabricmgr.web.asgi import App, Receive, Scope, Send
from fabricmgr.web.responses import Renderer


class Front:
    """renderer: by path, for refusals while there is no application. waits: what continues "waiting for", "" when nothing is."""

    def __init__(self, renderer: Renderer) -> None:
        self.waits = "the manager to start"
        self.app: App | None = None
        self._waiting = waiting_app(lambda: self.waits or "this worker to open the database", renderer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. The lifespan is ours: the application stands here from when it is whole until its last answer."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif self.app is None or (self.waits and scope["path"] == "/readyz"):
            await self._waiting(scope, receive, send)
        else:
            await self.app(scope, receive, send)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
