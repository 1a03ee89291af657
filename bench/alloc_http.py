"""What each layer over HTTP costs an allocation, beside pgbench's single-row inserts: `make bench-alloc-http`.

64 connections of wrk (Debian's package), one web worker, one embedded Postgres; client, server and database share the machine's cores. The
layers are put on one by one: the writer without history and events over plain HTTP, then history and events, then TLS, then the whole
product, `fabricmgr serve` with a session's token: who is asking (looked up anew for each write), privilege, audit, log, metrics.
"""

import argparse
import asyncio
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.alloc import CALLERS, PEER, SAME, SITE, Contender, Measured, Pgbench, compare, conditions, make_bare, place_of, report
from fabricmgr.store import connect, migrate, pgbin
from fabricmgr.store.connect import Connection
from fabricmgr.store.embedded import EmbeddedPostgres

SCRIPT = """
local seed, n = 0, 0
init = function(args) seed = args[1] end
request = function()
  n = n + 1
  return wrk.format("PUT", "/v1/pools/bench/allocations/w" .. seed .. "-" .. n, {%s}, "{}")
end
done = function(summary)
  local e = summary.errors
  io.write("failed " .. (e.status + e.connect + e.read + e.write + e.timeout) .. "\\n")
end
"""


@dataclass
class Wrk:
    """A load of PUTs, each for another owner."""

    url: str
    script: Path
    runs: int = 0

    async def __call__(self, seconds: float) -> Measured:
        self.runs += 1
        seed = f"{os.getpid()}-{self.runs}"
        command = ["wrk", "-t1", f"-c{CALLERS}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(self.script), self.url, "--", seed]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        output = (await process.communicate())[0].decode()
        found = {name: re.search(pattern, output) for name, pattern in PATTERNS.items()}
        if any(each is None for each in found.values()) or "failed 0\n" not in output:
            raise SystemExit(f"wrk against {self.url} failed:\n{output}")
        rate, count, p50 = (float(each[1]) for each in found.values() if each is not None)
        unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0}[(found["p50"] or [""])[2]]
        return Measured(rate, [p50 * unit], int(count))


PATTERNS = {"rate": r"Requests/sec:\s+([0-9.]+)", "count": r"(\d+) requests in", "p50": r"50%\s+([0-9.]+)(us|ms|s)"}


@contextmanager
def layered(url: str, function: str, certificate: Path | None) -> Iterator[str]:
    """A worker of some layers. Gives its URL."""
    command = [sys.executable, "-m", "bench.alloc_server", url, function, *([str(certificate)] if certificate else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def whole(url: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The product on this database. Gives its URL and a session's token."""
    data = folder / "manager"
    where = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "fabricmgr", "serve", "--data-dir", str(data), "--listen", where, "--database-url", url]
    with (folder / "manager.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"https://{where}", token_of(f"https://{where}", data, process)
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def token_of(url: str, data: Path, process: "subprocess.Popen[bytes]") -> str:
    """Of a session, as soon as the manager is ready."""
    while process.poll() is None:
        try:
            with httpx2.Client(verify=ssl.create_default_context(cafile=data / "ca.pem"), trust_env=False) as client:
                if client.get(f"{url}/readyz").status_code == httpx2.codes.OK:
                    password = (data / "initial-admin-password").read_text().strip()
                    opened = client.post(f"{url}/v1/sessions", json={"account": "admin", "password": password})
                    return str(opened.json()["token"])
        except (httpx2.TransportError, OSError):
            pass
        time.sleep(0.2)
    raise SystemExit(f"the manager ended: {(data.parent / 'manager.log').read_text()[-2000:]}")


def self_signed(folder: Path) -> Path:
    """Key and certificate for the loopback address in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    began = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), began, began + timedelta(days=1))
    made = builder.sign(key, hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    return path


def script(folder: Path, name: str, token: str = "") -> Path:
    path = folder / f"{name}.lua"
    headers = '["Content-Type"]="application/json"' + (f', ["X-Auth-Token"]="{token}"' if token else "")
    path.write_text(SCRIPT % headers)
    return path


async def run(server: EmbeddedPostgres, folder: Path, arguments: argparse.Namespace) -> None:
    await migrate.upgrade(server.url)
    sql = await connect.connect(server.url, "bench", connect.MIGRATION)
    await sql.execute(SITE + PEER)
    print(await conditions(sql))
    bare = await make_bare(sql)
    certificate = self_signed(folder)
    with (
        layered(server.url, bare, None) as one,
        layered(server.url, "allocate_batch_2", None) as two,
        layered(server.url, "allocate_batch_2", certificate) as three,
        whole(server.url, folder) as (four, token),
    ):
        await measure(sql, server, folder, arguments, [one, two, three, four], token)
    await sql.close()


async def measure(
    sql: Connection, server: EmbeddedPostgres, folder: Path, arguments: argparse.Namespace, urls: list[str], token: str
) -> None:
    host, user, database = await place_of(sql)
    peer = folder / "same.sql"
    peer.write_text(SAME)
    base = Contender(f"pgbench same row@{CALLERS}", Pgbench(pgbin.find(None).folder / "pgbench", host, database, user, peer, CALLERS))
    plain, known = script(folder, "plain"), script(folder, "known", token)
    names = ["bare: HTTP, msgspec, writer", "with history and events", "with TLS", "the whole path"]
    layers = [Contender(name, Wrk(url, known if url == urls[-1] else plain)) for name, url in zip(names, urls, strict=True)]
    await compare([base, *layers], arguments.rounds, arguments.seconds, sql, server.pid or 0)
    print(report(f"\n{CALLERS} connections, one web worker, none held before (client's processor time is wrk's)", [base, *layers], base))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench-alloc-http")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    with TemporaryDirectory(prefix="fabricmgr-bench-") as name:
        server = EmbeddedPostgres(Path(name) / "data", connections=CALLERS + 64)
        server.start()
        try:
            server.wait_ready()
            asyncio.run(run(server, Path(name), arguments))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
