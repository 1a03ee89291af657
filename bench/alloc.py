"""Allocations a second against pgbench's single-row inserts, paired: `make bench-alloc`, or `make bench-alloc ARGS="--rounds 9"`.

One embedded Postgres of its own, with synchronous commit on; all talk to it over the same Unix socket, and client and server share the
machine's cores. In each round every contender runs once for some seconds, in an order drawn anew; a ratio is the median of the rounds' own
ratios. What is compared: one row of a plain table for each transaction (pgbench, in C, prepared), and one address for each caller of ours,
durable before its answer. The machine's other work slows a
single process more than 64 of them: the processor's time for one answer is the steadier figure.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from bench.figures import paired_ratio, percentile, table
from fabricmgr.app.worker import loop_factory
from fabricmgr.store import connect, migrate, pgbin
from fabricmgr.store.connect import Connection
from fabricmgr.store.embedded import EmbeddedPostgres
from fabricmgr.store.lanes import Lane
from fabricmgr.store.pgbin import environment
from fabricmgr.store.repeat import Caller
from fabricmgr.store.writer_allocate import Allocating, Taken, Want
from fabricmgr.web.protocol import loop_name

CALLERS = 64
FIRST = 1.0  # seconds of the round that is not counted
WARM = 5.0  # seconds
# The narrow peer is the least a row can be: a key and a number. The other one is an allocation as ours is, with the same columns, checks
# and indexes, its address from a sequence: what one would write who needs the same promises of the database and no more than that.
PEER = """
create sequence next cache 100;
create table narrow (owner uuid primary key, address bigint not null, at timestamptz not null default now());
create table same (like allocation including all);
"""
NARROW = "insert into narrow (owner, address) values (gen_random_uuid(), nextval('next'));\n"
SAME = """
insert into same (owner, scope, prefix4, address4, generation4, kind, cluster_id, name, about, at)
values (gen_random_uuid(), 0, 1, '10.0.0.0'::inet + nextval('next') % 16000000, 1, 'direct', 1, 'host', '{"namespace": "default"}', now());
"""
SITE = """
insert into cluster (name, created_at) values ('default', now());
insert into pool (cluster_id, name, purpose, created_at) values (1, 'bench', 'Pod', now());
insert into prefix (pool_id, scope, cidr, block_len, central, created_at)
  values (1, 0, '10.0.0.0/8', 26, true, now()), (1, 0, '2001:db8::/64', 122, true, now());
insert into supply (prefix_id) values (1), (2);
"""
EMPTY = "truncate allocation, spare, history, outbox, block; update supply set next_block = null, central_block = null, next_address = null"


@dataclass
class Measured:
    """Answers a second, each answer's time in seconds, and the processor's time for one answer, of server and client, in seconds."""

    rate: float
    latencies: list[float]
    count: int


@dataclass
class Contender:
    name: str
    run: Callable[[float], Awaitable[Measured]]
    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)

    def add(self, measured: Measured, server: float, client: float) -> None:
        self.rates.append(measured.rate)
        self.latencies += measured.latencies
        self.server.append(server / measured.count)
        self.client.append(client / measured.count)


def now() -> datetime:
    return datetime.now(UTC)


class Ours:
    """Callers of one lane of the writer."""

    def __init__(self, pool: connect.Pool, pools: tuple[int | None, int | None], callers: int, function: str = "allocate_batch_2") -> None:
        self._callers = callers
        allocating = Allocating(Caller(pool, random.random), pools, now, function)
        self._lane = Lane[Want, Taken]("bench", allocating.send, lambda want: want.owner.int)

    async def __call__(self, seconds: float) -> Measured:
        latencies: list[float] = []
        end = time.perf_counter() + seconds
        began = time.perf_counter()
        await asyncio.gather(*(self._call(end, latencies) for _ in range(self._callers)))
        return Measured(len(latencies) / (time.perf_counter() - began), latencies, len(latencies))

    async def _call(self, end: float, latencies: list[float]) -> None:
        began = time.perf_counter()
        while began < end:
            await self._lane.ask(want(uuid4()))
            done = time.perf_counter()
            latencies.append(done - began)
            began = done


def want(owner: UUID) -> Want:
    """As an attachment's request arrives at the writer."""
    name = owner.hex
    return Want(
        owner, "direct", f"{name} (pool bench)", 1, name=name, about='{"namespace": "default", "pod": "web-0"}', actor="node default/n1"
    )


class Pgbench:
    """The peer: a transaction with one inserted row for each call."""

    def __init__(self, binary: Path, host: str, database: str, user: str, script: Path, callers: int) -> None:
        jobs = str(min(callers, os.cpu_count() or 1))
        self._command = [str(binary), "-n", "-M", "prepared", "-c", str(callers), "-j", jobs, "-f", str(script), "-h", host, "-U", user]
        self._database = database

    async def __call__(self, seconds: float) -> Measured:
        arguments = ["-T", str(max(1, round(seconds))), self._database]
        process = await asyncio.create_subprocess_exec(*self._command, *arguments, stdout=subprocess.PIPE, env=environment())
        output = (await process.communicate())[0].decode()
        rate, latency = (re.search(pattern, output) for pattern in (r"tps = ([0-9.]+)", r"latency average = ([0-9.]+) ms"))
        if process.returncode or rate is None or latency is None:
            raise SystemExit(f"pgbench failed:\n{output}")
        done = re.search(r"actually processed: (\d+)", output)
        return Measured(float(rate[1]), [float(latency[1]) / 1e3], int(done[1]) if done else 1)


async def make_bare(sql: Connection) -> str:
    """The writer's function without history, events and wake: what group commit and blocks alone would give."""
    text = str(await sql.fetchval("select pg_get_functiondef('allocate_batch_2'::regproc)"))
    bare = re.sub(r"  insert into history \(.*?pg_notify.*?end if;\n", "", text, flags=re.DOTALL).replace(
        "allocate_batch_2", "allocate_bare"
    )
    if bare.count("insert into") != 1 or "pg_notify" in bare:
        raise SystemExit("the writer's function changed: the bare one cannot be cut out of it")
    await sql.execute(bare)
    return "allocate_bare"


async def fill(pool: connect.Pool, count: int) -> None:
    """Hold as many addresses."""
    allocating = Allocating(Caller(pool, random.random), (1, None), now)
    for _ in range(count // 250):
        await allocating.send([want(uuid4()) for _ in range(250)])


async def compare(contenders: Sequence[Contender], rounds: int, seconds: float, sql: Connection, postmaster: int) -> None:
    """Each begins with nothing held in the database of `sql`."""
    for number in range(rounds + 1):
        for contender in random.sample(contenders, len(contenders)):
            await sql.execute(EMPTY + "; truncate narrow, same")
            before = server_seconds(postmaster), client_seconds()
            measured = await contender.run(seconds if number else FIRST)
            after = server_seconds(postmaster), client_seconds()
            # The first round warms caches and plans: it is not counted.
            if number:
                contender.add(measured, after[0] - before[0], after[1] - before[1])


def client_seconds() -> float:
    """Processor time of this process and of the children it has waited for."""
    return sum(os.times()[:4])


def server_seconds(postmaster: int) -> float:
    """Processor time of a server with all its backends, those that ended included."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry.name) == postmaster or int(fields[1]) == postmaster:
            ticks += sum(map(int, fields[11:15] if int(entry.name) == postmaster else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def report(title: str, contenders: Sequence[Contender], base: Contender) -> str:
    rows = [["", "per second", f"of {base.name}", "CPU us server", "client", "p50 ms", "p99 ms"]]
    for each in contenders:
        ratio = paired_ratio(each.rates, base.rates)
        p50, p99 = (f"{percentile(each.latencies, share) * 1e3:.2f}" for share in (0.5, 0.99))
        cpu = [f"{median(each.server) * 1e6:.0f}", f"{median(each.client) * 1e6:.0f}"]
        rows.append(
            [each.name, f"{median(each.rates):,.0f}", f"{ratio:.2f}", *cpu, p50, p99 if len(each.latencies) > len(each.rates) else "-"]
        )
    return f"{title}\n{table(rows)}"


async def place_of(sql: Connection) -> tuple[str, str, str]:
    """Where pgbench finds the server: host, user, database."""
    asked = await sql.fetchrow(
        "select current_setting('unix_socket_directories') as host, current_user as user, current_database() as name"
    )
    if asked is None:
        raise SystemExit("the server does not say where it is")
    return str(asked["host"]).strip('"'), str(asked["user"]), str(asked["name"])


async def run(server: EmbeddedPostgres, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    await migrate.upgrade(server.url)
    sql = await connect.connect(server.url, "bench", connect.MIGRATION)
    pool = await connect.create_pool(server.url, "bench", size=4)
    await sql.execute(SITE + PEER)
    print(f"{await conditions(sql)}; event loop {loop_name()}")
    figures: dict[str, float] = {}
    if not arguments.only_growth:
        figures |= await against_pgbench(pool, sql, server.pid or 0, folder, arguments)
    figures |= await growth(pool, sql, server, arguments)
    await pool.close()
    await sql.close()
    return figures


async def against_pgbench(
    pool: connect.Pool, sql: Connection, postmaster: int, folder: Path, arguments: argparse.Namespace
) -> dict[str, float]:
    """Many callers, then one, beside single-row inserts."""
    bare = await make_bare(sql)
    host, user, database = await place_of(sql)

    def peer(name: str, text: str, callers: int) -> Contender:
        script = folder / f"{name}.sql"
        script.write_text(text)
        return Contender(f"pgbench {name}@{callers}", Pgbench(pgbin.find(None).folder / "pgbench", host, database, user, script, callers))

    base = peer("same row", SAME, CALLERS)
    many = [
        peer("narrow row", NARROW, CALLERS),
        base,
        Contender("group commit, bare", Ours(pool, (1, None), CALLERS, bare)),
        Contender("whole writer", Ours(pool, (1, None), CALLERS)),
        Contender("whole writer, dual stack", Ours(pool, (1, 1), CALLERS)),
    ]
    await compare(many, arguments.rounds, arguments.seconds, sql, postmaster)
    print(report(f"\n{CALLERS} callers, none held before", many, base))

    lone = [peer("same row", SAME, 1), Contender("whole writer@1", Ours(pool, (1, None), 1))]
    await compare(lone, arguments.rounds, arguments.seconds, sql, postmaster)
    print(report("\none caller", lone, lone[0]))
    return {each.name: paired_ratio(each.rates, base.rates) for each in many if each is not base}


async def growth(pool: connect.Pool, sql: Connection, server: EmbeddedPostgres, arguments: argparse.Namespace) -> dict[str, float]:
    """The same callers beside none and beside many held: two databases of one server, so that each round has both within moments.

    Autovacuum and checkpoints run as they do elsewhere: what falls into few rounds is not in the median, but in the sum."""
    if not arguments.held:
        return {}
    await sql.execute("create database held")
    place = urlsplit(server.url)._replace(path="/held").geturl()
    full = await connect.create_pool(place, "bench", size=4)
    await hold(place, full, arguments.held)
    cells = [Contender(name, Ours(each, (1, None), CALLERS)) for name, each in (("none held", pool), (f"{arguments.held:,} held", full))]
    # After a checkpoint the first change of each page is logged as a whole page, and a cache is filled: both once, not in each round.
    await cells[1].run(WARM)
    await compare(cells, arguments.pairs, arguments.seconds, sql, server.pid or 0)
    await full.close()
    none, many = (each.rates for each in cells)
    slower, summed = paired_ratio(none, many), sum(none) / sum(many)
    print(report(f"\nbeside addresses held: {slower:.2f} times slower, {summed:.2f} over all {arguments.pairs} rounds", cells, cells[0]))
    return {"growth": slower, "growth over all rounds": summed}


async def hold(place: str, pool: connect.Pool, count: int) -> None:
    """Make the manager's tables in an empty database, and hold as many addresses there, as if for long: told, settled and on disk."""
    await migrate.upgrade(place)
    sql = await connect.connect(place, "bench", connect.MIGRATION)
    await sql.execute(SITE)
    await fill(pool, count)
    await sql.execute("truncate outbox")
    await sql.execute("vacuum analyze")
    await sql.execute("checkpoint")
    await sql.close()


async def conditions(sql: Connection) -> str:
    """What a figure is worth nothing without."""
    version, commit = await sql.fetchval("show server_version"), await sql.fetchval("show synchronous_commit")
    fsync, cache = await sql.fetchval("show fsync"), await sql.fetchval("show shared_buffers")
    return (
        f"PostgreSQL {version}, Unix socket, synchronous_commit {commit}, fsync {fsync}, shared_buffers {cache}; "
        f"Python {platform.python_version()}; "
        f"{os.cpu_count()} cores, shared by client and server; load {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench-alloc")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--held", type=int, default=1_000_000, help="addresses held for the growth figure; 0 leaves it out")
    parser.add_argument("--pairs", type=int, default=11, help="rounds of the growth figure")
    parser.add_argument("--only-growth", action="store_true", help="leave the comparison with pgbench out")
    parser.add_argument("--json", type=Path, help="write the ratios to this file")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="fabricmgr-bench-") as name:
        # With room for pgbench's callers beside our own.
        server = EmbeddedPostgres(Path(name) / "data", connections=CALLERS + 32)
        server.start()
        try:
            server.wait_ready()
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                figures = runner.run(run(server, Path(name), arguments))
        finally:
            server.stop()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
