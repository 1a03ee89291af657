#!/usr/bin/python3 -IS
"""fabricmgr-cni: hands one CNI call to this node's agent and prints its answer. Built-ins alone: a file to import doubles its time."""

import _socket
import posix
import sys

SECOND = 1.0
LARGEST_VARIABLE, LARGEST_FRAME = 64 * 1024, 1024 * 1024
VERSIONS = (b"0.3.0", b"0.3.1", b"0.4.0", b"1.0.0", b"1.1.0")
SECONDS = {b"ADD": 15, b"DEL": 5, b"CHECK": 10, b"GC": 60, b"STATUS": 2}
NAMES = (b"COMMAND", b"CONTAINERID", b"NETNS", b"IFNAME", b"ARGS", b"PATH", b"NETNS_OVERRIDE")
clock = posix.times  # its `elapsed` never goes back
AWAY, LATE = b"nobody listens on its socket; is it running?", b"no whole answer came in time"


def write_all(fd: int, data: bytes) -> int:
    while data:
        data = data[posix.write(fd, data) :]
    return 0


def fail(code: int, text: bytes, stdin: bytes) -> int:
    """Print an error object. The caller's version is found by a scan: a JSON decoder would cost more than the whole call."""
    rest = stdin.partition(b'"cniVersion"')[2].lstrip(b" \t\r\n")
    quoted = rest[1:].lstrip(b" \t\r\n") if rest[:1] == b":" else b""
    version = next((each for each in VERSIONS if quoted.startswith(b'"%b"' % each)), b"1.0.0")
    return write_all(1, b'{"cniVersion":"%b","code":%d,"msg":"%b"}\n' % (version, code, text)) or 1


def ask(path: bytes, frame: bytes, netns: int, seconds: int) -> tuple[bytes, bytes]:
    """The answer after its length, or nothing, and why. The namespace's descriptor goes with the first byte."""
    end, why, word = clock().elapsed + seconds * SECOND, AWAY, (sys.maxsize.bit_length() + 1) // 8
    limit = b"".join(part.to_bytes(word, sys.byteorder) for part in divmod(int(SECOND * 1000000), 1000000))
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, netns.to_bytes(4, sys.byteorder))] if netns >= 0 else []
    try:
        agent, answer, size = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM), b"", 4
        agent.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, limit)  # bounds connect too, when the backlog is full
        agent.connect(path)
        why = LATE
        agent.settimeout(max(0.001, end - clock().elapsed))
        rest = frame[agent.sendmsg([frame], rights) :]
        while rest:  # sending nothing fails where the agent has answered and closed
            rest = rest[agent.send(rest) :]
        while len(answer) < size:
            agent.settimeout(max(0.001, end - clock().elapsed))
            chunk = agent.recv(size - len(answer))
            answer += chunk
            size += int.from_bytes(answer, "little") if len(answer) == 4 else 0
            if not chunk or size > LARGEST_FRAME + 5:
                return b"", why
        return (answer[4:] if answer[4:5] <= b"\1" else b""), why
    except OSError:
        return b"", why


def spool(directory: bytes, container: bytes, frame: bytes) -> int:
    """Keep a DEL for the agent. It succeeds whatever happens here: a DEL that fails keeps a pod from ever going away."""
    safe = bytes(each if (b"%c" % each).isalnum() or each in b"_-." else 95 for each in container[:200])
    name = safe + b"." + posix.urandom(8).hex().encode()
    name, aside = directory + (b"/_" if name[:1] == b"." else b"/") + name, directory + b"/." + name
    for path in (directory.rpartition(b"/")[0], directory):
        try:
            posix.mkdir(path, 0o700)
        except OSError:
            pass
    try:
        write_all(posix.open(aside, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, 0o600), frame)
        posix.rename(aside, name)
    except OSError:
        write_all(2, b"fabricmgr-cni: the agent is away and this DEL cannot be spooled; the agent will find what is left\n")
    return 0


def call(env: dict[bytes, bytes], fields: list[bytes], stdin: bytes) -> int:
    """Ask the agent; when it is away or late, do what the operation allows."""
    body, path, netns = b"\0".join([*fields, stdin]), env.get(b"FABRICMGR_SOCKET") or b"/run/fabricmgr/agent.sock", -1
    frame, command, idle = len(body).to_bytes(4, "little") + body, fields[2], _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    if len(body) > LARGEST_FRAME:
        return fail(5, b"the network configuration on stdin is larger than 1 MiB", stdin)
    try:
        if fields[4] and command in (b"ADD", b"DEL", b"CHECK"):
            netns = posix.open(fields[4], posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY)
    except OSError:
        pass  # the agent sees that no descriptor came
    idle.settimeout(SECOND / 5)
    end, (answer, why) = clock().elapsed + 10 * SECOND, ask(path, frame, netns, SECONDS[command])
    while command == b"STATUS" and not answer and clock().elapsed < end:
        try:
            idle.recv(1)
        except OSError:
            answer, why = ask(path, frame, netns, SECONDS[command])
    if answer:
        return write_all(1, answer[1:]) or answer[0]
    if command == b"DEL":
        return spool(path[: path.rfind(b"/") + 1] + b"spool", fields[3], frame)
    return fail(50 if command == b"STATUS" else 11, b"the fabricmgr agent on this node does not answer: " + why, stdin)


def main(env: dict[bytes, bytes], plugin: bytes, stdin: bytes = b"") -> int:
    fields = [b"1", plugin, *(env.get(b"CNI_" + name, b"") for name in NAMES)]
    if not fields[2]:
        return write_all(2, b"fabricmgr-cni: the CNI plugin of fabricmgr, for CNI 0.3.0 to 1.1.0; container runtimes call it\n")
    if fields[2] == b"VERSION":
        return write_all(1, b'{"cniVersion":"1.1.0","supportedVersions":["%b"]}\n' % b'","'.join(VERSIONS))
    try:
        while len(stdin) <= LARGEST_FRAME and (chunk := posix.read(0, 65536)):
            stdin += chunk
    except OSError:
        return fail(5, b"the network configuration on stdin cannot be read", stdin)
    if fields[2] not in SECONDS:
        return fail(4, b"CNI_COMMAND is unknown: expected one of ADD, DEL, CHECK, GC, STATUS, VERSION", stdin)
    if max(map(len, fields)) > LARGEST_VARIABLE:
        return fail(4, b"a CNI_ variable is larger than 64 KiB", stdin)
    return call(env, fields, stdin)


if __name__ == "__main__":  # ending so skips the interpreter's finalisation
    posix._exit(main(posix.environ, sys.argv[0].rpartition("/")[2].encode("utf-8", "surrogateescape")))
