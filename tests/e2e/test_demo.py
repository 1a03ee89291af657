"""`make run`: the demonstration as a newcomer starts it, and that nothing of it is left on the machine but its own folder."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.demo.place import Place

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(ROOT, tmp_path / "demo")
    yield made
    left = traces(made)
    assert not left, "\n".join(left)


def traces(place: Place) -> list[str]:
    """Whatever of the demo is still on this machine."""
    left = [str(path) for path in Path("/run/netns").glob(f"fmdemo-{place.mark}-*")]
    left += [str(path) for path in (place.run, Path(f"/sys/class/net/fmdemo-{place.mark}")) if os.path.lexists(path)]
    return left + [f"process {pid}: {words}" for pid, words in processes() if str(place.keep) in words or str(place.run) in words]


def processes() -> Iterator[tuple[str, str]]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if entry.name != str(os.getpid()):
            yield entry.name, words


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def command(place: Place, port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "deploy.demo", "--folder", str(place.keep), "--port", str(port), *options]


def once(place: Place, port: int, *before: str) -> "subprocess.CompletedProcess[str]":
    words = [*before, *command(place, port, "--once")]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


def rows(output: str) -> list[list[str]]:
    """The table's lines: pod, node, addresses, MAC, milliseconds."""
    return [re.split(r"\s{2,}", line.strip()) for line in output.splitlines() if line.startswith("  pod-")]


def test_once_shows_pods_on_two_nodes_that_ping_each_other_and_a_second_start_goes_on_with_what_is_there(place: Place) -> None:
    port = free_port()

    first = once(place, port)
    second = once(place, port)

    assert (first.returncode, second.returncode) == (0, 0), f"{first.stdout}{first.stderr}\n{second.stdout}{second.stderr}"
    for output in (first.stdout, second.stdout):
        assert "24 of 24 came back" in output
        assert [row[1] for row in rows(output)] == ["node-a", "node-b", "node-a", "node-b"]
        assert "initial-admin-password" in output
    assert "node-b: enrolled" in first.stdout
    assert "enrolled" not in second.stdout


def test_it_stays_until_it_is_ended_and_its_commands_work_meanwhile(place: Place) -> None:
    with subprocess.Popen(command(place, free_port()), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout is not None
        lines: list[str] = []
        while "Ctrl-C" not in "".join(lines) and (line := demo.stdout.readline()):
            lines.append(line)
        try:
            tried = [line.split() for line in lines if str(place.shortcut) in line]
            answers = [subprocess.run(words, capture_output=True, text=True, check=False) for words in tried]
        finally:
            demo.send_signal(signal.SIGTERM)
            ended = demo.wait(60)

    assert len(tried) == 3, "".join(lines)
    assert [each.returncode for each in answers] == [0, 0, 0], answers
    assert rows("".join(lines))[0][2].partition(",")[0] in answers[2].stdout
    assert "demo/pod-a1" in answers[2].stdout
    assert ended == 0


def test_a_second_one_on_the_same_folder_is_refused(place: Place) -> None:
    place.prepare()
    held = place.lock()
    try:
        refused = once(place, free_port())
    finally:
        os.close(held)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "another `make run`" in refused.stderr


def test_a_taken_port_is_named_with_a_way_out(place: Place) -> None:
    with closing(socket.socket()) as other:
        other.bind(("", 0))
        other.listen()
        port = int(other.getsockname()[1])
        refused = once(place, port)

    assert refused.returncode == 1
    assert f":{port}: Address already in use. Take another port: make run PORT=9443" in refused.stderr


def test_without_network_namespaces_it_says_so_and_runs_the_manager_alone(place: Place) -> None:
    alone = once(place, free_port(), "setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")

    assert alone.returncode == 1, "no ping went through"
    assert "nodes and pods can't be shown here" in alone.stdout
    assert "manager: ready at https://127.0.0.1:" in alone.stdout, alone.stdout + alone.stderr
    assert "No ping was sent" in alone.stderr
