"""Events of a whole manager: a thousand streams on one worker, and what is said when it begins and ends."""

import asyncio
import base64
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fabricmgr.app.memory import PERIOD
from tests.support.receiver import receiver
from tests.support.serve_process import Managers, ServeProcess, managers

STREAMS = 1000
SSE = "/redfish/v1/EventService/SSE"
SUBMIT = "/redfish/v1/EventService/Actions/EventService.SubmitTestEvent"
SUBSCRIPTIONS = "/redfish/v1/EventService/Subscriptions"
ALLOWED = 32 << 10  # KiB that may stay behind: without a trim it is 20 MiB more each time
ROUNDS = 4
TOLD = 20


@pytest.fixture
def serve() -> Iterator[Managers]:
    with managers() as made:
        yield made


class Stream:
    """One reader: what it got, from its own connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.ids: list[bytes] = []

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext, head: str, last: bytes = b"") -> "Stream":
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        more = f"Last-Event-ID: {last.decode()}\r\n" if last else ""
        writer.write(f"GET {SSE} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{head}{more}\r\n".encode())
        await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        return cls(reader, writer)

    async def read(self) -> None:
        """To its end."""
        while line := await self.reader.readline():
            if line.startswith(b"id: "):
                self.ids.append(line[4:].strip())

    async def until_told(self, count: int) -> None:
        while len(self.ids) < count:
            line = await self.reader.readline()
            assert line, "the stream ended"
            if line.startswith(b"id: "):
                self.ids.append(line[4:].strip())


def resident(pid: int) -> int:
    """Memory of a process, in KiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


async def test_a_thousand_streams_are_told_in_flat_memory_end_within_five_seconds_and_resume(serve: Managers) -> None:
    """F055: streams end first, and clients resume without loss."""
    running = serve.start(serve.folder / "data").ready()
    port, context = int(running.url.rpartition(":")[2]), running.tls()
    head = "Authorization: Basic " + base64.b64encode(f"admin:{running.password}".encode()).decode() + "\r\n"
    streams: list[Stream] = []
    for _ in range(STREAMS // 50):
        streams += await asyncio.gather(*(Stream.open(port, context, head) for _ in range(50)))
    (worker,) = running.children("web")

    await tell(running, TOLD)
    await asyncio.wait_for(asyncio.gather(*(each.until_told(TOLD) for each in streams)), 60)
    before = resident(worker)
    for _ in range(5):
        await tell(running, TOLD)
    await asyncio.wait_for(asyncio.gather(*(each.until_told(6 * TOLD) for each in streams)), 60)
    grown = resident(worker) - before

    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(asyncio.gather(*(each.read() for each in streams)), 15)
    await asyncio.to_thread(running.process.wait, 15)
    seconds = time.monotonic() - began
    for each in streams:
        each.writer.close()

    again = serve.start(serve.folder / "data", "--listen", f"127.0.0.1:{port}").ready()
    await tell(again, 1)
    resumed = await Stream.open(port, again.tls(), head, streams[0].ids[-1])
    await asyncio.wait_for(resumed.until_told(1), 15)
    resumed.writer.close()

    print(f"{STREAMS} streams: {before >> 10} MiB, {grown} KiB more after {5 * TOLD} events to each; ended after {seconds:.2f} s")
    assert running.process.returncode == 0
    assert seconds < 5
    assert grown < 16 << 10
    assert {tuple(each.ids[: 6 * TOLD]) for each in streams} == {tuple(streams[0].ids[: 6 * TOLD])}
    assert int(resumed.ids[0]) == int(streams[0].ids[-1]) + 1


async def test_connections_that_come_and_go_leave_memory_as_the_first_ones_left_it(serve: Managers) -> None:
    running = serve.start(serve.folder / "data").ready()
    port, context = int(running.url.rpartition(":")[2]), running.tls()
    head = "Authorization: Basic " + base64.b64encode(f"admin:{running.password}".encode()).decode() + "\r\n"
    (worker,) = running.children("web")

    left: list[int] = []
    for number in range(ROUNDS):
        streams: list[Stream] = []
        for _ in range(STREAMS // 50):
            streams += await asyncio.gather(*(Stream.open(port, context, head) for _ in range(50)))
        for each in streams:
            each.writer.transport.abort()
        await asyncio.to_thread(none_left, running)
        if number in (0, ROUNDS - 1):
            left.append(await settled(worker, left[0] + ALLOWED if left else None))

    print(f"{STREAMS} streams, {ROUNDS} times; left behind: {' and '.join(str(each >> 10) for each in left)} MiB")
    assert left[1] - left[0] < ALLOWED, left


async def settled(worker: int, limit: int | None) -> int:
    """What a process keeps, in KiB, once it had looks enough to give the rest back: three, or more if it is above the limit still."""
    for look in range(8):
        await asyncio.sleep(PERIOD)
        if look >= 2 and (limit is None or resident(worker) < limit):
            break
    return resident(worker)


def none_left(running: ServeProcess) -> None:
    with running.client() as client:
        until(lambda: client.get(SUBSCRIPTIONS).json()["Members@odata.count"] == 0, 60)


async def tell(running: ServeProcess, count: int) -> None:
    """Test events, one after the other."""

    def ask() -> None:
        with running.client() as client:
            for _ in range(count):
                assert client.post(SUBMIT, json={"MessageId": "ResourceEvent.1.4.TestMessage"}).status_code == 204

    await asyncio.to_thread(ask)


def test_a_subscriber_is_told_that_the_manager_begins_and_ends(serve: Managers) -> None:
    data = serve.folder / "data"
    body = {"Protocol": "Redfish", "RegistryPrefixes": ["HeartbeatEvent"]}
    with receiver() as taking:
        first = serve.start(data, "--outbound-allow", "127.0.0.0/8").ready()
        with first.client() as client:
            assert client.post(SUBSCRIPTIONS, json={**body, "Destination": taking.url}).status_code == 201
        code, seconds = first.stop()
        serve.start(data, "--outbound-allow", "127.0.0.0/8").ready()
        until(lambda: len(taking.records) >= 2)

    assert code == 0
    assert seconds < 5
    told = [each["MessageId"].rpartition(".")[2] for each in taking.records]
    assert told == ["RedfishServiceShuttingDown", "RedfishServiceStarted"]


def until(holds: Callable[[], object], limit: float = 20.0) -> None:
    for _ in range(int(limit / 0.05)):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {limit} s")
