"""What a copy of a cluster's pods costs: `make bench-reflector`.

A scripted API server in a process of its own serves pods as large as real ones (managedFields, containers, conditions), in pages,
and then changes so many of them a second. A second process holds the copy; its resident memory and processor time are what is shown.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bench.figures import percentile, table
from fabricmgr.kube.client import Client
from fabricmgr.kube.kubeconfig import Access
from fabricmgr.kube.reflector import Change, Happened, Reflector
from fabricmgr.kube.transport import Address
from fabricmgr.kube.views import PODS, Pod

VERSION = 1_000_000


MOMENT = "2026-01-01T00:00:00Z"


def pod(number: int, version: int) -> dict[str, Any]:
    """As a server shows one of a Deployment: some 8 KB."""
    app = f"shop-{number % 200}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(app, number, version),
        "spec": spec(app, number),
        "status": status(number),
    }


def metadata(app: str, number: int, version: int) -> dict[str, Any]:
    fields: dict[str, Any] = {f"f:field-{index}": {".": {}, "f:name": {}, "f:value": {}} for index in range(50)}
    return {
        "name": f"{app}-7c9d8b6f5-{number:05d}",
        "generateName": f"{app}-7c9d8b6f5-",
        "namespace": f"team-{number % 40}",
        "uid": f"00000000-0000-4000-8000-{number:012d}",
        "resourceVersion": str(version),
        "creationTimestamp": MOMENT,
        "labels": {"app": app, "pod-template-hash": "7c9d8b6f5", "app.kubernetes.io/instance": app, "tier": "backend"},
        "annotations": {"prometheus.io/scrape": "true", "checksum/config": "d" * 64},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-7c9d8b6f5", "uid": f"r-{app}", "controller": True}
        ],
        "managedFields": [
            {"manager": manager, "operation": "Update", "apiVersion": "v1", "time": MOMENT, "fieldsV1": fields}
            for manager in ("kube-controller-manager", "kubelet")
        ],
    }


def spec(app: str, number: int) -> dict[str, Any]:
    containers = [
        {
            "name": name,
            "image": f"registry.example/{app}/{name}:1.2.3",
            "env": [{"name": f"VARIABLE_{index}", "value": "v" * 20} for index in range(10)],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        }
        for name in ("main", "sidecar")
    ]
    toleration = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    return {"nodeName": f"node-{number % 100}", "containers": containers, "tolerations": [toleration]}


def status(number: int) -> dict[str, Any]:
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    conditions = ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}, {"ip": f"2001:db8::{number:x}"}],
        "conditions": [{"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": MOMENT} for kind in conditions],
    }


# --- the server's process ---------------------------------------------------------------------------------------------------


class Server:
    def __init__(self, pods: int, rate: int):
        self.pods, self.rate = pods, rate
        self.bodies = [json.dumps(pod(number, VERSION)) for number in range(pods)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                target = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
                async for piece in self.watch() if "watch=1" in target else self.page(target):
                    writer.write(piece)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    async def page(self, target: str) -> AsyncIterator[bytes]:
        start = int(target.partition("continue=")[2].partition("&")[0] or 0)
        end = start + 500
        meta = json.dumps({"resourceVersion": str(VERSION), "continue": str(end) if end < self.pods else ""})
        body = f'{{"kind": "PodList", "metadata": {meta}, "items": [{",".join(self.bodies[start:end])}]}}'.encode()
        yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def watch(self) -> AsyncIterator[bytes]:
        """The changed pod's annotation tells when it was written."""
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        began, sent = time.monotonic(), 0
        while True:
            await asyncio.sleep(max(0.0, began + sent / self.rate - time.monotonic()))
            found = pod(sent % self.pods, VERSION + sent + 1)
            found["metadata"]["annotations"]["written"] = str(time.monotonic())
            line = json.dumps({"type": "MODIFIED", "object": found}).encode() + b"\n"
            yield b"%x\r\n%b\r\n" % (len(line), line)
            sent += 1


async def be_server(pods: int, rate: int) -> None:
    server = await asyncio.start_server(Server(pods, rate).serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# --- the process with the copy ----------------------------------------------------------------------------------------------


def resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


async def dial(host: str, port: int) -> Address:
    del port
    return ip_address(host)


async def be_copy(port: int, seconds: float) -> dict[str, float]:
    late: list[float] = []

    def told(change: Change[Pod]) -> None:
        if change.kind is Happened.MODIFIED:
            late.append(time.monotonic() - float(change.object.annotations["written"]))

    client = Client(Access(server=f"http://127.0.0.1:{port}"), dial)
    reflector = Reflector(client, PODS, told, clock=lambda: datetime.now(UTC), chance=lambda: 1.0)
    before, began = resident(), time.monotonic()
    running = asyncio.create_task(reflector.run())
    await reflector.synced.wait()
    found = {"before_mib": before, "listed_seconds": time.monotonic() - began, "listed_cpu": time.process_time(), "listed_mib": resident()}
    late.clear()
    began, used = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    passed = time.monotonic() - began
    found |= {"cpu_share": (time.process_time() - used) / passed, "rate": len(late) / passed, "watched_mib": resident()}
    found |= {"p50_ms": percentile(late, 0.5) * 1000, "p99_ms": percentile(late, 0.99) * 1000, "pods": len(reflector.store)}
    running.cancel()
    await client.close()
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-reflector", description=__doc__)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=100, help="changes a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=18, help="how long changes are counted (%(default)s)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--copy", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def report(pods: int, found: dict[str, float]) -> str:
    rows = [
        ["", ""],
        ["pods", f"{found['pods']:,.0f}"],
        ["bytes of one as JSON", f"{len(json.dumps(pod(0, VERSION))):,}"],
        ["resident before, MiB", f"{found['before_mib']:.0f}"],
        ["resident with the copy, MiB", f"{found['listed_mib']:.0f}"],
        ["resident after the changes, MiB", f"{found['watched_mib']:.0f}"],
        ["KiB a pod", f"{(found['watched_mib'] - found['before_mib']) * 1024 / pods:.1f}"],
        ["seconds until synced", f"{found['listed_seconds']:.2f}"],
        ["changes a second", f"{found['rate']:.0f}"],
        ["share of a processor", f"{found['cpu_share'] * 100:.1f} %"],
        ["written to told, p50 / p99, ms", f"{found['p50_ms']:.1f} / {found['p99_ms']:.1f}"],
    ]
    return table(rows)


def main() -> int:
    given = arguments()
    if given.serve:
        asyncio.run(be_server(given.pods, given.rate))
    if given.copy:
        print(json.dumps(asyncio.run(be_copy(given.copy, given.seconds))))
        return 0
    words = [sys.executable, "-m", "bench.reflector"]
    with subprocess.Popen([*words, "--serve", f"--pods={given.pods}", f"--rate={given.rate}"], stdout=subprocess.PIPE, text=True) as server:
        try:
            port = server.stdout.readline().strip() if server.stdout else ""
            done = subprocess.run([*words, f"--copy={port}", f"--seconds={given.seconds}"], capture_output=True, text=True, check=True)
        finally:
            server.kill()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}")
    print(report(given.pods, json.loads(done.stdout)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
