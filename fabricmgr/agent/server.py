"""The agent's edge to container runtimes: the plugin's calls come in, typed requests go down, answers go back.

One listener in plain asyncio; a call costs 0.2 ms here. Root alone is served. Operations on one attachment take turns. An ADD whose
caller did not read its result is undone, and what a caller left before its turn came is not begun: a DEL that timed out lies in the spool,
and begun late it could hit the attachment's next life."""

import asyncio
import logging
import os
import socket
import stat
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from msgspec import structs
from prometheus_client import Counter, Histogram

from fabricmgr.agent.frame import Answer, Frame, encode_answer, parse_frame
from fabricmgr.agent.receive import Call, ended_at_once, hung_up, peer_uid, read_to_the_end, receive, receive_at_once
from fabricmgr.agent.request import CniRequest, Command, Namespace, command_of, parse_request
from fabricmgr.agent.result import encode_bug, encode_refusal, encode_result, encode_versions, quoted_version
from fabricmgr.agent.spool import Spool
from fabricmgr.agent.verbs import Turns, Verbs
from fabricmgr.domain.errors import FabricError, NamespaceMissing, NamespaceRefused, SettingRefused
from fabricmgr.metrics import CNI_CALLS, CNI_SECONDS
from fabricmgr.netlink import namespace
from fabricmgr.problems import BUG, problem_of, sentence

log = logging.getLogger(__name__)

BACKLOG = 1024
# Connections taken in one turn of the loop.
BUNCH = 16
# Seconds a caller has for its frame, to take its answer, and to close after it. A shim needs a millisecond for each.
FRAME_LIMIT = 5.0
ANSWER_LIMIT = 5.0
CLOSE_LIMIT = 1.0
# Seconds that running calls have when the agent stops.
DRAIN_LIMIT = 5.0
# Seconds without accepting when there are no descriptors.
ACCEPT_PAUSE = 0.1


class CallerLeft(Exception):
    """Nobody waits for this call any more."""


class Server:
    """Listens on a socket of its own directory. `start` after the spool was emptied and everything can serve; `stop` ends it."""

    def __init__(self, verbs: Verbs, path: Path, spool: Spool, turns: Turns):
        self._verbs = verbs
        self._path = path
        self._spool = spool
        self._turns = turns
        self._listener: socket.socket | None = None
        self._calls: set[asyncio.Task[None]] = set()
        # The namespace that this thread is in whenever it does not work in a pod's.
        self._own = namespace.own()

    async def start(self) -> None:
        """Bind and serve. Raises SettingRefused where the socket cannot lie, OSError when it cannot be bound."""
        prepare_directory(self._path.parent)
        self._spool.prepare()
        _unlink_socket(self._path)
        self._listener = _listen(self._path)
        self._watch()

    async def stop(self) -> None:
        """Take no more calls, let those that run end, then cut off what is left."""
        if self._listener is None:
            return
        _unlink_socket(self._path)
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=DRAIN_LIMIT)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def lull(self, limit: float) -> None:
        """Until the calls that run now have ended, at most so many seconds: for what may wait and would take their time."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=limit)

    def _watch(self) -> None:
        """Accept whoever comes. Watched once, not awaited for each caller: that would be three turns of the loop a call."""
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        """Those who have connected first: where more have, the loop is back here when these have had their turn."""
        try:
            # Whoever comes alone does not wait until it is found that nobody else has come.
            for _ in range(BUNCH if self._calls else 1):
                self._take(listener.accept()[0])
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors: those in use come back as calls end
            log.error("cannot accept a CNI call", extra={"reason": str(error)})
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(ACCEPT_PAUSE, self._watch)

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        task = asyncio.create_task(self._guarded(connection), name="cni call")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _guarded(self, connection: socket.socket) -> None:
        """One connection, from first byte to close. Whatever happens in it ends with it."""
        call = Call()
        try:
            if (uid := peer_uid(connection)) != 0:
                log.warning("CNI call refused", extra={"reason": f"it came from uid {uid}, and root alone is served"})
                return
            await self._answer(connection, call)
        except CallerLeft as error:
            log.info("CNI caller left", extra={"reason": str(error)})
        except Exception:  # the edge: the next call must be served whatever this one met
            log.exception("CNI call failed")
        finally:
            call.close()
            connection.close()

    async def _answer(self, connection: socket.socket, call: Call) -> None:
        try:
            await _receive(connection, call)
            frame = parse_frame(call.body)
        except FabricError as error:
            _calls("none", problem_of(error).cni).inc()
            log.info("CNI call refused", extra={"reason": sentence(error)})
            await _send(connection, Answer(1, encode_refusal(error, quoted_version(call.body))))
            return
        await self._run(connection, call, frame)

    async def _run(self, connection: socket.socket, call: Call, frame: Frame) -> None:
        """Parse and do one call. Errors are told to the caller in the version it speaks."""
        started, about = time.monotonic(), ""
        label = frame.command if frame.command in Command.__members__ else "none"
        code = 0
        try:
            if command_of(frame) is Command.VERSION:
                await _send(connection, Answer(0, encode_versions()))
                return
            request = parse_request(frame)
            about = _about(request)
            await self._do(connection, call, with_namespace(request, call.descriptor, self._own))
        except FabricError as error:
            code = problem_of(error).cni
            log.info("CNI call refused", extra={"command": label, "about": about, "code": code, "reason": sentence(error)})
            call.close()
            await _send(connection, Answer(1, encode_refusal(error, quoted_version(frame.stdin), about)))
        except CallerLeft:
            code = -1
            raise
        except Exception:  # the edge: a runtime gets an error object whatever happens, and the log the rest
            code = BUG.cni
            log.exception("CNI call failed", extra={"command": label, "about": about})
            call.close()
            await _send(connection, Answer(1, encode_bug(quoted_version(frame.stdin), about)))
        finally:
            _calls(label, "left" if code < 0 else code).inc()
            _seconds(label).observe(time.monotonic() - started)

    async def _do(self, connection: socket.socket, call: Call, request: CniRequest) -> None:
        if request.ignored:
            log.info("asked for twice", extra={"about": _about(request), "ignored": "; ".join(request.ignored)})
        async with self._turns.of(request.attachment if request.container else (request.command, request.network)):
            if hung_up(connection):
                raise CallerLeft(f"{request.command.value} was not begun: its caller had left before its turn came")
            if request.command is Command.ADD:
                await self._add(connection, call, request)
                return
            await self._other(request)
        call.close()
        await _send(connection, Answer(0))

    async def _add(self, connection: socket.socket, call: Call, request: CniRequest) -> None:
        """The turn is held until the caller has its result, so that nothing comes between an ADD and its undoing."""
        await self._spool.before_add(request)
        result = await self._verbs.add(request)
        call.close()
        if await _delivered(connection, Answer(0, encode_result(result, request.config.version, request.config.dns))):
            log.info("attached", extra={"container": request.container, "addresses": [str(ip.address) for ip in result.ips]})
            return
        connection.close()  # a caller that only slept must find no result of what is undone
        log.warning("ADD undone", extra={"about": _about(request), "reason": "its caller left without the result"})
        await self._verbs.undo(structs.replace(request, namespace=None))

    async def _other(self, request: CniRequest) -> None:
        if request.command is Command.DEL:
            await self._verbs.delete(request)
        elif request.command is Command.CHECK:
            await self._verbs.check(request)
        elif request.command is Command.GC:
            await self._spool.once()
            await self._verbs.gc(request)
        else:
            await self._verbs.status(request)


@cache
def _calls(command: str, code: int | str) -> Counter:
    """The counter of these labels. Looking it up takes longer than counting."""
    return CNI_CALLS.labels(command, code)


@cache
def _seconds(command: str) -> Histogram:
    return CNI_SECONDS.labels(command)


def with_namespace(request: CniRequest, descriptor: int | None, own: namespace.Identity) -> CniRequest:
    """Judge the descriptor that came with the call (CNI SPEC 1.1.0, section 2: ADD fails in our own namespace, DEL leaves it alone).

    own: what our namespace is.
    Raises NamespaceMissing (3) and NamespaceRefused (8) at ADD and CHECK; at DEL such a namespace is simply not there."""
    if request.command not in (Command.ADD, Command.CHECK, Command.DEL):
        return request
    try:
        found = _judge(request, descriptor, own)
    except (NamespaceMissing, NamespaceRefused):
        if request.command is not Command.DEL:
            raise
        return request
    return structs.replace(request, namespace=found)


def _judge(request: CniRequest, descriptor: int | None, own: namespace.Identity) -> Namespace:
    if descriptor is None:
        raise NamespaceMissing(request.netns)
    namespace.require(descriptor, request.netns)
    identity = namespace.identity(descriptor)
    if identity == own and not request.own_namespace_allowed:
        raise NamespaceRefused(request.netns, "it is the agent's own, which is the host's; no pod lives there")
    return Namespace(descriptor, *identity)


async def _receive(connection: socket.socket, call: Call) -> None:
    try:
        if receive_at_once(connection, call):
            return
        async with asyncio.timeout(FRAME_LIMIT):
            await receive(connection, call)
    except (OSError, EOFError) as error:
        raise CallerLeft(f"no whole call came: {str(error) or 'it took too long'}") from None


async def _send(connection: socket.socket, answer: Answer) -> None:
    data = encode_answer(answer)
    try:
        rest = data[_sent_at_once(connection, data) :]
        if not rest:
            return
        async with asyncio.timeout(ANSWER_LIMIT):
            await asyncio.get_running_loop().sock_sendall(connection, rest)
    except OSError as error:
        raise CallerLeft(f"it did not take its answer: {str(error) or 'it took too long'}") from None


def _sent_at_once(connection: socket.socket, data: bytes) -> int:
    """Bytes that the socket took without waiting: nearly always all of them."""
    try:
        return connection.send(data)
    except BlockingIOError:
        return 0


async def _delivered(connection: socket.socket, answer: Answer) -> bool:
    """Send, and find out whether it was read. A caller that is slow to close counts as having read: if not, DEL follows."""
    try:
        await _send(connection, answer)
    except CallerLeft:
        return False
    # Other calls have their turn of the loop; by then the caller has nearly always read and closed, and need not be watched.
    await asyncio.sleep(0)
    if (read := ended_at_once(connection)) is not None:
        return read
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_LIMIT):
            return await read_to_the_end(connection)
    return True


def _about(request: CniRequest) -> str:
    if not request.container:
        return f"network {request.network}"
    return f"network {request.network}, container {request.container}, interface {request.ifname}"


def prepare_directory(directory: Path) -> None:
    """Make it for root alone (0700), or make it so. Raises SettingRefused for a directory that is shared, as /tmp is."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_mode & stat.S_ISVTX or status.st_uid != os.geteuid():
        raise SettingRefused("socket", str(directory), "a directory of the agent's own: root alone may reach its socket")
    if stat.S_IMODE(status.st_mode) != 0o700:
        directory.chmod(0o700)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _unlink_socket(path: Path) -> None:
    """A socket outlives its process, and where /run is no tmpfs even a boot. Who else serves here, the journal's lock has found out."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
