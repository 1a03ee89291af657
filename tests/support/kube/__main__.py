"""`make cluster`: bring a cluster up, say what can be tried, and stay until Ctrl-C."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from deploy.kube_build.groups import program
from tests.support.kube import objects
from tests.support.kube.cluster import Cluster, cluster
from tests.support.kube.manifests import SPACE
from tests.support.kube.options import Options
from tests.support.tiers import installed, kubernetes

BEGAN = time.monotonic()
ROOT = Path(__file__).parents[3]


def say(sentence: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {sentence}", flush=True)


def shortcut(made: Cluster, name: str, *words: str, login: bool = False) -> Path:
    """A command that runs in the hub's namespace, or on a node, with what it needs to know."""
    path = made.folder / name
    variable = f"FABRICMGR_LOGIN={made.folder / 'login.json'} " if login else ""
    path.write_text(f'#!/bin/sh\n{variable}exec {" ".join(words)} "$@"\n')
    path.chmod(0o755)
    return path


def log_in(made: Cluster) -> None:
    """As the manager's first administrator."""
    data = made.manager.data_dir
    words = ["login", made.manager.url, "--ca", str(data / "ca.pem"), "--password-file", str(data / "initial-admin-password")]
    environment = os.environ | {"FABRICMGR_LOGIN": str(made.folder / "login.json")}
    subprocess.run(made.hub.command(sys.executable, "-m", "fabricmgr", *words), check=True, capture_output=True, env=environment, cwd=ROOT)


def explain(made: Cluster) -> None:
    kubectl = shortcut(made, "kubectl", *made.hub.command(str(program("kubectl")), f"--kubeconfig={made.kubeconfig}"))
    lines = [f"{kubectl} get nodes,pods -A -o wide", f"{kubectl} apply -f {example(made)}"]
    if not made.options.reference:
        log_in(made)
        ours = shortcut(made, "fabricmgr", *made.hub.command(str(ROOT / ".venv/bin/fabricmgr")), login=True)
        lines += [f"{ours} allocation list", f"{ours} pool usage", f"{ours} event list"]
    if made.options.as_pods:
        lines.append(f"{kubectl} logs -n {SPACE} daemonset/fabricmgr-agent")
    for node in made.nodes:
        lines.append(f"{shortcut(made, f'on-{node.name}', *node.inside())} ip route")
    print("\n  KUBECONFIG", made.kubeconfig, f"  (its server, {made.options.server}, is in the namespace {made.hub.name})")
    print("  Logs      ", f"{made.folder}/*.log, {made.folder}/node1/*.log")
    print("\n  Worth trying, from another terminal:")
    print("\n".join(f"    {line}" for line in lines))
    print("\n  Ctrl-C ends it and removes all of it.", flush=True)


def example(made: Cluster) -> Path:
    """A file for `kubectl apply`: a Deployment and a Service in front of it."""
    path = made.folder / "example.json"
    items = [objects.deployment("web", 4), objects.service("web")]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1))
    return path


def stay(made: Cluster) -> int:
    """Until interrupted. 1 when a program of it ended by itself."""
    while True:
        time.sleep(0.5)
        programs = [*made.control.programs.values(), *(each for node in made.nodes for each in node.programs.values())]
        for each in programs:
            if each.process is None or each.process.poll() is not None:
                print(f"{each.name} ended; {each.last_words()}", file=sys.stderr)
                return 1


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def arguments() -> Options:
    parser = argparse.ArgumentParser(prog="make cluster", description="A Kubernetes on this machine, with fabricmgr as its pods' network.")
    parser.add_argument("--nodes", type=int, default=2, help="how many (%(default)s)")
    parser.add_argument("--families", type=lambda text: tuple(map(int, text.split(","))), default=(4, 6), help="4, 6, or 4,6 (the default)")
    parser.add_argument("--proxy", choices=("nftables", "iptables"), default="nftables", help="kube-proxy's mode (%(default)s)")
    parser.add_argument("--reference", action="store_true", help="the CNI project's own plugins in the place of fabricmgr")
    parser.add_argument("--manifests", action="store_true", help="agents as pods, from deploy/kubernetes, with the image of `make image`")
    given = parser.parse_args()
    return Options(given.nodes, given.families, given.proxy, given.reference, as_pods=given.manifests)


def main() -> int:
    options = arguments()
    if reason := installed() if options.as_pods else kubernetes():
        print(f"A cluster can't run here: {reason}", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        with cluster(options, say) as made:
            explain(made)
            return stay(made)
    except KeyboardInterrupt:
        print()
        return 0
    finally:
        say("gone: programs, namespaces, files")


if __name__ == "__main__":
    sys.exit(main())
