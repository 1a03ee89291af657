"""CNI calls that reach an agent in one moment: it is stopped until all have connected, so that it finds them together."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support import shims
from tests.support.node_agent import Node, Prepared, wait_for
from tests.support.shims import Printed

Running = subprocess.Popen[bytes]


def all_at_once(node: Node, calls: Sequence[Prepared]) -> list[Printed]:
    """Make these calls; the agent hears of all when the last one has connected. What each printed, in their order."""
    return ended(begun(node, calls))


def begun(node: Node, calls: Sequence[Prepared]) -> list[Running]:
    """Start these calls, and let the agent go on when all have connected."""
    agent = node.agent.running
    assert agent is not None
    agent.send_signal(signal.SIGSTOP)
    try:
        running = [_started(each) for each in calls]
        wait_for("all have connected", lambda: _connected(node) == len(calls))
    finally:
        agent.send_signal(signal.SIGCONT)
    return running


def ended(running: Sequence[Running]) -> list[Printed]:
    printed = []
    for each in running:
        with each:
            out, err = each.communicate(timeout=60)
        printed.append(Printed(each.returncode, out, err, 0.0))
    return printed


def _started(call: Prepared) -> Running:
    """Its whole configuration is in a file: nothing has to be written while the agent stands."""
    with os.fdopen(os.memfd_create("stdin"), "w+b") as stdin:
        stdin.write(call.stdin)
        stdin.seek(0)
        return shims.start(call.plugin, call.environment, stdin)


def _connected(node: Node) -> int:
    """Callers that the agent has not accepted yet (ss(8): Recv-Q of a listening socket)."""
    path = str(Path(node.run_dir) / "agent.sock")
    lines = [line.split() for line in node.ns.run("ss", "-xlH").stdout.splitlines()]
    return next((int(words[2]) for words in lines if path in words), -1)
