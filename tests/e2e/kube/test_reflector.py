"""A Reflector before the real API server, through a proxy that resets, falls silent and refuses: nothing is missed, nothing told twice."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.kube.cluster import Cluster
from tests.support.node_agent import wait_for

ROOT = Path(__file__).parents[3]
NOTICED = 31.0  # seconds: a watch's time-out and the request after it


@contextmanager
def cutting(cluster: Cluster, phase: str) -> Iterator["subprocess.Popen[str]"]:
    line = cluster.hub.command(sys.executable, "-m", "tests.support.kube.cutting", str(cluster.kubeconfig), phase)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as running:
        try:
            yield running
        finally:
            running.kill()


def outcome(running: "subprocess.Popen[str]") -> dict[str, Any]:
    said, _ = running.communicate("\n", timeout=180)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    print(found)
    assert running.returncode == 0
    return found


def assert_nothing_missed(found: dict[str, Any], added: int, deleted: int) -> None:
    assert found["wrote"] == {"added": added, "deleted": deleted}
    assert found["missed"] == {"added": [], "deleted": []}
    assert found["twice"] == []
    assert not found["ended"]


def test_resets_under_load_hide_no_pod(cluster: Cluster) -> None:
    with cutting(cluster, "p1") as running:
        found = outcome(running)

    assert_nothing_missed(found, 60, 60)


def test_a_silent_connection_is_noticed_within_its_time_out_and_hides_no_pod(cluster: Cluster) -> None:
    with cutting(cluster, "p2") as running:
        found = outcome(running)

    assert_nothing_missed(found, 20, 10)
    assert found["worst_delay"] <= NOTICED


def test_a_cut_and_an_api_server_that_forgot_the_version_hide_no_pod(cluster: Cluster) -> None:
    with cutting(cluster, "p3") as running:
        assert running.stdout is not None
        assert running.stdout.readline().strip() == "restart"
        server = cluster.control.programs["kube-apiserver"]
        server.stop(patience=0.1)
        server.start()
        wait_for("the API server answers again", lambda: cluster.control.run_kubectl("get", "--raw", "/readyz").stdout == "ok", 60)
        found = outcome(running)

    assert_nothing_missed(found, 20, 10)
