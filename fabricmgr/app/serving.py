"""uvicorn as we run it: on inherited sockets, under signals of ours, so that streams end before it waits for requests to end."""

import contextlib
import socket
import ssl
from collections.abc import Iterator

from uvicorn import Server

from fabricmgr.web.asgi import App
from fabricmgr.web.protocol import server_config
from fabricmgr.web.responses import Renderer

DRAIN = 2  # seconds; then a request in flight is cut off, such as one whose reader has stalled


class Serving(Server):
    """One listening socket."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the worker's."""
        yield

    def stop(self) -> None:
        """Take no more connections, let requests in flight end, then return from `serve`."""
        self.should_exit = True


def make(app: App, renderer: Renderer, keep_alive_seconds: float, tls: ssl.SSLContext | None) -> Serving:
    """tls: None for plain HTTP."""
    config = server_config(app, renderer, keep_alive_seconds=keep_alive_seconds, tls=tls, timeout_graceful_shutdown=DRAIN)
    return Serving(config)


async def run(serving: Serving, descriptor: int) -> None:
    """Serve on an inherited socket until told to stop."""
    inherited = socket.socket(fileno=descriptor)
    inherited.setblocking(False)
    await serving.serve([inherited])
