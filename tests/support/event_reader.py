"""A client of the stream of events, as a browser's EventSource behaves: it reads on behind the last id it saw, whatever ends its stream."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

STREAM = "/redfish/v1/EventService/SSE"
Json = dict[str, Any]


@dataclass
class EventReader:
    """client: makes a connection anew. query: of the stream's URI. on: called when a stream was opened, and for each thing it said."""

    client: Callable[[], httpx2.Client]
    query: str = ""
    on: Callable[["EventReader"], None] = lambda _: None
    seen: list[tuple[str, Json]] = field(default_factory=list)
    opened: int = 0
    pings: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _socket: socket.socket | None = None
    _thread: threading.Thread | None = None

    def start(self) -> "EventReader":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """At once: its connection is cut."""
        self._stop.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        assert self._thread is not None
        self._thread.join(30)
        assert not self._thread.is_alive(), "the reader did not end"

    @property
    def records(self) -> list[Json]:
        """Every event record, in the order of their coming."""
        return [record for _, payload in [*self.seen] for record in payload["Events"]]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self.client() as client:
                    self._read(client)
            except (httpx2.HTTPError, OSError):
                self._stop.wait(0.1)

    def _read(self, client: httpx2.Client) -> None:
        headers = {"Accept": "text/event-stream"}
        if self.seen:
            headers["Last-Event-ID"] = self.seen[-1][0]
        with client.stream("GET", STREAM + self.query, headers=headers) as answer:
            if answer.status_code != 200:
                self._stop.wait(0.1)
                return
            self._socket = answer.extensions["network_stream"].get_extra_info("socket")
            self.opened += 1
            self.on(self)
            id_ = ""
            for line in answer.iter_lines():
                if line.startswith(":"):
                    self.pings += 1
                elif line.startswith("id: "):
                    id_ = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    self.seen.append((id_, json.loads(line.removeprefix("data: "))))
                    self.on(self)
                if self._stop.is_set():
                    return
