"""The agent's CNI edge with real shims, real descriptors and real processes; what an operation does is a fake here."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from fabricmgr.agent.frame import LENGTH_BYTES, Frame, encode_frame, frame_length, parse_answer, parse_frame
from fabricmgr.agent.request import CniRequest, parse_request
from fabricmgr.agent.server import prepare_directory
from fabricmgr.domain.errors import FabricError, PoolExhausted, SettingRefused
from tests.support.edge import CONFIG, Edge
from tests.support.netns import Namespace
from tests.support.serving_edge import directory, edge, pod
from tests.support.shims import KINDS, ROOT, Printed, build, call, start, variables

PREV = CONFIG[:-1] + b',"prevResult":{"cniVersion":"1.1.0","ips":[]}}'

__all__ = ["directory", "edge", "pod"]

pytestmark = pytest.mark.anyio


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def code(printed: Printed) -> int:
    assert printed.exit == 1
    return int(json.loads(printed.stdout)["code"])


@pytest.mark.parametrize("kind", KINDS)
async def test_an_add_prints_the_result_in_its_version_and_its_namespace_arrives(edge: Edge, pod: Namespace, kind: str) -> None:
    printed = await edge.call(kind, CONFIG.replace(b"1.1.0", b"0.4.0"), CNI_NETNS=pod.path)

    assert printed.exit == 0
    assert json.loads(printed.stdout) == {
        "cniVersion": "0.4.0",
        "interfaces": [{"name": "eth0", "sandbox": pod.path}],
        "ips": [{"version": "4", "address": "10.0.0.5/32", "interface": 0}],
        "routes": [],
        "dns": {},
    }
    found = edge.verbs.requests[0].namespace
    assert found
    assert found.inode == Path(pod.path).stat().st_ino


@pytest.mark.parametrize("kind", KINDS)
async def test_each_operation_reaches_its_own_verb_and_prints_nothing_on_success(edge: Edge, pod: Namespace, kind: str) -> None:
    cases = {"DEL": CONFIG, "CHECK": PREV, "GC": CONFIG, "STATUS": CONFIG}

    printed = [await edge.call(kind, stdin, CNI_COMMAND=command, CNI_NETNS=pod.path) for command, stdin in cases.items()]

    assert [(each.exit, each.stdout, each.stderr) for each in printed] == [(0, b"", b"")] * 4
    assert edge.verbs.done == ["delete c1", "check c1", "gc", "status"]


async def test_no_descriptor_stays_open_whatever_a_call_comes_to(edge: Edge, pod: Namespace) -> None:
    async def refuse(request: CniRequest) -> None:
        if request.container == "bad":
            raise PoolExhausted("pods", "IPv4", "wait")
        if request.container == "bug":
            raise OSError("unforeseen")

    edge.verbs.during = refuse
    await edge.call("static", CNI_NETNS=pod.path)
    await edge.settle(lambda: not edge.server._calls)
    before = open_descriptors()

    for container in ("c1", "bad", "bug", "../x"):
        await edge.call("static", CNI_NETNS=pod.path, CNI_CONTAINERID=container)
    await edge.call("static", b"{", CNI_NETNS=pod.path)

    await edge.settle(lambda: not edge.server._calls)
    assert open_descriptors() == before


async def test_a_domain_error_is_told_by_its_row_with_what_it_was_about(edge: Edge, pod: Namespace) -> None:
    async def refuse(_: CniRequest) -> None:
        raise PoolExhausted("pods", "IPv4", "add a prefix")

    edge.verbs.during = refuse

    printed = await edge.call("static", CNI_NETNS=pod.path)

    assert printed.exit == 1
    assert json.loads(printed.stdout) == {
        "cniVersion": "1.1.0",
        "code": 11,
        "msg": "pool 'pods' has no free IPv4 address; add a prefix",
        "details": "network podnet, container c1, interface eth0",
    }


@pytest.mark.parametrize("bug", [ZeroDivisionError("inside"), OSError("inside"), TimeoutError("inside"), EOFError("inside")])
async def test_a_bug_is_code_999_and_shows_nothing_of_its_inside_but_in_the_log(
    edge: Edge, pod: Namespace, bug: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: CniRequest) -> None:
        raise bug

    edge.verbs.during = fail

    printed = await edge.call("static", CNI_NETNS=pod.path)

    assert code(printed) == 999
    assert b"inside" not in printed.stdout + printed.stderr
    assert any(record.exc_info and record.exc_info[1] is bug for record in caplog.records)


# --- namespaces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "stdin"), [("ADD", CONFIG), ("CHECK", PREV)])
@pytest.mark.parametrize(
    ("netns", "expected"),
    [
        ("/nonexistent", 3),
        ("/proc/self/ns/net", 8),
        ("/etc/hostname", 8),
        ("/proc/self/ns/mnt", 8),
        ("/proc/self/ns/user", 8),
        ("/dev/null", 8),
    ],
)
async def test_a_namespace_that_cannot_be_a_pods_is_refused_before_anything_is_done(
    edge: Edge, command: str, stdin: bytes, netns: str, expected: int
) -> None:
    printed = await edge.call("static", stdin, CNI_COMMAND=command, CNI_NETNS=netns)

    assert code(printed) == expected
    assert netns in json.loads(printed.stdout)["msg"]
    assert not edge.verbs.requests


@pytest.mark.parametrize("netns", ["", "/nonexistent", "/proc/self/ns/net", "/etc/hostname", "/proc/self/ns/mnt"])
async def test_a_del_succeeds_without_a_namespace_and_is_given_none_to_touch(edge: Edge, netns: str) -> None:
    printed = await edge.call("static", CNI_COMMAND="DEL", CNI_NETNS=netns)

    assert (printed.exit, printed.stdout) == (0, b"")
    assert [request.namespace for request in edge.verbs.requests] == [None]


async def test_our_own_namespace_is_served_where_the_caller_insists(edge: Edge) -> None:
    printed = await edge.call("static", CNI_NETNS_OVERRIDE="1")

    assert printed.exit == 0
    assert edge.verbs.requests[0].namespace


# --- many at once, and callers that leave ------------------------------------------------------------------------------


async def test_attachments_are_served_side_by_side_and_one_attachment_in_turn(edge: Edge, pod: Namespace) -> None:
    async def breathe(_: CniRequest) -> None:
        await asyncio.sleep(0.02)

    edge.verbs.during = breathe
    containers = [f"c{number % 16}" for number in range(48)]

    printed = await asyncio.gather(*(edge.call("static", CNI_NETNS=pod.path, CNI_CONTAINERID=name) for name in containers))

    assert [each.exit for each in printed] == [0] * 48
    assert edge.verbs.most > 1
    assert not any(edge.turns.busy(request.attachment) for request in edge.verbs.requests)


async def abandoned(edge: Edge, pod: Namespace, end: signal.Signals, command: str = "ADD") -> asyncio.Event:
    """A call whose shim is ended while the operation runs. The operation goes on when the event is set."""
    begun, go_on = threading.Event(), asyncio.Event()

    async def wait(_: CniRequest) -> None:
        begun.set()
        await go_on.wait()

    edge.verbs.during = wait
    with start(build("static"), variables(edge.path, CNI_NETNS=pod.path, CNI_COMMAND=command)) as process:
        assert process.stdin
        process.stdin.write(CONFIG)
        process.stdin.close()
        await edge.settle(begun.is_set)
        process.send_signal(end)
        await asyncio.to_thread(process.wait, 10)
    return go_on


async def test_an_add_whose_caller_left_is_undone_without_a_namespace(edge: Edge, pod: Namespace) -> None:
    go_on = await abandoned(edge, pod, signal.SIGKILL)

    go_on.set()
    await edge.settle(lambda: "undo c1" in edge.verbs.done)

    assert edge.verbs.done == ["add c1", "undo c1"]
    assert edge.verbs.requests[1].namespace is None


async def test_an_add_that_waits_for_an_abandoned_one_comes_after_its_undoing(edge: Edge, pod: Namespace) -> None:
    go_on = await abandoned(edge, pod, signal.SIGKILL)
    second = asyncio.create_task(edge.call("static", CNI_NETNS=pod.path))

    await asyncio.sleep(0.05)
    go_on.set()

    assert (await second).exit == 0
    assert edge.verbs.done == ["add c1", "undo c1", "add c1"]


async def test_a_del_whose_caller_left_is_done_all_the_same(edge: Edge, pod: Namespace) -> None:
    go_on = await abandoned(edge, pod, signal.SIGKILL, "DEL")

    go_on.set()
    await edge.settle(lambda: bool(edge.verbs.done))

    assert edge.verbs.done == ["delete c1"]


async def test_what_a_caller_left_before_its_turn_is_not_begun(edge: Edge, pod: Namespace) -> None:
    """The DEL that gave up lies in the spool; begun late it would hit the ADD that followed."""
    async with edge.turns.of(("podnet", "c1", "eth0")):
        for command in ("ADD", "DEL"):
            with start(build("static"), variables(edge.path, CNI_NETNS=pod.path, CNI_COMMAND=command)) as process:
                assert process.stdin
                process.stdin.write(CONFIG)
                process.stdin.close()
                await asyncio.sleep(0.2)
                process.kill()

    printed = await edge.call("static", CNI_NETNS=pod.path)

    assert printed.exit == 0
    assert edge.verbs.done == ["add c1"]


def raw_call(path: Path, data: bytes) -> bytes:
    """Send bytes as no shim would, say that no more come, and read to the end."""
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(10)
        caller.connect(str(path))
        with suppress(ConnectionError, BrokenPipeError):
            caller.sendall(data)
            caller.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while chunk := caller.recv(65536):
                answer += chunk
    return answer


async def test_a_result_that_reached_the_socket_and_no_reader_is_undone(edge: Edge, pod: Namespace) -> None:
    descriptor = os.open(pod.path, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.connect(str(edge.path))
        frame = Frame("fabricmgr-cni", "ADD", "c1", pod.path, "eth0", "", "/opt", stdin=CONFIG)
        socket.send_fds(caller, [encode_frame(frame)], [descriptor])
        await edge.settle(lambda: bool(edge.verbs.done))
        await asyncio.sleep(0.05)
    os.close(descriptor)

    await edge.settle(lambda: "undo c1" in edge.verbs.done)

    assert edge.verbs.done == ["add c1", "undo c1"]


# --- the spool ---------------------------------------------------------------------------------------------------------


async def test_a_del_spooled_while_the_agent_was_away_comes_before_the_next_add(directory: Path, pod: Namespace) -> None:
    edge = Edge(directory)
    for container in ("c1", "other"):
        assert (await edge.call("static", CNI_COMMAND="DEL", CNI_CONTAINERID=container, CNI_NETNS=pod.path)).exit == 0
    await edge.server.start()

    printed = await edge.call("static", CNI_NETNS=pod.path)
    outcome = await edge.spool.once()
    await edge.server.stop()

    assert printed.exit == 0
    assert edge.verbs.done == ["delete c1", "add c1", "delete other"]
    assert outcome.sentence == "1 spooled DELs replayed"
    assert not list((directory / "spool").iterdir())


async def test_a_spooled_del_that_an_add_has_replayed_never_hits_that_add(edge: Edge, pod: Namespace) -> None:
    (edge.path.parent / "spool" / "c1.0").write_bytes(
        encode_frame(Frame("fabricmgr-cni", "DEL", "c1", "", "eth0", "", "/opt", stdin=CONFIG))
    )
    async with edge.turns.of(("podnet", "c1", "eth0")):
        adding = asyncio.create_task(edge.call("static", CNI_NETNS=pod.path))
        await asyncio.sleep(0.2)
        replaying = asyncio.create_task(edge.spool.once())  # it has read the file, and waits behind the ADD
        await asyncio.sleep(0.05)

    assert (await adding).exit == 0
    assert (await replaying).sentence == "nothing is spooled"
    assert edge.verbs.done == ["delete c1", "add c1"]


def test_an_agent_that_was_stopped_does_late_neither_the_add_nor_the_del_it_missed(directory: Path, pod: Namespace) -> None:
    """Stopped (SIGSTOP), both shims gave up; going on it finds their frames in its backlog, and the DEL in the spool as well."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    plugin = build("static", 50)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.edge", directory], stdout=subprocess.PIPE, env=environment, cwd=ROOT
    ) as agent:
        try:
            waited = call(build("static"), variables(directory / "agent.sock", CNI_COMMAND="STATUS"), CONFIG)
            agent.send_signal(signal.SIGSTOP)
            deleted = call(plugin, variables(directory / "agent.sock", CNI_COMMAND="DEL", CNI_NETNS=pod.path), CONFIG)
            added = call(plugin, variables(directory / "agent.sock", CNI_NETNS=pod.path), CONFIG)
            agent.send_signal(signal.SIGCONT)
            again = call(build("static"), variables(directory / "agent.sock", CNI_NETNS=pod.path, CNI_CONTAINERID="c2"), CONFIG)
            assert agent.stdout
            done = [agent.stdout.readline().decode().strip() for _ in range(3)]
        finally:
            agent.kill()

    assert (waited.exit, deleted.exit, again.exit) == (0, 0, 0)
    assert code(added) == 11
    assert sorted(done) == ["add c2", "delete c1", "status"]


async def test_gc_empties_the_spool_first(edge: Edge) -> None:
    (edge.path.parent / "spool" / "c9.0").write_bytes(
        encode_frame(Frame("fabricmgr-cni", "DEL", "c9", "", "eth0", "", "/opt", stdin=CONFIG))
    )

    printed = await edge.call("static", CONFIG[:-1] + b',"cni.dev/valid-attachments":[]}', CNI_COMMAND="GC")

    assert printed.exit == 0
    assert edge.verbs.done == ["delete c9", "gc"]


# --- who is served, and where --------------------------------------------------------------------------------------------


async def test_the_socket_is_roots_alone_by_mode_and_by_credentials(edge: Edge) -> None:
    assert edge.path.parent.stat().st_mode & 0o777 == 0o700
    assert edge.path.stat().st_mode & 0o777 == 0o600
    edge.path.parent.chmod(0o755)
    edge.path.chmod(0o666)

    printed = await asyncio.to_thread(call_as_nobody, edge.path)

    assert printed.returncode == 1
    assert json.loads(printed.stdout)["code"] == 11
    assert not edge.verbs.requests


def call_as_nobody(path: Path) -> subprocess.CompletedProcess[bytes]:
    plugin = build("static")
    plugin.parent.chmod(0o755)
    command = ["setpriv", "--reuid=65534", "--clear-groups", str(plugin)]
    return subprocess.run(command, env=variables(path, CNI_COMMAND="GC"), input=CONFIG, capture_output=True, check=False)


async def test_a_socket_left_behind_is_replaced_and_anything_else_is_not(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(directory / "agent.sock"))
    edge = Edge(directory)

    await edge.server.start()
    printed = await edge.call("static", CNI_COMMAND="DEL")
    await edge.server.stop()

    assert printed.exit == 0
    assert not edge.path.exists()
    edge.path.write_text("not a socket")
    with pytest.raises(OSError, match="in use"):
        await Edge(directory).server.start()


async def test_a_shared_directory_is_no_place_for_the_socket(directory: Path) -> None:
    directory.chmod(0o1777)

    with pytest.raises(SettingRefused):
        prepare_directory(directory)

    assert directory.stat().st_mode & 0o7777 == 0o1777


async def test_stopping_lets_running_calls_end(edge: Edge, pod: Namespace) -> None:
    async def breathe(_: CniRequest) -> None:
        await asyncio.sleep(0.2)

    edge.verbs.during = breathe
    running = asyncio.create_task(edge.call("static", CNI_NETNS=pod.path))
    await edge.settle(lambda: bool(edge.verbs.requests))

    await edge.server.stop()

    assert (await running).exit == 0
    assert edge.verbs.done == ["add c1"]


# --- what no shim sends --------------------------------------------------------------------------------------------------


def is_request(data: bytes) -> bool:
    """Whether bytes begin with a whole frame that asks for something."""
    try:
        length = frame_length(data)
        if len(data) < LENGTH_BYTES + length:
            return False
        parse_request(parse_frame(data[LENGTH_BYTES : LENGTH_BYTES + length]))
    except FabricError:
        return False
    return True


async def test_frames_broken_at_every_byte_leave_the_edge_serving(edge: Edge) -> None:
    whole = encode_frame(Frame("fabricmgr-cni", "STATUS", path="/opt", stdin=CONFIG))
    before = open_descriptors()
    broken = [whole[:end] for end in range(len(whole))]
    broken += [whole[:at] + bytes((whole[at] ^ 0x55,)) + whole[at + 1 :] for at in range(len(whole))]
    broken += [whole + whole, whole + b"x", b"\xff" * 64, b"", b"\0" * 4, b"GET / HTTP/1.1\r\n\r\n"]

    answers = [await asyncio.to_thread(raw_call, edge.path, data) for data in broken]

    told = [(data, parse_answer(answer)) for data, answer in zip(broken, answers, strict=True) if answer]
    # Some changes leave a request, such as one of another path: it is answered where that is quicker than the caller's leaving.
    refused = [answer for data, answer in told if not is_request(data)]
    assert len(refused) > 20
    assert {answer.exit for answer in refused} == {1}
    assert all(json.loads(answer.stdout)["msg"] for answer in refused)
    assert (await edge.call("static", CNI_COMMAND="STATUS")).exit == 0
    await edge.settle(lambda: open_descriptors() <= before)


async def test_descriptors_that_nobody_asked_for_are_closed(edge: Edge) -> None:
    before = open_descriptors()
    null = os.open("/dev/null", os.O_RDONLY)
    for data in (encode_frame(Frame("fabricmgr-cni", "STATUS", path="/opt", stdin=CONFIG)), b"\xff\xff\xff\xff", b"\5\0\0\0"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.connect(str(edge.path))
            socket.send_fds(caller, [data[:1]], [null] * 5)
            socket.send_fds(caller, [data[1:]], [null] * 5)
            await asyncio.sleep(0.05)
    os.close(null)

    await edge.settle(lambda: open_descriptors() <= before)


async def test_a_caller_that_sends_nothing_holds_up_nobody(edge: Edge) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(edge.path))

        printed = await edge.call("static", CNI_COMMAND="DEL")

    assert printed.exit == 0
    assert printed.seconds < 2
