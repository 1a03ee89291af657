"""An embedded Postgres: a server of our own, kept alive by this process and gone with it.

The supervisor's loop calls `poll` at every SIGCHLD and a few times a second; nothing here waits except `start` (initdb takes 3 s once),
`wait_ready` and `stop`. All of it belongs to the main thread: the signal that ends the server with us follows the thread that forked it.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from fabricmgr.domain.errors import DatabaseUnavailable
from fabricmgr.store import pgbin, pgdata, pgmemory, pgprocs
from fabricmgr.store.pgdata import DATABASE, PORT, ROLE, DataDirectory

SETTINGS = {
    # These three are what "stored" means. On the command line, nothing in a file can turn them off.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "listen_addresses": "",
    "port": str(PORT),
    "max_wal_size": "2GB",
    "autovacuum_naptime": "10s",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "fabricmgr",
    "log_startup_progress_interval": "1s",
    # What a statement ran into is its caller's to tell: an overlap is an answer, and the log must not grow by it.
    "log_min_messages": "log",
    "log_checkpoints": "off",
}
WITHOUT_BACKUPS = {"wal_level": "minimal", "max_wal_senders": "0"}
WITH_BACKUPS = {"wal_level": "replica", "max_wal_senders": "4"}

LOG_LIMIT = 16 << 20  # bytes
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0  # seconds between starts that fail
STEADY = 10.0  # seconds a server must have served before its death counts as a first one

Report = Callable[[str], None]


class Phase(Enum):
    STOPPED = "stopped"
    STARTING = "starting"  # the process is there; crash recovery may take minutes
    READY = "ready"
    PAUSING = "pausing"  # it failed to start; again after a pause


def _ignore(sentence: str) -> None:
    del sentence


class EmbeddedPostgres:
    """Supervises one server on `data_dir`. `report` hears what happens, a sentence each; `uid` is whom to run as where root can't hide."""

    def __init__(
        self,
        data_dir: Path,
        *,
        pg_bin: Path | None = None,
        uid: int | None = None,
        backups: bool = False,
        connections: int = 64,
        report: Report = _ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = DataDirectory(data_dir)
        self._pg_bin = pg_bin
        self._uid = uid
        sizes = {"max_connections": str(connections), "shared_buffers": f"{pgmemory.cache(pgmemory.memory()) >> 10}kB"}
        self._settings = SETTINGS | (WITH_BACKUPS if backups else WITHOUT_BACKUPS) | sizes
        self._report = report
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._command: list[str] = []
        self._socket: Path | None = None
        self._log_start = 0
        self._since = 0.0
        self._due = 0.0
        self._failures = 0
        self._served = False
        self.phase = Phase.STOPPED
        self.failure = ""
        self.restarts = 0

    # --- what others ask ------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        return self.phase is Phase.READY

    @property
    def pid(self) -> int | None:
        """The postmaster, for a supervisor that waits for its children."""
        return None if self._process is None else self._process.pid

    @property
    def url(self) -> str:
        """For asyncpg; with the scheme `postgresql+asyncpg` also for SQLAlchemy. Known once `start` has returned."""
        if self._socket is None:
            raise DatabaseUnavailable(reason="the embedded Postgres was not started")
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self._socket))}&port={PORT}"

    @property
    def waiting_for(self) -> str:
        """What stands between now and `ready`, in a sentence; empty when it is ready."""
        if self.phase is Phase.READY:
            return ""
        if self.phase is Phase.PAUSING:
            return f"the embedded Postgres to start: {self.failure}"
        if self.phase is Phase.STOPPED:
            return "the embedded Postgres to be started"
        return f"the embedded Postgres, {self._recovery()}, for {self._clock() - self._since:.0f} s so far"

    # --- the life of a server -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the data directory if need be, end what is left of an earlier server, and launch. Gives back before it is ready.

        Raises DatabaseUnsuitable (another major, root without namespaces, a foreign owner) and DatabaseUnavailable (the disk is full,
        another supervisor works here).
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the server would end with this thread: start it from the main thread")
        if self._process is not None:
            return
        pgprocs.become_subreaper()
        with pgdata.disk_errors(self._directory):
            try:
                self._prepare()
                self._launch()
            except BaseException:
                self._directory.unlock()
                raise

    def poll(self) -> Phase:
        """Look once: notice readiness, a death, a pause that is over. Starts the server again after it died."""
        if self.phase is Phase.PAUSING and self._clock() >= self._due:
            self._again()
        elif self._process is not None and self._process.poll() is not None:
            self._died(self._process.returncode)
        elif self.phase is Phase.STARTING and self._serves():
            self.phase, self._since, self._served = Phase.READY, self._clock(), True
            self._report("the embedded Postgres is ready")
        self._keep_log_short()
        return self.phase

    def wait_ready(self, limit: float | None = None) -> None:
        """Wait until it serves, by default without a limit. Raises DatabaseUnavailable when a first start fails, or after `limit` s."""
        began, told = self._clock(), self._clock()
        while self.poll() is not Phase.READY:
            if self.phase is Phase.STOPPED or not (self._served or self.phase is Phase.STARTING):
                raise DatabaseUnavailable(reason=self.failure or "the embedded Postgres is not running")
            if limit is not None and self._clock() - began > limit:
                raise DatabaseUnavailable(reason=f"waited {limit:.0f} s for {self.waiting_for}")
            if self._clock() - told >= 5:
                told = self._clock()
                self._report(f"waiting for {self.waiting_for}")
            time.sleep(0.01)

    def stop(self, patience: float = 3.0) -> None:
        """Shut down: within `patience` seconds with a checkpoint, else at once, which costs the next start a recovery and loses nothing."""
        process, self._process = self._process, None
        if process is not None:
            for number, limit in ((signal.SIGINT, patience), (signal.SIGQUIT, 1.0), (signal.SIGKILL, None)):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.send_signal(number)
                    process.wait(limit)
                    break
            pgprocs.end_all(self._directory.cluster)
        if self._socket is not None and self._socket.parent != self._directory.root:
            with contextlib.suppress(OSError):
                self._socket.rmdir()
        self.phase = Phase.STOPPED
        self._directory.unlock()

    # --- how ------------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        binaries = pgbin.find(self._pg_bin)
        directory = self._directory
        directory.create()
        directory.lock()
        directory.check_major(binaries)
        user = pgbin.choose_user(binaries, directory.root, directory.owner(), self._uid)
        for sentence in directory.end_left_overs():
            self._report(sentence)
        directory.give_to(user)
        if not directory.cluster.exists():
            self._report(f"making a database under {directory.root}")
        directory.initialise(binaries, user)
        directory.write_access(user)
        self._socket = pgdata.socket_folder(directory, user)
        settings = self._settings | {"unix_socket_directories": _quoted(self._socket)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._command = user.command(binaries.program("postgres"), "-D", str(directory.cluster), *options)

    def _launch(self) -> None:
        descriptor = os.open(self._directory.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._log_start = os.fstat(descriptor).st_size
            # A session of its own: Ctrl-C in our terminal is for us, and we stop the server last.
            self._process = subprocess.Popen(
                self._command,
                env=pgbin.environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self.phase, self._since = Phase.STARTING, self._clock()

    def _serves(self) -> bool:
        """The eighth line of postmaster.pid is the server's state, the first its number: an old file's must not be believed."""
        lines = self._directory.pid_file()
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    def _died(self, status: int) -> None:
        if self.phase is Phase.READY and self._clock() - self._since >= STEADY:
            self._failures = 0
        self.failure = self._directory.explain(self._written(), f"the server ended with status {status}")
        self._process = None
        self._report(f"the embedded Postgres ended: {self.failure}")
        self._rest()
        if self._clock() >= self._due:
            self._again()

    def _rest(self) -> None:
        """No pause after a first failure: it may be a kill, and clients wait. Then longer ones: it may be a full disk."""
        first = self._served and self._failures == 0
        pause = 0.0 if first else min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE)
        self._failures += 1
        self.phase, self._due = Phase.PAUSING, self._clock() + pause

    def _again(self) -> None:
        self.restarts += 1
        try:
            with pgdata.disk_errors(self._directory):
                for sentence in self._directory.end_left_overs():
                    self._report(sentence)
                self._launch()
        except DatabaseUnavailable as error:
            self.failure = error.reason
            self._rest()

    def _written(self) -> str:
        """What this server wrote so far."""
        with contextlib.suppress(OSError), self._directory.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read(1 << 20).decode("utf-8", "replace")
        return ""

    def _recovery(self) -> str:
        lines = [line for line in self._written().splitlines() if "redo in progress" in line or "recovery in progress" in line]
        return f"which recovers from a crash ({lines[-1].partition('LOG:')[2].strip()})" if lines else "which starts"

    def _keep_log_short(self) -> None:
        """Empty the log when it is long. The server appends to the very file, so it can't be renamed away under it."""
        with contextlib.suppress(OSError):
            if self._directory.log.stat().st_size > LOG_LIMIT:
                os.truncate(self._directory.log, 0)
                self._log_start = 0


def _quoted(folder: Path) -> str:
    """As an element of a list setting: quoted, since a path may hold a comma or a blank."""
    return '"' + str(folder).replace('"', '""') + '"'
