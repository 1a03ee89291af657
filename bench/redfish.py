"""Our Redfish service against a plain Flask service that reads its pages from files: `make bench-redfish`.

Both speak TLS and answer the same bytes, ours from Postgres with every check and header, with one web worker. Each round measures both for
a moment, in an order drawn anew; a ratio is the median of the rounds' own ratios. `ARGS="--memory 100000 --streams 1000"` adds what takes
longer: memory over so many requests, and over so many open event streams.
"""

import argparse
import asyncio
import os
import platform
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import uvloop

from bench.figures import paired_ratio, percentile, table
from bench.http_load import Get, load
from tests.conformance.venv import programs
from tests.support.serve_process import ServeProcess, managers
from tests.support.switch_rows import observe

ROOT = "/redfish/v1/"
SWITCHES = "/redfish/v1/Fabrics/ethernet/Switches"
PORTS = f"{SWITCHES}/leaf/Ports"
EXPANDED = f"{SWITCHES}/big/Ports?$expand=."
STREAM = "/redfish/v1/EventService/SSE"
SUBSCRIPTIONS = "/redfish/v1/EventService/Subscriptions"
CONNECTIONS = 16
LOCK = Path(__file__).with_name("requirements.lock")
# A plain one, and the same with an HTTP version that keeps connections, which is no default of Flask's.
PEERS = {"Flask": "1.0", "Flask, connections kept": "1.1"}


@dataclass
class Contest:
    """One page, asked of us and of the peers. rates: answers a second, a round each."""

    title: str
    gets: dict[str, Get]
    rates: dict[str, list[float]] = field(default_factory=dict)

    def round(self, chance: random.Random, seconds: float, counted: bool) -> None:
        for name in chance.sample(list(self.gets), len(self.gets)):
            rate = load(self.gets[name], CONNECTIONS, seconds=seconds).rate
            if counted:
                self.rates.setdefault(name, []).append(rate)

    def report(self) -> str:
        ours = self.rates["fabricmgr"]
        rows = [["", "answers/s", "ours/this"]]
        for name, rates in self.rates.items():
            rows.append([name, f"{median(rates):.0f}", f"{paired_ratio(ours, rates):.2f}"])
        return f"{self.title} ({len(ours)} rounds, {CONNECTIONS} connections)\n{table(rows)}\n"


@contextmanager
def peer(folder: Path, certificate: Path, version: str) -> Iterator[int]:
    """The port of a Flask service over the pages in a folder."""
    command = [str(programs(LOCK) / "python"), str(Path(__file__).with_name("redfish_peer.py")), str(folder), str(certificate), version]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def keep_pages(served: ServeProcess, token: str, folder: Path, paths: Sequence[str]) -> None:
    """What we answer, as files for the peer."""
    with served.client() as client:
        for path in paths:
            answer = client.get(path, headers={"X-Auth-Token": token})
            assert answer.status_code == 200, answer.text
            place = folder / path.strip("/")
            place.mkdir(parents=True)
            (place / "index.json").write_bytes(answer.content)


def opened(served: ServeProcess) -> str:
    """The token of a session."""
    with served.client() as client:
        answer = client.post("/redfish/v1/SessionService/Sessions", json={"UserName": "admin", "Password": served.password})
    assert answer.status_code == 201, answer.text
    return str(answer.headers["x-auth-token"])


def contests(served: ServeProcess, folder: Path, stack: ExitStack) -> list[Contest]:
    token = opened(served)
    pages = folder / "pages"
    keep_pages(served, token, pages, (ROOT, PORTS))
    # The peer shows our certificate: both pay for the same handshake.
    certificate = served.data_dir / "tls.pem"
    certificate = certificate if certificate.exists() else made_certificate(folder)
    ports = {name: stack.enter_context(peer(pages, certificate, version)) for name, version in PEERS.items()}
    credentials = (f"X-Auth-Token: {token}",)
    trust = served.tls()
    trust.check_hostname = False
    trust.load_verify_locations(certificate)
    own = int(served.url.rpartition(":")[2])
    return [
        Contest(title, {name: Get(port, path, trust, credentials) for name, port in {"fabricmgr": own, **ports}.items()})
        for title, path in (("service root", ROOT), ("ports of a switch, 48 members", PORTS))
    ]


def made_certificate(folder: Path) -> Path:
    """Self-signed, P-256 as our own."""
    path = folder / "peer.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    where = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(folder / "peer.crt")]
    subprocess.run([*words, *where], check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "peer.crt").read_text())
    return path


# --- what we do alone -----------------------------------------------------------------------------------------------------


def mine(served: ServeProcess, path: str) -> Get:
    return Get(int(served.url.rpartition(":")[2]), path, served.tls(), (f"X-Auth-Token: {opened(served)}",))


def expanded(served: ServeProcess, times: int) -> str:
    """A collection of a thousand members, each filled in."""
    found = load(mine(served, EXPANDED), 1, requests=times).seconds[times // 10 :]
    return f"1,000 ports with $expand: p50 {median(found) * 1e3:.0f} ms, p95 {percentile(found, 0.95) * 1e3:.0f} ms ({len(found)} requests)"


def resident(served: ServeProcess) -> float:
    """MiB of the web worker."""
    (worker,) = served.children("web")
    pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def memory(served: ServeProcess, requests: int) -> str:
    """In ten parts, after a tenth of it that is not counted."""
    get, marks = mine(served, PORTS), []
    for _ in range(11):
        load(get, CONNECTIONS, requests=requests // 10)
        marks.append(resident(served))
    shown = " ".join(f"{mark:.1f}" for mark in marks)
    return f"memory over {requests:,} requests: {marks[-1] - marks[0]:+.1f} MiB ({shown} MiB)"


def streams(served: ServeProcess, count: int, times: int = 4) -> str:
    """Event streams opened, held, closed, again and again: what later times add is what would add up."""
    get, first = mine(served, STREAM), resident(served)
    held, closed = [], []
    for _ in range(times):
        held.append(uvloop.run(_hold(get, count, served)))
        until_closed(served)
        closed.append(resident(served))
    shown = ", ".join(f"{one:.1f} then {other:.1f}" for one, other in zip(held, closed, strict=True))
    return (
        f"{count:,} event streams: {(held[0] - first) / count * 1024:.0f} KiB each; {first:.1f} MiB before; held, then closed: {shown} MiB"
    )


def until_closed(served: ServeProcess, limit: float = 70.0) -> None:
    """Until no stream is left among the subscriptions."""
    with served.client() as client:
        for _ in range(int(limit)):
            if client.get(SUBSCRIPTIONS).json()["Members@odata.count"] == 0:
                return
            time.sleep(1)
    raise AssertionError(f"streams were still there {limit} s after their clients had gone")


async def _hold(get: Get, count: int, served: ServeProcess) -> float:
    held = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", get.port, ssl=get.context, server_hostname="127.0.0.1")
        writer.write(get.raw())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.partition(b"\r\n")[0], head
        held.append(writer)
    await asyncio.sleep(5)
    mark = resident(served)
    for writer in held:
        writer.close()
    return mark


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-redfish", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0, help="that each is asked in a round")
    parser.add_argument("--expand", type=int, default=100, help="requests for the collection of 1,000")
    parser.add_argument("--memory", type=int, default=0, help="requests over which memory is watched")
    parser.add_argument("--streams", type=int, default=0, help="event streams that are held open at once")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000, help="of the order in each round")
    return parser.parse_args()


def measured(served: ServeProcess, asked: argparse.Namespace, folder: Path) -> Iterator[str]:
    chance = random.Random(asked.seed)
    with ExitStack() as stack:
        for contest in contests(served, folder, stack) if asked.rounds else ():
            for number in range(asked.rounds + 1):
                contest.round(chance, asked.seconds, counted=number > 0)
            yield contest.report()
    if asked.expand:
        yield expanded(served, asked.expand)
    if asked.memory:
        yield memory(served, asked.memory)
    if asked.streams:
        yield streams(served, asked.streams)


def main() -> int:
    asked = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the manager inherits it: a stream is a file
    print(f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, seed {asked.seed}\n", flush=True)
    with managers() as made:
        served = made.start(made.folder / "data").ready()
        observe(served, "leaf", 48)
        observe(served, "big", 1000)
        for line in measured(served, asked, made.folder):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
