"""/metrics: counters of all processes on this machine added up, and gauges asked of the database, at most every ten seconds."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client import REGISTRY as PROCESS
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from fabricmgr import metrics
from fabricmgr.domain.errors import FabricError
from fabricmgr.services import gauges
from fabricmgr.services.gauges import Samples
from fabricmgr.store.tx import Database
from fabricmgr.web.asgi import Receive, Scope, Send
from fabricmgr.web.responses import Answer, send_answer

log = logging.getLogger(__name__)

KEPT = 10.0  # seconds
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


@dataclass
class Scrape:
    """Makes the page."""

    database: Database
    clock: Callable[[], datetime]
    monotonic: Callable[[], float] = time.monotonic
    _kept: bytes = b""
    _until: float = float("-inf")
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def answer(self) -> Answer:
        """The page in Prometheus' text format."""
        body = counters() + await self._gauges()
        return Answer(200, body, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _gauges(self) -> bytes:
        async with self._one:
            if self.monotonic() >= self._until:
                self._kept = _text(await self._asked())
                self._until = self.monotonic() + KEPT
            return self._kept

    async def _asked(self) -> Samples:
        try:
            async with self.database.read() as tx:
                found = await gauges.ask(tx, self.clock())
        except FabricError as error:
            log.info("gauges could not be asked", extra={"reason": str(error)})
            return [(metrics.GAUGES_FRESH, (), 0.0)]
        return [*found, (metrics.GAUGES_FRESH, (), 1.0)]


def counters() -> bytes:
    """What all processes on this machine counted, where they share a directory for it."""
    if MULTIPROCESS not in os.environ:
        return generate_latest(PROCESS)
    registry = CollectorRegistry()
    collect: Callable[[CollectorRegistry], object] = MultiProcessCollector
    collect(registry)
    return generate_latest(registry)


class _Given(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        """One family for each query that gave something."""
        families: dict[str, GaugeMetricFamily] = {}
        for query, labels, value in self._samples:
            family = families.setdefault(query.name, GaugeMetricFamily(query.name, query.documentation, labels=query.labels))
            family.add_metric(labels, value)
        return families.values()


def _text(samples: Samples) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Given(samples))
    return generate_latest(registry)


@dataclass(frozen=True)
class OpenMetrics:
    """An ASGI app for --metrics-listen: /metrics without credentials, and nothing else."""

    scrape: Scrape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        if scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD"):
            answer = await self.scrape.answer()
        else:
            answer = Answer(404, b"GET /metrics is all there is here\n", media_type="text/plain")
        await send_answer(send, answer, head=scope["method"] == "HEAD")
