"""The plugin's socket: one call from it, and the caller's hanging up. Nothing here knows CNI."""

import asyncio
import os
import socket
import struct
from dataclasses import dataclass, field

from fabricmgr.agent.frame import LENGTH_BYTES, frame_length
from fabricmgr.domain.errors import CniFrameRefused

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_CHUNK = 65536
_DESCRIPTOR = struct.Struct("i")
_ONE_DESCRIPTOR = socket.CMSG_LEN(_DESCRIPTOR.size)


@dataclass
class Call:
    """What one connection brought. body: the frame without its length; came: the bytes so far.

    The descriptor is closed once, by whoever is done with it first."""

    body: bytes = b""
    descriptors: list[int] = field(default_factory=list)
    came: bytearray = field(default_factory=bytearray)

    @property
    def descriptor(self) -> int | None:
        return self.descriptors[0] if self.descriptors else None

    def close(self) -> None:
        while self.descriptors:
            os.close(self.descriptors.pop())


def peer_uid(connection: socket.socket) -> int:
    """Who connected, as the kernel says (unix(7), SO_PEERCRED)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(raw)[1]
    return uid


async def receive(connection: socket.socket, call: Call) -> None:
    """Read one frame into `call`, and the descriptor that came with it. On failure too, what came is in `call` for its owner to close.

    Raises CniFrameRefused; ConnectionError or EOFError when the caller left."""
    while not receive_at_once(connection, call):
        await readable(connection)


def receive_at_once(connection: socket.socket, call: Call) -> bool:
    """Read what is there, and say whether the frame is whole: nearly always it is, and nothing has to wait. Raises what `receive` does.

    asyncio's own streams lose descriptors, so this reads by itself."""
    try:
        while not _is_whole(call.came):
            # One descriptor at a time: the kernel closes what more a message carries.
            data, rights, _, _ = connection.recvmsg(_CHUNK, _ONE_DESCRIPTOR, socket.MSG_CMSG_CLOEXEC)
            call.descriptors += (_DESCRIPTOR.unpack(raw)[0] for _, kind, raw in rights if kind == socket.SCM_RIGHTS)
            if not data:
                raise EOFError("the caller left in the middle of its frame")
            call.came += data
    except BlockingIOError:
        return False
    call.body = bytes(call.came[LENGTH_BYTES:])
    return True


def _is_whole(data: bytearray) -> bool:
    if len(data) < LENGTH_BYTES:
        return False
    whole = LENGTH_BYTES + frame_length(data)
    if len(data) > whole:
        raise CniFrameRefused("more than one frame came")
    return len(data) == whole


async def readable(connection: socket.socket) -> None:
    """Until there is something to read, the end included."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()

    def arrive() -> None:
        if not arrived.done():
            arrived.set_result(None)

    loop.add_reader(connection, arrive)
    try:
        await arrived
    finally:
        loop.remove_reader(connection)


def hung_up(connection: socket.socket) -> bool:
    """Whether the caller has closed its end. Never waits."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def ended_at_once(connection: socket.socket) -> bool | None:
    """What `read_to_the_end` says, where the caller has closed already; else None."""
    try:
        while connection.recv(_CHUNK):
            pass
    except BlockingIOError:
        return None
    except OSError:
        return False
    return True


async def read_to_the_end(connection: socket.socket) -> bool:
    """Wait until the caller closes. True when it had read all that was sent.

    Linux says so: a stream socket closed with unread data resets its peer (unix(7); net/unix/af_unix.c, unix_release_sock)."""
    try:
        while await asyncio.get_running_loop().sock_recv(connection, _CHUNK):
            pass
    except OSError:
        return False
    return True
