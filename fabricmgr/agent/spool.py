"""DELs that the shim could not hand over: one file each, holding the frame, its name beginning with the container id.

Replay works from the journal and not from the namespace's path, which may lead elsewhere by now. A DEL may be replayed twice."""

import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fabricmgr.agent.frame import LARGEST_FRAME, LENGTH_BYTES, frame_length, parse_frame
from fabricmgr.agent.request import CniRequest, Command, parse_request
from fabricmgr.agent.verbs import Turns
from fabricmgr.domain.errors import CniFrameRefused, FabricError
from fabricmgr.loop import Outcome
from fabricmgr.problems import sentence

log = logging.getLogger(__name__)

# Looked at this often, in seconds; an ADD looks for itself.
PERIOD = 1.0
# Replayed in one pass; the next pass goes on.
MOST = 1000
# The shim writes aside under a name that begins with a dot and renames. One that old, in seconds, was left by a shim that died.
ASIDE_LAPSE = 60.0
# Nanoseconds. A file's time moves on in steps of some milliseconds: so soon after a change, a second one may bear the time of the first.
_SAME_TIME = 1e9
# The shim cuts a container's id to this many bytes in the file's name.
_NAMED_BYTES = 200

Delete = Callable[[CniRequest], Awaitable[None]]


@dataclass(frozen=True)
class Spooled:
    path: Path
    request: CniRequest


class Spool:
    """The directory `spool/` beside the socket. `delete` is the agent's own DEL; `turns` the one it shares with the server."""

    def __init__(self, directory: Path, delete: Delete, turns: Turns, now: Callable[[], float] = time.time):
        self.directory = directory
        self._text = str(directory)
        self._delete = delete
        self._turns = turns
        self._now = now
        self._empty_since = -1

    def prepare(self) -> None:
        """Make the directory, for root alone."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def once(self) -> Outcome:
        """Replay what lies there, oldest first. One that fails stays for the next pass and does not hold up the others."""
        done, kept = 0, ""
        for spooled in self._read(""):
            async with self._turns.of(spooled.request.attachment):
                try:
                    done += await self._replay(spooled)
                except FabricError as error:
                    kept = f"{spooled.path.name} stays: {sentence(error)}"
        if kept:
            return Outcome.again(5.0, kept)
        return Outcome.done(f"{done} spooled DELs replayed" if done else "nothing is spooled")

    async def before_add(self, request: CniRequest) -> None:
        """Replay what is spooled for this attachment. The caller holds its turn. Raises what `delete` raises.

        Podman's restart is DEL, then ADD with the same container id within a second."""
        if not self._has(request.container):
            return
        for spooled in self._read(request.container):
            if spooled.request.attachment == request.attachment:
                await self._replay(spooled)

    async def _replay(self, spooled: Spooled) -> int:
        """Needs the attachment's turn. Whoever had it before may have replayed this one, and then an ADD may have followed."""
        if not spooled.path.exists():
            return 0
        await self._delete(spooled.request)
        spooled.path.unlink(missing_ok=True)
        log.info("spooled DEL replayed", extra={"container": spooled.request.container, "ifname": spooled.request.ifname})
        return 1

    def _has(self, container: str) -> bool:
        """Whether anything may be spooled for a container. Asked in every ADD, and nearly always there is nothing at all.

        Whatever comes or goes changes the directory's time, so one that was empty is listed again only after that."""
        try:
            changed = os.stat(self._text).st_mtime_ns  # noqa: PTH116 - asked in every ADD, and Path costs as much as the system call
            if changed == self._empty_since:
                return False
            names = os.listdir(self._text)  # noqa: PTH208 - likewise
        except FileNotFoundError:
            return False
        rested = self._now() * 1e9 - changed > _SAME_TIME
        self._empty_since = changed if rested and not names else -1
        start = _start(container)
        return any(name.startswith(start) for name in names)

    def _read(self, container: str) -> Iterator[Spooled]:
        """Spooled DELs, oldest first; of one container, or all. A file that is no DEL is removed: nothing could ever be done with it."""
        for path in self._files(container):
            try:
                request = _parse(path)
            except FileNotFoundError:
                continue
            except FabricError as error:
                log.warning("spooled file dropped", extra={"file": path.name, "reason": sentence(error)})
                path.unlink(missing_ok=True)
                continue
            yield Spooled(path, request)

    def _files(self, container: str) -> list[Path]:
        start = _start(container) if container else ""
        found: list[tuple[int, Path]] = []
        with suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another pass was quicker
                    if entry.name.startswith("."):
                        self._drop_if_left(entry)
                    elif entry.name.startswith(start) and entry.is_file(follow_symlinks=False):
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)))
        return [path for _, path in sorted(found)[:MOST]]

    def _drop_if_left(self, entry: os.DirEntry[str]) -> None:
        if entry.is_file(follow_symlinks=False) and self._now() - entry.stat(follow_symlinks=False).st_mtime > ASIDE_LAPSE:
            Path(entry.path).unlink(missing_ok=True)


def _start(container: str) -> str:
    """How the files of a container begin."""
    return f"{container[:_NAMED_BYTES]}."


def _parse(path: Path) -> CniRequest:
    """Raises FabricError for what is no DEL, FileNotFoundError when another pass was quicker."""
    with path.open("rb") as file:
        data = file.read(LENGTH_BYTES + LARGEST_FRAME + 1)
    if len(data) < LENGTH_BYTES or len(data) - LENGTH_BYTES != frame_length(data):
        raise CniFrameRefused("the file is cut, or longer than its frame")
    frame = parse_frame(data[LENGTH_BYTES:])
    if frame.command != Command.DEL.value:
        raise CniFrameRefused("the file holds no DEL")
    return parse_request(frame)
