"""One data directory: who may use it, how it is made, what lies in it.

ROOT/lock          held by the supervisor that uses it
ROOT/cluster/      Postgres's own data directory; it gets this name when it is complete
ROOT/socket/       0700; the server's socket, unless the path is too long for one
ROOT/server.log
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fabricmgr.domain.errors import DatabaseUnavailable, DatabaseUnsuitable
from fabricmgr.store import pgbin, pgprocs
from fabricmgr.store.pgbin import Binaries, RunAs

ROLE = "fabricmgr"
DATABASE = "fabricmgr"
UNFINISHED = "cluster.new-"
INITDB_NOTICES = 5.0  # seconds
PORT = 5432
SOCKET_PATH_LIMIT = 107  # bytes: sun_path of unix(7), without its end mark
NEEDED_BYTES = 16 << 20  # one WAL segment: without room for it the server neither recovers nor runs

# A server left over is asked to shut down fast, then at once; killing it is safe too, and the last resort. Seconds of patience each.
LEFT_OVER = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


class DataDirectory:
    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.cluster = self.root / "cluster"
        self.log = self.root / "server.log"
        self._lock: int | None = None

    # --- whose it is -------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make it, closed to others. What exists keeps its mode, parents above all."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def owner(self) -> int:
        """The uid that owns the cluster, or would own it if it were made now."""
        return (self.cluster if self.cluster.exists() else self.root).stat().st_uid

    def lock(self) -> None:
        """Keep a second supervisor away, also one in another container. Ends with this process. Raises DatabaseUnavailable."""
        if self._lock is not None:
            return
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise DatabaseUnavailable(reason=f"process {holder or '?'} already runs a Postgres on {self.root}") from None
        self._lock = descriptor
        with contextlib.suppress(OSError):  # the holder's number is for people; a full disk must not keep us from starting
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def give_to(self, user: RunAs) -> None:
        """Make an ordinary user the owner of what Postgres must own, where we are root and Postgres is not."""
        if user.mode in {"same", "namespace"}:
            return
        for path in (self.root, *self.root.rglob("*")):
            if path.lstat().st_uid != user.uid:
                os.chown(path, user.uid, user.gid, follow_symlinks=False)

    # --- a server that is still there --------------------------------------------------------------------------------

    def end_left_overs(self) -> list[str]:
        """End whatever Postgres still works here, and remove what would make the next one believe in it. Says what it did.

        Only under `lock`: nobody else may own what is found. Raises DatabaseUnavailable for somebody's single-user session.
        """
        pid = self.recorded_pid()
        if pid is not None and pid < 0 and pgprocs.is_postgres_on(-pid, self.cluster):
            raise DatabaseUnavailable(reason=f"a single-user Postgres (process {-pid}) has {self.cluster} open")
        done = []
        if pid is not None and pgprocs.end(pid, self.cluster, LEFT_OVER):
            done.append(f"stopped a server left over from an earlier run (process {pid})")
        if strays := pgprocs.end_all(self.cluster):
            done.append(f"ended {strays} processes of a dead server")
        # Postgres takes any living process with the recorded number for the old server, whatever it is, and then refuses to start.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        return done

    def recorded_pid(self) -> int | None:
        """The number in postmaster.pid: of a server, or negative of a single-user session. It may be anybody's by now."""
        lines = self.pid_file()
        with contextlib.suppress(ValueError, IndexError):
            return int(lines[0])
        return None

    def pid_file(self) -> list[str]:
        try:
            return (self.cluster / "postmaster.pid").read_text("utf-8", "replace").splitlines()
        except OSError:
            return []

    # --- making it -----------------------------------------------------------------------------------------------------

    def check_major(self, binaries: Binaries) -> None:
        """Raises DatabaseUnsuitable when another major version's files lie here: Postgres can't read them."""
        try:
            found = (self.cluster / "PG_VERSION").read_text("ascii").strip()
        except FileNotFoundError:
            if self.cluster.exists() and any(self.cluster.iterdir()):
                raise DatabaseUnsuitable(
                    reason=f"{self.cluster} holds something that is no Postgres data directory", remedy="move it away"
                ) from None
            return
        if found == str(binaries.major):
            return
        raise DatabaseUnsuitable(
            reason=f"{self.cluster} was made by Postgres {found}, and the programs in {binaries.folder} are of {binaries.major}",
            remedy=_dump_and_load(self.root, found),
        )

    def initialise(self, binaries: Binaries, user: RunAs) -> bool:
        """Make the cluster if there is none: under another name, so that one that exists is complete. Gives whether it was made."""
        self._remove_unfinished()
        if (self.cluster / "PG_VERSION").exists():
            return False
        # A name used once: the initdb of a supervisor that was killed may be cleaning up under its own still.
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.root))
        if user.uid != os.geteuid():
            os.chown(unfinished, user.uid, user.gid)
        try:
            self._run(user, binaries.program("initdb"), *_initdb_options(binaries), "-D", str(unfinished))
            single = ("--single", "-D", str(unfinished), "-c", "exit_on_error=on", "postgres")
            self._run(user, binaries.program("postgres"), *single, text=f"create database {DATABASE}\n")
            if self.cluster.exists():
                self.cluster.rmdir()
            unfinished.rename(self.cluster)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _sync(self.root)
        return True

    def _remove_unfinished(self) -> None:
        """Take away what an interrupted initdb left, after ending what may still write there."""
        for path in self.root.glob(f"{UNFINISHED}*"):
            # An initdb whose supervisor was killed notices at its next step, and may write until then.
            deadline = time.monotonic() + INITDB_NOTICES
            while path.exists() and time.monotonic() < deadline:
                pgprocs.end_all(path)
                shutil.rmtree(path, ignore_errors=True)
                time.sleep(0.02)

    def _run(self, user: RunAs, *program: str, text: str = "") -> None:
        done = subprocess.run(
            user.command(*program),
            env=pgbin.environment(),
            cwd="/",
            input=text,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode != 0:
            raise DatabaseUnavailable(
                reason=self.explain(done.stderr or done.stdout, f"{Path(program[0]).name} ended with {done.returncode}")
            )

    def write_access(self, user: RunAs) -> None:
        """Who may connect: whoever can reach the socket; where uids are real, only ours and root by their own names besides."""
        names = _names(user) if user.real else []
        method = "peer map=fabricmgr" if names else "trust"
        _replace(self.cluster / "pg_hba.conf", f"# Written at each start.\nlocal all all {method}\n", user)
        _replace(
            self.cluster / "pg_ident.conf", "# Written at each start.\n" + "".join(f"fabricmgr {name} {ROLE}\n" for name in names), user
        )

    def explain(self, log: str, otherwise: str) -> str:
        """Why a program failed, in a sentence, from what it wrote and from the room that is left."""
        free = shutil.disk_usage(self.root).free
        if "No space left on device" in log or free < NEEDED_BYTES:
            return f"the disk under {self.root} is full ({free >> 20} MiB free, {NEEDED_BYTES >> 20} MiB needed): free some space"
        marks = ("FATAL:", "PANIC:", "error:", "ERROR:")
        told = [line for line in log.splitlines() if any(mark in line for mark in marks) and "the database system is" not in line]
        return (told or log.strip().splitlines() or [otherwise])[-1].strip()


@contextmanager
def disk_errors(directory: DataDirectory) -> Iterator[None]:
    """What the file system refuses, as one clear sentence."""
    try:
        yield
    except PermissionError as error:
        raise DatabaseUnsuitable(
            reason=f"{error.filename} belongs to another user ({error.strerror})", remedy="run as its owner, or name another data directory"
        ) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DatabaseUnavailable(reason=directory.explain("No space left on device", "")) from error
        raise DatabaseUnavailable(reason=f"{error.filename or directory.root}: {error.strerror}") from error


# --- the socket --------------------------------------------------------------------------------------------------------


def socket_folder(directory: DataDirectory, user: RunAs) -> Path:
    """A folder of mode 0700 for the socket: in the data directory, or in a short runtime directory when that path is too long."""
    inside = directory.root / "socket"
    folder = inside if _fits(inside) else _runtime_folder(directory)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check_private(folder)
    if user.uid != folder.stat().st_uid and os.geteuid() == 0:
        os.chown(folder, user.uid, user.gid)
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):  # a stale lock makes Postgres believe in whatever process has that number
        (folder / name).unlink(missing_ok=True)
    return folder


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_LIMIT


def _runtime_folder(directory: DataDirectory) -> Path:
    name = "fabricmgr-" + hashlib.sha256(os.fsencode(directory.root)).hexdigest()[:16]
    given = os.environ.get("XDG_RUNTIME_DIR")
    for base in (Path(given) if given else None, Path("/run") if os.geteuid() == 0 else None, Path(tempfile.gettempdir())):
        if base is not None and base.is_dir() and os.access(base, os.W_OK | os.X_OK) and _fits(base / name):
            return base / name
    raise DatabaseUnsuitable(
        reason=f"{directory.root} is too long for a socket, and no runtime directory is at hand", remedy="use a shorter --data-dir"
    )


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    mine = found.st_uid == os.geteuid() or os.geteuid() == 0
    if not stat.S_ISDIR(found.st_mode) or not mine or stat.S_IMODE(found.st_mode) != 0o700:
        raise DatabaseUnsuitable(reason=f"{folder} is not a directory of ours with mode 0700", remedy="remove it")


# --- small parts ---------------------------------------------------------------------------------------------------------


def _initdb_options(binaries: Binaries) -> tuple[str, ...]:
    # No ICU collation: its order changes with the library, and indexes with it. No clean-up: what is left shows that the disk is full.
    locale = ("--locale-provider=builtin", "--locale=C.UTF-8") if binaries.major >= 17 else ("--locale=C.UTF-8",)
    return ("-U", ROLE, "--encoding=UTF8", *locale, "--data-checksums", "--auth=trust", "--no-instructions", "--no-clean")


def _dump_and_load(root: Path, major: str) -> str:
    old = next((path for path in pgbin.system_folders() if path.parent.name == major), Path(f"BIN-OF-{major}"))
    aside = root.with_name(f"{root.name}.{major}")
    return (
        f"dump and load it: start with --pg-bin {old}, run {old}/pg_dump on the database's URL into a file, stop, move {root} to {aside}, "
        "start without --pg-bin, stop again before anything is added, load the file with psql into the new database, start"
    )


def _names(user: RunAs) -> list[str]:
    """Account names that may connect; none if Postgres could not look one up, as in containers without passwd entries."""
    try:
        return sorted({pwd.getpwuid(uid).pw_name for uid in (0, user.uid, os.geteuid())})
    except KeyError:
        return []


def _replace(path: Path, text: str, user: RunAs) -> None:
    if path.exists() and path.read_text("utf-8") == text:
        return  # also: nothing to write on a full disk
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(
        fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
    )  # never through a link: the folder may be another user's
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        if user.uid != os.geteuid():
            os.chown(descriptor, user.uid, user.gid)
    fresh.replace(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
