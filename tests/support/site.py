"""A whole site for a test: a real manager with its database, and nodes with real agents, each in a network namespace of its own.

The manager's namespace is the nodes' next hop too, and plays the world outside: it has 198.51.100.1 and knows no way to a pod.
"""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

from fabricmgr.store import pgdata, pgprocs
from tests.support import scratch, shims
from tests.support.netns import Namespace, namespace
from tests.support.node_agent import ROOT, Node, Process, wait_for

HERE = "192.168.250.1"
WORLD = ("198.51.100.1", "2001:db8:ffff::1")
PORT = 8443
# Adds a machine id of its own to a node: two agents on one machine are two nodes only with two of them.
OWN_MACHINE_ID = 'mount --bind "$0" /etc/machine-id && exec "$@"'


@dataclass
class SiteManager:
    """`fabricmgr serve`, asked with curl inside a namespace as its first administrator. address: where it listens."""

    ns: Namespace
    directory: Path
    address: str = HERE
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.data_dir = self.directory / "data"
        words = [sys.executable, "-m", "fabricmgr", "serve", "--data-dir", str(self.data_dir), "--listen", f"{self.address}:{PORT}"]
        self.process = Process(self.ns.command(*words, "--log-format", "text"), self.directory / "manager.log")

    @property
    def url(self) -> str:
        return f"https://{self.address}:{PORT}"

    @property
    def database(self) -> str:
        """Of its own Postgres, whose socket lies somewhere below."""
        (socket,) = (self.data_dir / "postgres").rglob(f".s.PGSQL.{pgdata.PORT}")
        return f"postgresql://{pgdata.ROLE}@/{pgdata.DATABASE}?host={socket.parent}&port={pgdata.PORT}"

    def start(self) -> None:
        """Start it and wait until it can serve."""
        self.process.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until it can serve."""
        wait_for("the manager is ready", self._is_ready, 120)

    def _is_ready(self) -> bool:
        running = self.process.running
        assert running is not None
        assert running.poll() is None, self.process.log.read_text()
        if not (self.data_dir / "ca.pem").exists() or not (self.data_dir / "initial-admin-password").exists():
            return False
        return self._curl("GET", "/readyz", "", 3).endswith(" 200")

    def _curl(self, method: str, path: str, body: str, limit: int = 28) -> str:
        """The answer's body, a blank, and its status; empty when there was none."""
        secret = self.directory / "curl"
        secret.write_text(f'user = "admin:{(self.data_dir / "initial-admin-password").read_text().strip()}"\n')
        secret.chmod(0o600)
        words = ["curl", "-s", "--max-time", str(limit), "--cacert", str(self.data_dir / "ca.pem"), "-K", str(secret), "-X", method]
        words += ["-w", " %{http_code}", *(["-H", "content-type: application/json", "-d", body] if body else [])]
        return self.ns.run(*words, f"{self.url}{path}", check=False).stdout

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """The answer of one call, which must succeed."""
        status, text = self.answer(method, path, body)
        assert 200 <= status < 300, f"{method} {path}: {status} {text}\n{self.last_words()}"
        return json.loads(text) if text else None

    def answer(self, method: str, path: str, body: Mapping[str, object] | None = None) -> tuple[int, str]:
        """Status and text of one call, whatever becomes of it; status 0 where there was no answer."""
        text, _, status = self._curl(method, path, json.dumps(body) if body is not None else "").rpartition(" ")
        return int(status or 0), text

    def last_words(self) -> str:
        """The end of its log; nothing where somebody else started it."""
        return self.process.log.read_text()[-2000:] if self.process.log.exists() else ""

    def make_pool(self, name: str, *prefixes: str, **more: object) -> None:
        """Addresses rest for two seconds unless told otherwise."""
        body = {"name": name, "prefixes": [{"prefix": each} for each in prefixes], "cooldown_seconds": 2, **more}
        self.ask("POST", "/v1/pools", body)

    def make_network(self, name: str, *prefixes: str, pool: Mapping[str, object] | None = None, **more: object) -> None:
        """A network of the cluster `default` with a pool of the same name."""
        self.make_pool(name, *prefixes, **(pool or {}))
        self.ask("POST", "/v1/clusters/default/networks", {"name": name, "pools": [name], "mtu": 1450, **more})

    @contextmanager
    def network_for_a_while(self, name: str, *prefixes: str) -> Iterator[None]:
        """Nothing of it is left afterwards, once nodes have given its blocks back."""
        self.make_network(name, *prefixes)
        try:
            yield
        finally:
            self.ask("DELETE", f"/v1/clusters/default/networks/{name}")
            wait_for(f"no node holds a block of {name}", lambda: self.answer("DELETE", f"/v1/pools/{name}")[0] == 204, 60)

    def allocations(self, **filters: str) -> list[dict[str, Any]]:
        """What is held now; at most a thousand."""
        query = "&".join(f"{name}={text}" for name, text in {"limit": "1000", **filters}.items())
        found: list[dict[str, Any]] = self.ask("GET", f"/v1/allocations?{query}")["items"]
        return found

    def holders(self, address: str) -> list[dict[str, Any]]:
        """Who had an address, the newest first."""
        found: list[dict[str, Any]] = self.ask("GET", f"/v1/history?address={address}")["items"]
        return found

    def close(self) -> None:
        """SIGTERM, then by force what is left of it and of its database."""
        if self.process.running is not None:
            try:
                self.process.kill(signal.SIGTERM)
            finally:
                if self.process.running is not None:
                    self.process.kill()
        pgprocs.end_all(self.data_dir / "postgres" / "cluster")


@dataclass
class SiteNode(Node):
    """A node whose manager is the site's."""

    name: str = ""

    def __post_init__(self) -> None:
        self.run_dir, self.data_dir = self.directory / "r", self.directory / "d"
        self.manager_dir = self.directory
        self.manager = Process([], self.directory / "none")
        (self.directory / "machine-id").write_text(f"{uuid4().hex}\n")
        self.agent = Process(self._words(*self.flags, "--log-format=text"), self.directory / "agent.log")

    def _words(self, *words: str) -> list[str]:
        own = ["unshare", "--mount", "--propagation", "private", "sh", "-c", OWN_MACHINE_ID, str(self.directory / "machine-id")]
        return self.ns.command(*own, sys.executable, "-m", "fabricmgr", "agent", *words)

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A `fabricmgr agent` command on this machine."""
        line = self._words(*words, *self.flags)
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    def join_as(self, manager: SiteManager) -> None:
        """Become a node of the cluster `default`, with a token of the manager's."""
        self.join_by(manager, manager.ask("POST", "/v1/clusters/default/nodes", {"name": self.name})["token"])

    def join_by(self, manager: SiteManager, token: str) -> None:
        """The same with a token that is there. It stays in the folder."""
        file = self.directory / "token"
        file.touch(0o600)
        file.write_text(token)
        done = self.command("join", "--manager", manager.url, "--token-file", str(file))
        assert done.returncode == 0, done.stderr


@dataclass
class Site:
    """Nodes are n1, n2, ...; their agents are not started."""

    world: Namespace
    manager: SiteManager
    nodes: list[SiteNode]
    stack: ExitStack

    def join(self, name: str) -> SiteNode:
        """One more machine on the segment, which has joined."""
        self.nodes.append(self.stack.enter_context(_node(self.manager, name, len(self.nodes) + 2)))
        return self.nodes[-1]

    @property
    def node(self) -> SiteNode:
        return self.nodes[0]

    def start(self, *networks: str) -> None:
        """Start every agent; wait until it has addresses at hand in these networks."""
        for each in self.nodes:
            each.start_agent()
        for each in self.nodes:
            for network in networks:
                each.ready(network)


def plug(world: Namespace, node: Namespace, number: int) -> None:
    """A wire from a node to the segment where the manager is, and its way out."""
    world.run("ip", "link", "add", f"port{number}", "type", "veth", "peer", "name", "uplink", "netns", node.name)
    world.run("ip", "link", "set", f"port{number}", "master", "segment", "up")
    node.run("ip", "address", "add", f"192.168.250.{number}/24", "dev", "uplink")
    node.run("ip", "address", "add", f"2001:db8:250::{number}/64", "dev", "uplink", "nodad")
    node.run("ip", "link", "set", "uplink", "up")
    node.run("ip", "route", "add", "default", "via", HERE)
    node.run("ip", "route", "add", "default", "via", "2001:db8:250::1")


def prepare_world(world: Namespace) -> None:
    world.run("ip", "link", "add", "segment", "type", "bridge")
    world.run("ip", "address", "add", f"{HERE}/24", "dev", "segment")
    world.run("ip", "address", "add", "2001:db8:250::1/64", "dev", "segment", "nodad")
    world.run("ip", "link", "set", "segment", "up")
    world.run("ip", "address", "add", f"{WORLD[0]}/32", "dev", "lo")
    world.run("ip", "address", "add", f"{WORLD[1]}/128", "dev", "lo", "nodad")


@contextmanager
def site(count: int = 1) -> Iterator[Site]:
    """A manager that is ready, in a cluster `default`, and nodes that have joined it. All of it is gone afterwards."""
    with ExitStack() as stack:
        world = stack.enter_context(namespace("world"))
        prepare_world(world)
        # Short: sockets lie in it.
        directory = Path(mkdtemp(prefix="fms-", dir=scratch.short()))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        manager = SiteManager(world, directory)
        stack.callback(manager.close)
        manager.start()
        made = Site(world, manager, [], stack)
        for number in range(1, count + 1):
            made.join(f"n{number}")
        yield made


@contextmanager
def _node(manager: SiteManager, name: str, number: int) -> Iterator[SiteNode]:
    with namespace(name) as ns:
        plug(manager.ns, ns, number)
        made = SiteNode(ns, Path(mkdtemp(prefix="fma-", dir=scratch.short())), shims.build("static"), name=name)
        try:
            made.join_as(manager)
            yield made
        finally:
            # pytest shows it where a test failed.
            print(made.agent.log.read_text()[-6000:] if made.agent.log.exists() else "the agent was never started")
            made.close()
