"""One CNI call as the shim sends it, and the answer it prints: bytes to values and back. Pure.

Frame: u32 length, little-endian, then NUL-separated: frame version, the plugin's file name, CNI_COMMAND, CNI_CONTAINERID, CNI_NETNS,
CNI_IFNAME, CNI_ARGS, CNI_PATH, CNI_NETNS_OVERRIDE, and stdin to the end, which may hold anything.
Answer: u32 length, one byte exit status, the bytes for stdout. The length counts what comes after it, in both.
"""

import msgspec

from fabricmgr.domain.errors import CniFrameRefused

FRAME_VERSION = b"1"
LENGTH_BYTES = 4
LARGEST_VARIABLE = 64 * 1024
LARGEST_FRAME = 1024 * 1024
_FIELDS = 8


class Frame(msgspec.Struct, frozen=True):
    """A call as it came: nothing is checked but its outline. Bytes that are no UTF-8 stand as surrogates, as in file names."""

    plugin: str
    command: str
    container: str = ""
    netns: str = ""
    ifname: str = ""
    args: str = ""
    path: str = ""
    netns_override: str = ""
    stdin: bytes = b""


class Answer(msgspec.Struct, frozen=True):
    """exit: 0 or 1, the plugin's exit status. stdout: one JSON document, or nothing."""

    exit: int
    stdout: bytes = b""


def frame_length(head: bytes | bytearray) -> int:
    """Bytes that follow the first four. Raises CniFrameRefused when that is more than a frame may have."""
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if length > LARGEST_FRAME:
        raise CniFrameRefused(f"a frame of {length} bytes is announced, {LARGEST_FRAME} is the most")
    return length


def parse_frame(body: bytes) -> Frame:
    """Read a frame without its length. Raises CniFrameRefused."""
    version, separator, rest = body.partition(b"\0")
    if version != FRAME_VERSION:
        raise CniFrameRefused(f"the plugin speaks frame version {version[:16].decode(errors='replace')!r}, this agent 1")
    parts = rest.split(b"\0", _FIELDS)
    if not separator or len(parts) != _FIELDS + 1:
        raise CniFrameRefused("it ends before its last field")
    if len(body) > LARGEST_VARIABLE and any(len(part) > LARGEST_VARIABLE for part in parts[:_FIELDS]):
        raise CniFrameRefused(f"a variable is larger than {LARGEST_VARIABLE} bytes")
    plugin, command, container, netns, ifname, args, path, override = (part.decode(errors="surrogateescape") for part in parts[:_FIELDS])
    return Frame(plugin, command, container, netns, ifname, args, path, override, parts[_FIELDS])


def encode_frame(frame: Frame) -> bytes:
    """The bytes the shim sends for a call, its length first."""
    texts = (
        frame.plugin,
        frame.command,
        frame.container,
        frame.netns,
        frame.ifname,
        frame.args,
        frame.path,
        frame.netns_override,
    )
    body = b"\0".join((FRAME_VERSION, *(text.encode(errors="surrogateescape") for text in texts), frame.stdin))
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


def encode_answer(answer: Answer) -> bytes:
    """The bytes of an answer, its length first."""
    return (len(answer.stdout) + 1).to_bytes(LENGTH_BYTES, "little") + bytes((answer.exit,)) + answer.stdout


def parse_answer(data: bytes) -> Answer:
    """Read one whole answer. Raises CniFrameRefused when it is none."""
    body = data[LENGTH_BYTES:]
    if len(data) <= LENGTH_BYTES or len(body) != int.from_bytes(data[:LENGTH_BYTES], "little") or body[0] > 1:
        raise CniFrameRefused("the agent's answer is not whole")
    return Answer(body[0], body[1:])
