"""A process of ours as the supervisor sees it: started, told, heard, started again with growing pauses when it dies."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from fabricmgr.app import messages
from fabricmgr.app.messages import Order, Reports

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0  # seconds between starts of a child that keeps dying
STEADY = 10.0  # seconds a child must have lived for its death to count as a first one


class Child:
    """One role: `module` run in a fresh interpreter, with the listening sockets of `inherited`.

    orders: what a new process is told at its start, in their order. clock: monotonic, in seconds."""

    def __init__(
        self,
        name: str,
        module: str,
        orders: Callable[[], Sequence[Order]],
        clock: Callable[[], float],
        *,
        inherited: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.serving = False
        self.starts = 0
        self._module = module
        self._orders = orders
        self._clock = clock
        self._inherited = tuple(inherited)
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._since = 0.0
        self._due = 0.0
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """Its process, None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def output(self) -> int | None:
        """The descriptor its reports come from."""
        found = None if self._process is None else self._process.stdout
        return None if found is None else found.fileno()

    @property
    def due(self) -> bool:
        """Whether it should be started now."""
        return self._process is None and self._clock() >= self._due

    def start(self) -> None:
        """From the main thread: the signal that ends a child with its parent follows the thread that forked it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self._inherited,
            env=self._environment,
            start_new_session=True,  # Ctrl-C in our terminal is for the supervisor, which stops all in order
        )
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
        self.serving, self._rest, self._since = False, b"", self._clock()
        self.starts += 1
        for order in self._orders():
            self.tell(order)

    def tell(self, order: Order) -> None:
        """A child that has died, or that has not read 64 KiB of orders, is not told: it is started again, and then it is."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self._process.stdin.fileno(), messages.line(order))

    def heard(self) -> Iterator[Reports]:
        """What it has reported since."""
        if self.output is None:
            return
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.output, 65536):
                self._rest += piece
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):  # a library's print is no report
                yield messages.report(line)

    @property
    def dead(self) -> bool:
        """Whether it has died. What it reported last may still be heard."""
        return self._process is not None and self._process.poll() is not None

    def bury(self) -> int:
        """Give back the exit status of a dead child, and set the time of the next start."""
        status = self._close()
        lived = self._clock() - self._since
        self._failures = 0 if lived >= STEADY else self._failures
        # No pause after a first death: it may be a kill, and clients wait.
        pause = 0.0 if self._failures == 0 else min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE)
        self._failures += 1
        self._due = self._clock() + pause
        return status

    def signal(self, number: int) -> None:
        """Send a signal, if it is there."""
        if self._process is not None:
            self._process.send_signal(number)

    def ended(self) -> bool:
        """Whether it is gone, for a supervisor that stops: nothing is started again."""
        if self.dead:
            self._close()
        return self._process is None

    def _close(self) -> int:
        process, self._process, self.serving = self._process, None, False
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return process.returncode
