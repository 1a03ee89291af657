"""Show fabricmgr at work on one machine: `make run`, or `make run ONCE=1` to show it and end.

A manager, two nodes on one wire, an agent in each, pods attached through the plugin a container runtime calls, pings between all of them.
Everything is the real thing; only the machines are network namespaces.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from deploy.demo.lab import Lab, has_ipv6, missing
from deploy.demo.manager import DemoManager
from deploy.demo.node import DemoNode, Pod
from deploy.demo.place import Place
from deploy.demo.processes import Stopped, run

POOL, NETWORK = "demo-pods", "demo"
PREFIXES = ["10.42.0.0/16", *(["fd42::/112"] if has_ipv6() else [])]
NODES = ("node-a", "node-b")
PODS_ON_EACH = 2
INTERRUPTED = 130  # as a shell says it for SIGINT
BEGAN = time.monotonic()


def say(sentence: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {sentence}", flush=True)


def once_each() -> Callable[[str], None]:
    """Says a sentence when it differs from the one before."""
    last = ""

    def tell(sentence: str) -> None:
        nonlocal last
        if sentence != last:
            last = sentence
            say(f"  waiting: {sentence}")

    return tell


def start_manager(manager: DemoManager, stack: ExitStack) -> None:
    place = manager.place
    manager.refuse_taken_port()
    first = not place.manager_data.exists()
    say(f"manager: starting with {'a new' if first else 'its'} database under {place.manager_data}")
    manager.program.start()
    stack.callback(manager.program.stop)
    manager.program.wait_until(manager.waits_for, 120, once_each())
    manager.log_in()
    say(f"manager: ready at {manager.url}")


def start_node(manager: DemoManager, node: DemoNode, stack: ExitStack) -> None:
    """Enrol it if it isn't yet, install the plugin, start its agent."""
    node.prepare()
    if not node.enrolled(manager.url, manager.authority):
        token = node.keep / "token"
        token.touch(mode=0o600)
        token.write_text(manager.enrolment_token(node.name))
        run(*node.words("agent", "join", "--manager", manager.url, "--token-file", str(token), *node.settings))
        token.unlink()
        say(f"{node.name}: enrolled")
    places = ["--cni-bin-dir", str(node.plugins), "--cni-conf-dir", str(node.conflists)]
    run(*node.words("agent", "install", "--network", node.network, *places, *node.settings))
    node.agent.start()
    stack.callback(node.agent.stop)


def attach_pods(lab: Lab, nodes: list[DemoNode], stack: ExitStack) -> list[Pod]:
    pods = []
    for number in range(1, PODS_ON_EACH + 1):
        for node in nodes:
            name = f"pod-{node.name[-1]}{number}"
            lab.add(name)
            pod = node.attach(name, uuid4().hex)
            stack.callback(detach, node, pod)
            pods.append(pod)
    return pods


def detach(node: DemoNode, pod: Pod) -> None:
    try:
        node.detach(pod)
    except Stopped as stopped:
        print(f"  {stopped}", file=sys.stderr)


def ping_all(lab: Lab, pods: list[Pod]) -> list[str]:
    """Every pod pings every other one, by each address. One sentence for each ping that did not come back."""
    lost, count = [], 0
    for source in pods:
        for target in (each for each in pods if each is not source):
            for address in target.addresses:
                count += 1
                if not lab.ping(source.name, address):
                    lost.append(f"{source.name} on {source.node} does not reach {target.name} on {target.node} at {address}")
    say(f"pings: {count - len(lost)} of {count} came back, half of them and more between the nodes")
    return lost


def show(pods: list[Pod]) -> None:
    rows = [("POD", "NODE", "ADDRESS", "MAC", "ADD ms")]
    rows += [(pod.name, pod.node, ", ".join(pod.addresses), pod.mac, f"{pod.milliseconds:.1f}") for pod in pods]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def explain(manager: DemoManager, pods: list[Pod]) -> None:
    place = manager.place
    shortcut = place.shortcut.relative_to(place.root) if place.shortcut.is_relative_to(place.root) else place.shortcut
    print(f"""
  Redfish   {manager.url}/redfish/v1
  API       {manager.url}/v1/openapi.json
  Metrics   {manager.url}/metrics
  Account   admin; its password lies in {manager.password}
  CA        {manager.authority}

  Worth trying, from another terminal:
    {shortcut} allocation list
    {shortcut} pool usage""")
    if pods:
        print(f"    {shortcut} who-had {pods[0].addresses[0]}")
    else:
        print(f"    {shortcut} event list")
    print(flush=True)


def wait_for_the_end(programs: list[DemoNode], manager: DemoManager) -> None:
    """Until Ctrl-C or SIGTERM. Stopped when a program ends by itself."""
    print("  Ctrl-C ends it and cleans up; what the manager knows stays under .run/ for the next start.", flush=True)
    while True:
        time.sleep(0.5)
        for program in [manager.program, *(node.agent for node in programs)]:
            if program.process is None or program.process.poll() is not None:
                raise Stopped(f"{program.name} ended; {program.last_words()}")


def whole(place: Place, port: int, once: bool, stack: ExitStack) -> int:
    lab = Lab(place)
    lab.remove_all()
    stack.callback(lab.remove_all)
    place.link()
    stack.callback(place.unlink)
    lab.build(list(NODES))
    say(f"{' and '.join(NODES)}: network namespaces on one wire, {place.underlay}")
    manager = DemoManager(place, str(lab.address(1)), port)
    start_manager(manager, stack)
    manager.make("pool", POOL, *PREFIXES)
    manager.make("network", NETWORK, "--pool", POOL)
    nodes = [DemoNode(lab, name, NETWORK) for name in NODES]
    for node in nodes:
        start_node(manager, node, stack)
    for node in nodes:
        node.agent.wait_until(node.waits_for, 60, once_each())
        say(f"{node.name}: its agent serves")
    pods = attach_pods(lab, nodes, stack)
    lost = ping_all(lab, pods)
    show(pods)
    explain(manager, pods)
    for sentence in lost:
        print(f"  LOST: {sentence}", flush=True)
    if not once:
        wait_for_the_end(nodes, manager)
    return 1 if lost else 0


def alone(place: Place, port: int, once: bool, reason: str, stack: ExitStack) -> int:
    say(f"nodes and pods can't be shown here: {reason}")
    say("the manager runs alone")
    manager = DemoManager(place, "127.0.0.1", port)
    start_manager(manager, stack)
    explain(manager, [])
    if not once:
        wait_for_the_end([], manager)
    print("  No ping was sent.", file=sys.stderr)
    return 1


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make run", description="Show fabricmgr at work on this machine.")
    parser.add_argument("--once", action="store_true", help="end after the pings; the exit status is 0 if every one came back")
    parser.add_argument("--port", type=int, default=8443, help="where the manager listens (%(default)s)")
    parser.add_argument("--folder", type=Path, help="what to keep its things in (.run of the checkout)")
    return parser.parse_args()


def show_all(place: Place, port: int, once: bool) -> int:
    """Start, show, and end in order whatever happens. The exit status."""
    reason = missing()
    with ExitStack() as stack:
        stack.callback(say, "gone: programs, namespaces, links")
        try:
            return alone(place, port, once, reason, stack) if reason else whole(place, port, once, stack)
        except Stopped as stopped:
            print(f"\n{stopped}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print()
            say("cleaning up")
            return INTERRUPTED if once else 0
        finally:
            # A second Ctrl-C must not leave half of it behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, interrupt)
    root = Path(__file__).resolve().parents[2]
    place = Place(root, given.folder.resolve()) if given.folder else Place.of(root)
    try:
        place.prepare()
        place.lock()
    except BlockingIOError:
        print("another `make run` of this checkout is up; end it with Ctrl-C first", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 1
    return show_all(place, given.port, given.once)


if __name__ == "__main__":
    sys.exit(main())
