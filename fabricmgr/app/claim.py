"""What only one manager may have on a machine: its data directory and its listening sockets."""

import contextlib
import fcntl
import os
import resource
import socket
from pathlib import Path

from fabricmgr.app.refusal import Refusal
from fabricmgr.settings import Listen

LOCK = "manager.lock"
BACKLOG = 4096


def raise_descriptor_limit() -> None:
    """As many open connections as we may have: the usual 1,024 are fewer than the long polls of a large site."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def claim_data_dir(data_dir: Path) -> int:
    """Make the directory if need be and lock it for as long as the descriptor given back is open. Raises Refusal, with who has it."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refusal(f"data directory {data_dir}: {error.strerror}", 2) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise Refusal(f"data directory {data_dir} is in use by the manager with process id {holder or 'unknown'}", 4) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def release(descriptor: int) -> None:
    """Let another manager work here."""
    os.close(descriptor)


def is_claimed(data_dir: Path) -> bool:
    """Whether a manager runs on this data directory."""
    with contextlib.suppress(OSError):
        descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def bind(listen: Listen, name: str) -> socket.socket:
    """A listening socket, made once: workers inherit it, and a restart of one loses no connection. Raises Refusal."""
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if listen.host == "::" else 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        raise Refusal(f"{name} {listen}: {error.strerror or error}", 2) from None
    made.setblocking(False)
    return made


def address_of(bound: socket.socket) -> Listen:
    """Where it listens in truth: port 0 has become one."""
    host, port = bound.getsockname()[:2]
    return Listen(str(host), int(port))
