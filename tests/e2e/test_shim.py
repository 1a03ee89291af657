"""The two shims, as a runtime calls them: one frame, one answer, and what each operation may say without the agent."""

import json
import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from fabricmgr.agent.frame import LARGEST_FRAME, LARGEST_VARIABLE, Answer, Frame, encode_answer, encode_frame
from fabricmgr.agent.result import FALLBACK_VERSION, VERSIONS, encode_versions, quoted_version
from tests.support.shims import KINDS, Printed, agent, build, call, says, start, variables

CONFIG = b'{"cniVersion":"0.4.0","name":"podnet","type":"fabricmgr-cni"}'
SHORT = 50  # milliseconds that a second of the shim takes in tests of its limits
SLACK = 8.0  # seconds that a busy machine may add

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def path() -> Iterator[Path]:
    """Where the agent would listen: a short path, since a socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="fm-shim-") as directory:
        yield Path(directory) / "agent.sock"


def refused(printed: Printed) -> dict[str, object]:
    """The one error object on stdout."""
    assert printed.exit == 1, printed
    document = json.loads(printed.stdout)
    assert isinstance(document, dict)
    assert document.keys() == {"cniVersion", "code", "msg"}
    return document


def spooled(path: Path) -> list[Path]:
    return sorted((path.parent / "spool").iterdir())


# --- the frame -------------------------------------------------------------------------------------------------------


def test_a_call_reaches_the_agent_byte_for_byte_and_its_answer_is_printed(kind: str, path: Path) -> None:
    given = variables(path, CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=p", CNI_NETNS_OVERRIDE="true")
    expected = Frame(
        "fabricmgr-cni", "ADD", "c1", "/proc/self/ns/net", "eth0", "IgnoreUnknown=1;K8S_POD_NAME=p", "/opt/cni/bin", "true", stdin=CONFIG
    )

    with agent(path, says(b'{"ips":[]}\n')) as serving:
        printed = call(build(kind), given, CONFIG)

    assert (printed.exit, printed.stdout, printed.stderr) == (0, b'{"ips":[]}\n', b"")
    assert [heard.raw for heard in serving.heard] == [encode_frame(expected)]
    assert b"secret" not in serving.heard[0].raw


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_the_namespace_travels_as_one_descriptor(kind: str, path: Path, command: str) -> None:
    status = Path("/proc/self/ns/net").stat()

    with agent(path, says(b"")) as serving:
        printed = call(build(kind), variables(path, CNI_COMMAND=command), CONFIG)

    assert printed.exit == 0
    assert serving.heard[0].descriptors == [(status.st_dev, status.st_ino)]


@pytest.mark.parametrize(("command", "netns"), [("ADD", "/nonexistent/ns"), ("DEL", ""), ("GC", "/proc/self/ns/net"), ("STATUS", "/proc")])
def test_no_descriptor_travels_where_there_is_none_or_none_is_needed(kind: str, path: Path, command: str, netns: str) -> None:
    with agent(path, says(b"")) as serving:
        printed = call(build(kind), variables(path, CNI_COMMAND=command, CNI_NETNS=netns), CONFIG)

    assert printed.exit == 0
    assert serving.heard[0].frame.netns == netns
    assert serving.heard[0].descriptors == []


def test_a_pipe_as_namespace_does_not_hold_up_the_call(kind: str, path: Path) -> None:
    pipe = path.parent / "pipe"
    os.mkfifo(pipe)

    with agent(path, says(b"")) as serving:
        printed = call(build(kind), variables(path, CNI_NETNS=str(pipe)), CONFIG)

    assert printed.exit == 0
    assert len(serving.heard) == 1


@pytest.mark.parametrize(
    "stdin", [b"", bytes(range(256)) * 40, b"\0" * 999, b"{" * (LARGEST_FRAME - 1000)], ids=["none", "any", "nul", "big"]
)
def test_stdin_passes_unchanged_whatever_it_holds(kind: str, path: Path, stdin: bytes) -> None:
    with agent(path, says(b"")) as serving:
        printed = call(build(kind), variables(path), stdin)

    assert printed.exit == 0
    assert serving.heard[0].frame.stdin == stdin


def test_variables_that_are_no_text_pass_unchanged(kind: str, path: Path) -> None:
    with agent(path, says(b"")) as serving:
        call(build(kind), variables(path, CNI_ARGS=b"A=\xff\xfe", CNI_NETNS=b"/tmp/\x80"), CONFIG)

    assert os.fsencode(serving.heard[0].frame.args) == b"A=\xff\xfe"
    assert os.fsencode(serving.heard[0].frame.netns) == b"/tmp/\x80"


def test_the_largest_frame_passes_and_one_byte_more_is_refused(kind: str, path: Path) -> None:
    empty = len(encode_frame(Frame("fabricmgr-cni", "ADD", "c1", "/proc/self/ns/net", "eth0", "", "/opt/cni/bin"))) - 4
    room = LARGEST_FRAME - empty

    with agent(path, says(b"")) as serving:
        fits = call(build(kind), variables(path), b" " * room)
        larger = call(build(kind), variables(path), b" " * (room + 1))

    assert fits.exit == 0
    assert refused(larger)["code"] == 5
    assert [len(heard.frame.stdin) for heard in serving.heard] == [room]


def test_the_largest_variable_passes_and_one_byte_more_is_refused(kind: str, path: Path) -> None:
    with agent(path, says(b"")) as serving:
        fits = call(build(kind), variables(path, CNI_ARGS="x" * LARGEST_VARIABLE), CONFIG)
        larger = call(build(kind), variables(path, CNI_ARGS="x" * (LARGEST_VARIABLE + 1)), CONFIG)

    assert fits.exit == 0
    assert refused(larger)["code"] == 4
    assert len(serving.heard) == 1


@pytest.mark.parametrize("size", [0, 1, 4096, LARGEST_FRAME])
@pytest.mark.parametrize("status", [0, 1])
def test_an_answer_is_printed_whole_with_its_exit_status(kind: str, path: Path, size: int, status: int) -> None:
    stdout = bytes(random.Random(size).randbytes(size))

    with agent(path, says(stdout, status)):
        printed = call(build(kind), variables(path), CONFIG)

    assert (printed.exit, printed.stdout) == (status, stdout)


# --- without the agent: what the shim decides itself -------------------------------------------------------------------


def test_version_is_answered_with_dummies_and_without_reading_stdin(kind: str, path: Path) -> None:
    given = variables(path, CNI_COMMAND="VERSION", CNI_PATH="dummy", CNI_NETNS="dummy", CNI_IFNAME="dummy")
    reader, writer = os.pipe()

    with start(build(kind), given, stdin=reader) as process:  # nothing ever comes, and no end
        out, err = process.communicate(timeout=30)
    os.close(reader)
    os.close(writer)

    assert (process.returncode, err) == (0, b"")
    assert out == encode_versions()


def test_without_a_command_it_says_in_one_line_what_it_is(kind: str, path: Path) -> None:
    printed = call(build(kind), variables(path, CNI_COMMAND=""))

    assert (printed.exit, printed.stdout) == (0, b"")
    assert printed.stderr.count(b"\n") == 1
    assert b"fabricmgr" in printed.stderr


@pytest.mark.parametrize("command", ["add", "ADDITION", "UPDATE", "\\", '"'])
def test_an_unknown_command_is_refused_without_asking_anybody(kind: str, path: Path, command: str) -> None:
    printed = call(build(kind), variables(path, CNI_COMMAND=command), CONFIG)

    assert refused(printed)["code"] == 4
    assert refused(printed)["cniVersion"] == "0.4.0"


def test_stdin_that_cannot_be_read_is_told(kind: str, path: Path) -> None:
    for_writing = os.open("/dev/null", os.O_WRONLY)

    with start(build(kind), variables(path), stdin=for_writing) as process:
        out, err = process.communicate(timeout=30)
    os.close(for_writing)

    assert refused(Printed(process.returncode, out, err, 0))["code"] == 5


def test_output_that_nobody_reads_ends_in_failure_and_not_in_a_signal(kind: str, path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    process = subprocess.Popen([build(kind)], env=variables(path), stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)

    assert process.wait(timeout=30) == 1


@pytest.mark.parametrize(
    "stdin",
    [
        *(b'{"cniVersion":"%b","name":"n"}' % version.encode() for version in VERSIONS),
        b'{ "name": "n",\n\t"cniVersion" :\r\n "0.3.1" }',
        b'{"cniVersion":"0.2.0"}',
        b'{"cniVersion":"9.9.9"}',
        b'{"cniVersion":"1.1.0',
        b'{"cniVersion"',
        b'{"cniVersion":',
        b'{"cniVersion": 1}',
        b"{}",
        b"\xff\x00garbage",
        b"",
    ],
)
def test_its_own_errors_quote_the_callers_version_where_it_is_served(kind: str, path: Path, stdin: bytes) -> None:
    printed = call(build(kind), variables(path), stdin)

    assert refused(printed)["cniVersion"] == quoted_version(stdin)
    assert quoted_version(b"{}") == FALLBACK_VERSION


# --- the agent is away ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ADD", "CHECK", "GC"])
def test_without_an_agent_it_says_try_again_at_once(kind: str, path: Path, command: str) -> None:
    printed = call(build(kind), variables(path, CNI_COMMAND=command), CONFIG)

    assert refused(printed)["code"] == 11
    assert "running" in str(refused(printed)["msg"])
    assert printed.seconds < 1 + SLACK
    assert not (path.parent / "spool").exists()


def test_a_del_without_an_agent_succeeds_and_lies_in_the_spool(kind: str, path: Path) -> None:
    given = variables(path, CNI_COMMAND="DEL", CNI_NETNS="")
    frame = Frame("fabricmgr-cni", "DEL", "c1", "", "eth0", "", "/opt/cni/bin", stdin=CONFIG)

    printed = [call(build(kind), given, CONFIG) for _ in range(2)]

    assert [(each.exit, each.stdout, each.stderr) for each in printed] == [(0, b"", b"")] * 2
    first, second = spooled(path)
    assert first.name != second.name
    assert all(each.name.startswith("c1.") for each in (first, second))
    assert first.read_bytes() == second.read_bytes() == encode_frame(frame)
    assert first.stat().st_mode & 0o777 == 0o600
    assert (path.parent / "spool").stat().st_mode & 0o777 == 0o700


def test_a_del_before_the_agent_ever_ran_makes_its_directory(kind: str, path: Path) -> None:
    absent = path.parent / "run" / "agent.sock"

    printed = call(build(kind), variables(absent, CNI_COMMAND="DEL"), CONFIG)

    assert printed.exit == 0
    assert len(spooled(absent)) == 1
    assert absent.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("container", ["../../etc/passwd", ".hidden", "..", "a/b", "x" * 300, "-", "ä", "a b\nc"])
def test_a_container_id_never_leads_out_of_the_spool(kind: str, path: Path, container: str) -> None:
    printed = call(build(kind), variables(path, CNI_COMMAND="DEL", CNI_CONTAINERID=container), CONFIG)

    assert (printed.exit, printed.stderr) == (0, b"")
    assert [each.name for each in path.parent.iterdir()] == ["spool"]
    (file,) = spooled(path)
    assert not file.name.startswith(".")
    assert container.encode() in file.read_bytes()


def unspoolable(printed: Printed) -> bool:
    return (printed.exit, printed.stdout, printed.stderr.count(b"\n")) == (0, b"", 1) and b"cannot be spooled" in printed.stderr


def test_a_del_that_cannot_be_spooled_succeeds_and_says_so(kind: str, path: Path) -> None:
    (path.parent / "spool").write_text("no directory")

    printed = call(build(kind), variables(path, CNI_COMMAND="DEL"), CONFIG)

    assert unspoolable(printed)


@pytest.fixture
def full(path: Path) -> Iterator[Path]:
    """A spool on a file system without room."""
    spool = path.parent / "spool"
    spool.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", spool], check=True)
    try:
        (spool / "filler").write_bytes(b"x" * 8192)
        yield spool
    finally:
        subprocess.run(["umount", spool], check=True)


def test_a_del_meeting_a_full_spool_succeeds_and_says_so(kind: str, path: Path, full: Path) -> None:
    printed = call(build(kind), variables(path, CNI_COMMAND="DEL"), CONFIG)

    assert unspoolable(printed)
    assert not [each for each in full.iterdir() if each.name.startswith("c1.")]


def test_status_waits_for_an_agent_that_starts_again(kind: str, path: Path) -> None:
    with start(build(kind, 400), variables(path, CNI_COMMAND="STATUS")) as process:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
        time.sleep(0.5)  # the time without an agent is the case itself
        with agent(path, says(b"")):
            out, _ = process.communicate(timeout=30)

    assert (process.returncode, out) == (0, b"")


def test_status_gives_up_after_ten_seconds(kind: str, path: Path) -> None:
    printed = call(build(kind, SHORT), variables(path, CNI_COMMAND="STATUS"), CONFIG)

    assert refused(printed)["code"] == 50
    assert 10 * SHORT / 1000 <= printed.seconds < 10 * SHORT / 1000 + SLACK


def test_a_socket_path_that_is_too_long_is_an_agent_away(kind: str, path: Path) -> None:
    printed = call(build(kind), variables(path.parent / ("x" * 120) / "agent.sock"), CONFIG)

    assert refused(printed)["code"] == 11


def test_a_full_backlog_is_an_agent_away_after_a_second(kind: str, path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
            first.connect(str(path))

            printed = call(build(kind, 300), variables(path), CONFIG)

    assert refused(printed)["code"] == 11
    assert "running" in str(refused(printed)["msg"])
    assert 0.3 <= printed.seconds < 0.3 + SLACK


# --- the agent is late -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "seconds", "code"), [("ADD", 15, 11), ("CHECK", 10, 11), ("GC", 60, 11), ("STATUS", 10, 50)])
def test_an_agent_that_never_answers_is_left_in_time(kind: str, path: Path, command: str, seconds: int, code: int) -> None:
    with agent(path, lambda _: None) as serving:
        printed = call(build(kind, SHORT), variables(path, CNI_COMMAND=command), CONFIG)

    assert refused(printed)["code"] == code
    assert "in time" in str(refused(printed)["msg"])
    assert seconds * SHORT / 1000 - 0.02 <= printed.seconds < seconds * SHORT / 1000 + SLACK
    assert (len(serving.heard) > 1) == (command == "STATUS")
    assert not (path.parent / "spool").exists()


def test_a_del_that_is_not_answered_is_spooled_after_five_real_seconds(kind: str, path: Path) -> None:
    with agent(path, lambda _: None) as serving:
        printed = call(build(kind), variables(path, CNI_COMMAND="DEL"), CONFIG)

    assert (printed.exit, printed.stdout) == (0, b"")
    assert 4.98 <= printed.seconds < 5 + SLACK
    assert [file.read_bytes() for file in spooled(path)] == [serving.heard[0].raw]


def test_an_agent_that_never_reads_is_left_in_time(kind: str, path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)

        printed = call(build(kind, SHORT), variables(path), b" " * (LARGEST_FRAME - 1000))

    assert refused(printed)["code"] == 11
    assert 15 * SHORT / 1000 - 0.02 <= printed.seconds < 15 * SHORT / 1000 + SLACK


# --- the agent answers rubbish -----------------------------------------------------------------------------------------------


def rubbish() -> Iterator[bytes]:
    """Answers that are none, each followed by the end of the stream: cut, of another length, of another status, and random ones."""
    whole = encode_answer(Answer(0, b'{"ips":[]}'))
    yield from (whole[:end] for end in range(len(whole)))
    yield from (whole[:4] + bytes((status,)) + whole[5:] for status in (2, 127, 128, 255))
    yield from (length.to_bytes(4, "little") + b"\0x" for length in (0, 3, LARGEST_FRAME + 2, 2**31 - 1, 2**31, 2**32 - 1))
    chance = random.Random(7)
    yield from (b"\xff" + chance.randbytes(chance.randrange(1, 400)) for _ in range(20))


def test_an_answer_that_is_none_counts_as_no_answer(kind: str, path: Path) -> None:
    answers = list(rubbish())
    left = iter(answers)

    with agent(path, lambda _: next(left)) as serving:
        printed = [call(build(kind), variables(path), CONFIG) for _ in answers]

    assert len(serving.heard) == len(answers) > 30
    for answer, each in zip(answers, printed, strict=True):
        assert refused(each)["code"] == 11, answer
        assert each.stderr == b"", answer


def test_a_del_answered_with_rubbish_is_spooled_each_time(kind: str, path: Path) -> None:
    answers = list(rubbish())[:20]
    left = iter(answers)

    with agent(path, lambda _: next(left)):
        printed = [call(build(kind), variables(path, CNI_COMMAND="DEL"), CONFIG) for _ in answers]

    assert [(each.exit, each.stdout) for each in printed] == [(0, b"")] * len(answers)
    assert len(spooled(path)) == len(answers)


def test_an_answer_in_single_bytes_is_put_together(kind: str, path: Path) -> None:
    whole = encode_answer(Answer(0, b'{"ips":[]}'))

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        with start(build(kind), variables(path), stdin=subprocess.DEVNULL) as process:
            connection, _ = listener.accept()
            for byte in chain(whole):
                connection.send(bytes((byte,)))
            out, _ = process.communicate(timeout=30)
            connection.close()

    assert (process.returncode, out) == (0, b'{"ips":[]}')


def test_it_leaves_with_its_twins_words(kind: str, path: Path) -> None:
    other = KINDS[1 - KINDS.index(kind)]
    cases = [variables(path, CNI_COMMAND=command) for command in ("", "VERSION", "ADD", "DEL", "CHECK", "GC", "UPDATE")]

    mine, theirs = ([call(build(each), case, CONFIG) for case in cases] for each in (kind, other))

    assert [(each.exit, each.stdout, each.stderr) for each in mine] == [(each.exit, each.stdout, each.stderr) for each in theirs]
