"""A receiver of events: a plain HTTP server in a thread, which keeps what it was sent and can be told to fail."""

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass
class Receiver:
    """answers: the status for the next POST, by how many came before. Only what was answered with success counts as received."""

    port: int
    answers: Callable[[int], int] = lambda _: 204
    scheme: str = "http"
    asked: int = 0
    payloads: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/events"

    @property
    def records(self) -> list[Json]:
        """Every event record, in the order of their coming."""
        with self.lock:
            return [record for payload in self.payloads for record in payload["Events"]]

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """One POST."""
        with self.lock:
            status = self.answers(self.asked)
            self.asked += 1
            if status < 300:
                self.payloads.append(json.loads(body))
                self.headers.append(headers)
            return status


@contextmanager
def receiver(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Listens on loopback as long as the block lasts."""
    made = Receiver(port, scheme="http" if tls is None else "https")

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with made.lock:
                made.at_once += 1
                made.most_at_once = max(made.most_at_once, made.at_once)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = made.take(dict(self.headers.items()), body)
            with made.lock:
                made.at_once -= 1
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def setup(self) -> None:
            self.request.settimeout(10)
            super().setup()

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                super().handle()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Taking) as server:
        made.port = server.server_address[1]
        if tls is not None:
            # The handshake is the handler's, so that a client that refuses us does not stop the server.
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join(10)
