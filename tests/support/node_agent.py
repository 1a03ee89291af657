"""A real agent process in a node's namespace, with a manager beside it, called by real shims as a runtime calls them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import msgspec

from fabricmgr.agent import status
from fabricmgr.agent.frame import Frame, encode_frame
from fabricmgr.agent.journal import boot_id, read
from fabricmgr.agent.plugin import PLUGIN
from fabricmgr.agent.records import State
from fabricmgr.wire import NetworkSpec
from tests.support import shims
from tests.support.fake_manager import Copy
from tests.support.netns import Namespace
from tests.support.shims import Printed

ROOT = Path(__file__).parents[2]
PODNET = NetworkSpec(name="podnet", pools=["pods"], families=[4, 6], prefixes=["10.77.0.0/16", "2001:db8:77::/112"], mtu=1450)


def wait_for(what: str, holds: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Look until it holds; AssertionError with `what` when it does not in time."""
    ends = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < ends, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def result(printed: Printed) -> dict[str, Any]:
    """The JSON of a call that must succeed."""
    assert printed.exit == 0, printed
    found: dict[str, Any] = json.loads(printed.stdout)
    return found


def error(printed: Printed) -> tuple[int, str]:
    """Code and message of a call that must fail."""
    assert printed.exit == 1, printed
    found = json.loads(printed.stdout)
    return found["code"], found["msg"]


def addresses(printed: Printed) -> list[str]:
    return [ip["address"] for ip in result(printed)["ips"]]


@dataclass(frozen=True)
class Prepared:
    """A runtime's call that has not been made yet."""

    plugin: Path
    environment: Mapping[bytes, bytes]
    stdin: bytes


@dataclass
class Process:
    """One child of the test; its stderr goes to a file."""

    words: list[str]
    log: Path
    running: subprocess.Popen[bytes] | None = None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(self.words, cwd=ROOT, env={**os.environ, **(environment or {})}, stdout=log, stderr=log)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End it and wait. Gives back its exit status."""
        if self.running is None:
            return 0
        self.running.send_signal(number)
        code = self.running.wait(15)
        self.running = None
        return code


@dataclass
class Node:
    """A node with its agent. directory: all its files."""

    ns: Namespace
    directory: Path
    plugin: Path
    agent: Process = field(init=False)
    manager: Process = field(init=False)

    def __post_init__(self) -> None:
        here = [sys.executable, "-m"]
        self.manager_dir = self.directory / "m"
        self.manager_dir.mkdir()
        self.run_dir, self.data_dir = self.directory / "r", self.directory / "d"
        self.manager = Process(self.ns.command(*here, "tests.support.fake_manager", str(self.manager_dir)), self.directory / "manager.log")
        self.agent = Process(self.ns.command(*here, "fabricmgr", "agent", *self.flags, "--log-format=text"), self.directory / "agent.log")

    @property
    def flags(self) -> list[str]:
        return [f"--run-dir={self.run_dir}", f"--data-dir={self.data_dir}"]

    # --- processes ---

    def want(self, *networks: NetworkSpec) -> None:
        """What the manager desires."""
        aside = self.manager_dir / "desired.new"
        aside.write_bytes(msgspec.json.encode(networks))
        aside.rename(self.manager_dir / "desired.json")

    def start_manager(self) -> None:
        (self.manager_dir / "ready").unlink(missing_ok=True)
        self.manager.start()
        wait_for("the manager serves", (self.manager_dir / "ready").exists, 20)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A `fabricmgr agent` command in this node."""
        line = self.ns.command(sys.executable, "-m", "fabricmgr", "agent", *words, *self.flags)
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    def join(self) -> None:
        url, token = (self.manager_dir / "url").read_text(), self.manager_dir / "token"
        done = self.command("join", "--manager", url, "--token-file", str(token))
        assert done.returncode == 0, done.stderr

    def start_agent(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it, and wait until it answers on both sockets."""
        self.agent.start(environment)
        wait_for("the agent serves", self.serves, 20)

    def serves(self) -> bool:
        running = self.agent.running
        assert running is not None
        assert running.poll() is None, self.agent.log.read_text()
        # A runtime's VERSION is answered by the shim alone: STATUS reaches the agent.
        return (self.run_dir / "agent.sock").exists() and self.status() is not None

    def status(self) -> status.Status | None:
        try:
            return status.ask(self.run_dir)
        except (OSError, msgspec.MsgspecError):
            return None

    def ready(self, network: str = "podnet") -> None:
        """Until there are addresses at hand in each family, and all is reported."""

        def holds() -> bool:
            said = self.status()
            found = [each for each in said.networks if each.name == network] if said else []
            return bool(found) and all(count > 0 for count in found[0].free.values())

        wait_for("addresses are at hand", holds, 20)

    def settled(self) -> None:
        """Until the manager's copy is current."""
        wait_for("all is reported", lambda: (said := self.status()) is not None and said.unreported == 0)

    def state(self) -> State:
        """What the journal says now."""
        found, _ = read(self.run_dir / "journal", boot_id())
        assert found.state is not None, found.sentence
        return found.state

    def copy(self) -> Copy:
        """What the manager believes."""
        return msgspec.json.decode((self.manager_dir / "copy.json").read_bytes(), type=Copy)

    def close(self) -> None:
        self.agent.kill()
        self.manager.kill()
        rmtree(self.directory)

    # --- the runtime's side ---

    def prepared(
        self,
        command: str,
        container: str = "c1",
        pod: Namespace | None = None,
        *,
        ifname: str = "eth0",
        args: str = "",
        config: Mapping[str, object] | None = None,
        plugin: Path | None = None,
    ) -> Prepared:
        document = {"cniVersion": "1.1.0", "name": "podnet", "type": PLUGIN, **(config or {})}
        environment = shims.variables(
            self.run_dir / "agent.sock",
            CNI_COMMAND=command,
            CNI_CONTAINERID=container,
            CNI_NETNS=pod.path if pod else "",
            CNI_IFNAME=ifname,
            CNI_ARGS=args,
        )
        return Prepared(plugin or self.plugin, environment, json.dumps(document).encode())

    def cni(self, command: str, container: str = "c1", pod: Namespace | None = None, **more: Any) -> Printed:
        """Make a call; what may be said beside these, `prepared` says."""
        call = self.prepared(command, container, pod, **more)
        return shims.call(call.plugin, call.environment, call.stdin)

    def add(self, container: str, pod: Namespace, **more: Any) -> Printed:
        return self.cni("ADD", container, pod, **more)

    def delete(self, container: str, pod: Namespace | None = None, **more: Any) -> Printed:
        return self.cni("DEL", container, pod, **more)

    def spool(self, container: str, ifname: str = "eth0") -> None:
        """A DEL as the shim leaves it when no agent answers."""
        document = json.dumps({"cniVersion": "1.1.0", "name": "podnet", "type": PLUGIN}).encode()
        frame = Frame(PLUGIN, "DEL", container, "", ifname, "", "/opt/cni/bin", stdin=document)
        directory = self.run_dir / "spool"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{container}.1").write_bytes(encode_frame(frame))

    # --- the kernel's side ---

    def links(self) -> list[dict[str, Any]]:
        """Host ends that carry pods, or wait to be deleted."""
        shown = json.loads(self.ns.run("ip", "-j", "-d", "link", "show").stdout)
        return [link for link in shown if link["ifname"].startswith("fm") and link.get("linkinfo", {}).get("info_kind") == "veth"]


@contextmanager
def node(ns: Namespace, *networks: NetworkSpec, kind: str = "static") -> Iterator[Node]:
    """A node whose manager runs and that has joined it; its agent is not started."""
    made = Node(ns, Path(mkdtemp(prefix="fma-")), shims.build(kind))
    try:
        made.want(*(networks or (PODNET,)))
        made.start_manager()
        made.join()
        yield made
    finally:
        # pytest shows it where a test failed.
        print(made.agent.log.read_text()[-6000:] if made.agent.log.exists() else "the agent was never started")
        made.close()
