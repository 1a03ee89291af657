"""The agent's own /metrics: counters as they stand, gauges asked for at the moment of the scrape."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fabricmgr.agent.status import Status
from fabricmgr.settings import Listen

REQUEST_LIMIT = 5.0  # seconds
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Gauges(Collector):
    """What `agent status` says, as numbers."""

    def __init__(self, report: Callable[[], Status]):
        self._report = report

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing beforehand: registering must not ask for a report."""
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        said = self._report()
        yield GaugeMetricFamily("fabricmgr_agent_attachments", "Attachments of this node.", value=said.attachments)
        yield GaugeMetricFamily("fabricmgr_agent_unreported_changes", "Changes the manager has not acknowledged.", value=said.unreported)
        yield GaugeMetricFamily("fabricmgr_agent_trail_seconds", "Age of the oldest unreported change.", value=said.trail_ms / 1000)
        heard = float("inf") if said.manager_heard_seconds is None else said.manager_heard_seconds
        yield GaugeMetricFamily("fabricmgr_agent_manager_heard_seconds", "Seconds since the manager's last answer.", value=heard)
        yield GaugeMetricFamily("fabricmgr_agent_faults", "Findings that `agent status` fails for.", value=len(said.faults))
        free = GaugeMetricFamily("fabricmgr_agent_free_addresses", "Free addresses in held blocks.", labels=["network", "family"])
        for network in said.networks:
            for family, count in network.free.items():
                free.add_metric([network.name, family], count)
        yield free
        blocks = GaugeMetricFamily("fabricmgr_agent_blocks", "Blocks of this node by state.", labels=["state"])
        for state in sorted({block.state for block in said.blocks}):
            blocks.add_metric([state], sum(block.state == state for block in said.blocks))
        yield blocks


class MetricsPage:
    """GET /metrics over plain HTTP/1.1 on an address of the operator's choice; a connection serves one request."""

    def __init__(self, listen: Listen, report: Callable[[], Status]):
        self._listen = listen
        self._gauges = Gauges(report)
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Gives back the port. Raises OSError."""
        REGISTRY.register(self._gauges)
        self._server = await asyncio.start_server(self._serve, self._listen.host, self._listen.port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is None:
            return
        REGISTRY.unregister(self._gauges)
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_LIMIT):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(respond(head))
                await writer.drain()
        writer.close()


def respond(head: bytes) -> bytes:
    """The response to a request's head (RFC 9112)."""
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    target = rest.partition(b" ")[0].partition(b"?")[0]
    if target != b"/metrics":
        return _response("404 Not Found", b"there is /metrics here\n")
    if method not in (b"GET", b"HEAD"):
        return _response("405 Method Not Allowed", b"", "Allow: GET, HEAD\r\n")
    body = generate_latest(REGISTRY)
    return _response("200 OK", body, bodiless=method == b"HEAD")


def _response(status: str, body: bytes, more: str = "", bodiless: bool = False) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    return head.encode() + (b"" if bodiless else body)
