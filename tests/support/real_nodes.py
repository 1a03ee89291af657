"""A real manager in a namespace of its own, and nodes on one wire with it: agents join it and serve, as on real machines."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

import httpx2

from tests.support import shims
from tests.support.namespaces import run_in
from tests.support.netns import Namespace, namespace
from tests.support.node_agent import ROOT, Node, Process
from tests.support.serve_process import ServeProcess

ADDRESS = "10.99.0.1"
PORT = 8443


class Place:
    """manager: the running one. Its data stays over restarts."""

    def __init__(self, ns: Namespace, directory: Path, stack: ExitStack):
        self._stack = stack
        self.ns = ns
        self.directory = directory
        self.manager: ServeProcess | None = None
        self.nodes: list[Node] = []
        self._starts = 0
        ns.run("ip", "link", "add", "wire", "type", "bridge")
        ns.run("ip", "address", "add", f"{ADDRESS}/24", "dev", "wire")
        ns.run("ip", "link", "set", "wire", "up")

    def start_manager(self) -> None:
        """Start it, and wait until it is ready."""
        self._starts += 1
        output = self.directory / f"serve-{self._starts}"
        words = [sys.executable, "-m", "fabricmgr", "serve", "--data-dir", str(self.directory / "data"), f"--listen={ADDRESS}:{PORT}"]
        environment = {name: text for name, text in os.environ.items() if not name.startswith("FABRICMGR_")}
        with output.open("wb") as file:
            process = subprocess.Popen(
                self.ns.command(*words), stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, cwd=ROOT
            )
        self.manager = ServeProcess(process, self.directory / "data", output).ready()

    def stop_manager(self) -> None:
        assert self.manager is not None
        self.manager.stop(30)
        self.manager = None

    # --- the operator ---

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """As the first administrator; from within the manager's namespace."""
        manager = self.manager
        assert manager is not None

        def ask() -> Any:
            with httpx2.Client(
                base_url=f"https://{ADDRESS}:{PORT}", verify=manager.tls(), auth=("admin", manager.password), trust_env=False
            ) as client:
                answer = client.request(method, path, json=body)
                assert answer.status_code < 400, answer.text
                return answer.json() if answer.content else None

        return run_in(self.ns, ask)

    def node(self, name: str) -> Node:
        """A machine on the wire that has joined; its agent is not started."""
        return self._join(name, self._machine(name))

    def _machine(self, name: str) -> Namespace:
        ns = self._stack.enter_context(namespace(name))
        port, number = f"w{len(self.nodes)}", 11 + len(self.nodes)
        self.ns.run("ip", "link", "add", port, "master", "wire", "type", "veth", "peer", "name", "nic0", "netns", ns.name)
        self.ns.run("ip", "link", "set", port, "up")
        ns.run("ip", "address", "add", f"10.99.0.{number}/24", "dev", "nic0")
        ns.run("ip", "link", "set", "nic0", "up")
        return ns

    def _join(self, name: str, ns: Namespace) -> Node:
        made = Machine(ns, Path(mkdtemp(prefix="fma-")), shims.build("static"))
        self.nodes.append(made)
        (made.directory / "token").write_text(self.call("POST", "/v1/clusters/default/nodes", {"name": name})["token"])
        done = made.command("join", "--manager", f"https://{ADDRESS}:{PORT}", "--token-file", str(made.directory / "token"))
        assert done.returncode == 0, done.stderr
        return made


class Machine(Node):
    """A node with a machine id of its own: its processes see another /etc/machine-id."""

    def __post_init__(self) -> None:
        super().__post_init__()
        (self.directory / "machine-id").write_text(uuid4().hex + "\n")
        self.agent = Process(self.within("fabricmgr", "agent", *self.flags, "--log-format=text"), self.directory / "agent.log")

    def within(self, *module: str) -> list[str]:
        """The words to run a module of ours on this machine."""
        script = f'mount --bind {self.directory}/machine-id /etc/machine-id && exec "$@"'
        return self.ns.command("unshare", "--mount", "--propagation=slave", "sh", "-c", script, "sh", sys.executable, "-m", *module)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        line = self.within("fabricmgr", "agent", *words, *self.flags)
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def place() -> Iterator[Place]:
    """A manager that runs, with a pool and a network named podnet of both families, and no nodes yet."""
    with ExitStack() as stack:
        made = Place(stack.enter_context(namespace("mgr")), Path(mkdtemp(prefix="fmm-")), stack)
        try:
            made.start_manager()
            prefixes = [{"prefix": text} for text in ("10.77.0.0/16", "2001:db8:77::/112")]
            made.call("POST", "/v1/pools", {"name": "pods", "prefixes": prefixes, "cooldown_seconds": 1})
            made.call("POST", "/v1/clusters/default/networks", {"name": "podnet", "pools": ["pods"]})
            yield made
        finally:
            for each in made.nodes:
                print(each.agent.log.read_text()[-6000:] if each.agent.log.exists() else "the agent was never started")
                each.close()
            if made.manager is not None:
                made.stop_manager()
            rmtree(made.directory, ignore_errors=True)
