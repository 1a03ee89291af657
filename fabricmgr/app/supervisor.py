"""The small parent: owns what exists once on the machine, starts the others, starts again what dies, and stops all in order.

One thread, no event loop, no driver of the database: little that can fail, and a start that costs nothing. The children import while
Postgres starts, and the workers answer /readyz with what is waited for from their first moment on.
"""

import contextlib
import os
import selectors
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fabricmgr.app import claim, messages
from fabricmgr.app.child import Child
from fabricmgr.app.messages import Configure, Database, Failed, Order, Prepared, Serving, Wait, Waiting
from fabricmgr.app.refusal import Refusal
from fabricmgr.domain.errors import DatabaseUnavailable, DatabaseUnsuitable
from fabricmgr.problems import sentence
from fabricmgr.settings import ManagerSettings, arguments
from fabricmgr.store.embedded import EmbeddedPostgres, Phase

LOOK = 0.25  # seconds between looks at children whose death was not signalled
STARTING_LOOK = 0.01  # the same while something starts: nobody signals that it is ready
# Seconds after the wish to end until each is ended by force: requests in flight and streams, then the loops, then Postgres.
WORKERS_END, CONTROLLERS_END, POSTGRES_END = 3.0, 3.9, 4.7
# Connections to the embedded Postgres. Of a web worker: 8 that write, 8 that look, 4 of the writer, 1 that listens. Of all others: 20 of
# the controllers, the leader's, 2 that listen, 3 kept for the superuser, and a few for a migration and for one who looks by hand.
OF_A_WORKER, OF_THE_OTHERS = 21, 34
CONTROLLERS = "fabricmgr.app.controllers_process"
WORKER = "fabricmgr.app.worker"

Say = Callable[[str], None]


class Supervisor:
    """`run` serves until SIGTERM or SIGINT. say: progress, a sentence each, for the person who started it."""

    def __init__(self, settings: ManagerSettings, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._say = say
        self._clock = clock
        self._began = clock()
        self._postgres: EmbeddedPostgres | None = None
        self._controllers: Child | None = None
        self._workers: list[Child] = []
        self._sockets: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._waits = ""
        self._url = ""
        self._prepared: Prepared | None = None
        self._greeted = False
        self._stopping = False

    def run(self) -> int:
        """Gives back the exit code. Raises Refusal for what the operator has to mend."""
        claim.raise_descriptor_limit()
        lock = claim.claim_data_dir(self._settings.data_dir)
        try:
            with self._signals():
                self._open()
                try:
                    self._begin()
                    self._watch()
                finally:
                    self._stop()
        finally:
            claim.release(lock)
        return 0

    # --- the start ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Take the sockets first: a port that is taken is found out before anything is made, and early callers are not refused."""
        settings = self._settings
        wanted = [(settings.listen, "listen"), *([(settings.metrics_listen, "metrics_listen")] if settings.metrics_listen else [])]
        for listen, name in wanted:
            self._sockets.append(claim.bind(listen, name))

    def _begin(self) -> None:
        metrics = self._metrics_folder()
        environment = {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
        inherited = [each.fileno() for each in self._sockets]
        self._controllers = Child(
            "controllers", CONTROLLERS, lambda: self._first_orders("controllers"), self._clock, environment=environment
        )
        self._workers = [self._worker(f"web {number}", inherited, environment) for number in range(1, self._settings.web_workers + 1)]
        for child in self._children():
            child.start()
        self._wait_for("the database to be looked for")
        if self._settings.database_url:
            self._found(self._settings.database_url)
        else:
            self._start_postgres()

    def _worker(self, name: str, inherited: list[int], environment: dict[str, str]) -> Child:
        return Child(name, WORKER, lambda: self._first_orders(name), self._clock, inherited=inherited, environment=environment)

    def _metrics_folder(self) -> Path:
        """Counters of processes that ended belong to the sum, but those of an earlier manager are no rate of this one."""
        folder = self._settings.data_dir / "metrics"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def _first_orders(self, name: str) -> list[Order]:
        described = [each.fileno() for each in self._sockets] if name != "controllers" else []
        orders: list[Order] = [Configure(name, os.getpid(), arguments(self._settings), *described), Wait(self._waits)]
        if self._url and (name == "controllers" or self._prepared is not None):
            orders.append(Database(self._url))
        return orders

    def _start_postgres(self) -> None:
        folder = self._settings.data_dir / "postgres"
        connections = OF_THE_OTHERS + OF_A_WORKER * self._settings.web_workers
        self._postgres = EmbeddedPostgres(folder, pg_bin=self._settings.pg_bin, connections=connections, report=self._say)
        self._wait_for(self._postgres.waiting_for)
        try:
            self._postgres.start()
        except (DatabaseUnsuitable, DatabaseUnavailable) as error:
            raise Refusal(sentence(error), 3) from error

    # --- while it serves ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping:
            starting = not self._greeted or (self._postgres is not None and not self._postgres.ready)
            self._selector.select(STARTING_LOOK if starting else LOOK)
            self._drain_wakeups()
            self._look_at_postgres()
            for child in self._children():
                self._look_at(child)
            if not self._greeted:
                self._greet()

    def _look_at_postgres(self) -> None:
        if self._postgres is None:
            return
        phase = self._postgres.poll()
        if phase is Phase.READY and not self._url:
            self._found(self._postgres.url)
        elif phase is Phase.READY and self._waits == "":
            return
        elif phase is not Phase.READY:
            # The seconds in this sentence grow: it is passed on when its second changes, not at each look.
            self._wait_for(self._postgres.waiting_for)
        elif self._prepared is not None:
            self._wait_for("")
        if self._url == "" and self._postgres.phase is Phase.PAUSING:
            raise Refusal(f"the embedded Postgres does not start: {self._postgres.failure}", 3)

    def _found(self, url: str) -> None:
        self._url = url
        self._wait_for("the database's schema to be looked at")
        if self._controllers is not None:
            self._controllers.tell(Database(url))

    def _look_at(self, child: Child) -> None:
        dead = child.dead  # asked first: what it said before its death is heard
        for report in child.heard():
            self._hear(child, report)
        if dead:
            self._say(f"{child.name} ended with status {child.bury()} and is started again")
        if child.due:
            child.start()

    def _hear(self, child: Child, report: messages.Reports) -> None:
        if isinstance(report, Failed):
            if self._prepared is None:
                raise Refusal(report.reason, report.code)
            self._say(f"{child.name}: {report.reason}")  # others serve still: a failover may be all there is to it
            return
        if isinstance(report, Waiting):
            self._wait_for(report.reason)
        elif isinstance(report, Serving):
            child.serving = True
            if report.http and child.starts == 1:
                self._say(f"{child.name} serves with {report.http}")
        elif self._prepared is None:
            self._prepare_workers(report)

    def _prepare_workers(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._wait_for("")
        for worker in self._workers:
            worker.tell(Database(self._url))

    def _wait_for(self, reason: str) -> None:
        """Tell the workers, whose /readyz shows it, and the person at the console."""
        if reason == self._waits:
            return
        self._waits = reason
        if reason:
            self._say(f"waiting for {reason}")
        for worker in self._workers:
            worker.tell(Wait(reason))

    def _greet(self) -> None:
        """Once all serve: where it listens, and how to come in."""
        if self._prepared is None or not all(worker.serving for worker in self._workers):
            return
        self._greeted = True
        listen, *metrics = [claim.address_of(each) for each in self._sockets]
        self._say(f"ready after {self._clock() - self._began:.1f} s: https://{listen} (API /v1, Redfish /redfish/v1)")
        for each in metrics:
            self._say(f"metrics: http://{each}/metrics")
        self._say(f"the CA to trust: {self._settings.data_dir / 'ca.pem'}")
        if self._prepared.password:
            self._say(f"the first administrator is 'admin'; its password lies in {self._prepared.password}")

    def _children(self) -> list[Child]:
        return [*([self._controllers] if self._controllers else []), *self._workers]

    # --- the end --------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Those who answer first, then those who work behind them, then what both stand on: all within 5 s."""
        began = self._clock()
        for each in self._sockets:
            each.close()  # the workers close theirs at once: from then on, a caller is refused and goes to another manager
        self._end(self._workers, began + WORKERS_END)
        self._end([self._controllers] if self._controllers else [], began + CONTROLLERS_END)
        if self._postgres is not None:
            self._postgres.stop(max(0.3, began + POSTGRES_END - self._clock()))
        if self._stopping:
            self._say(f"stopped after {self._clock() - began:.1f} s")

    def _end(self, children: list[Child], limit: float) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
        while (left := [child for child in children if not child.ended()]) and self._clock() < limit:
            self._selector.select(0.02)
            self._drain_wakeups()
            for child in left:
                list(child.heard())  # a full pipe would keep it from ending
        for child in left:
            self._say(f"{child.name} did not end in time and was killed")
            child.signal(signal.SIGKILL)
        while [child for child in left if not child.ended()]:
            time.sleep(0.01)

    # --- signals --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end us, SIGCHLD wakes us. A second SIGINT must not cut the order of the end short."""
        self._woken, waker = socket.socketpair()
        for each in (self._woken, waker):
            each.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        before = {number: signal.signal(number, self._noted) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)}
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            self._woken.close()
            waker.close()

    def _noted(self, number: int, frame: object) -> None:
        del frame
        if number != signal.SIGCHLD:
            self._stopping = True

    def _drain_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
