"""A child's side: who started it, what it is told, what it reports. It never outlives the supervisor."""

import asyncio
import ctypes
import os
import signal

from fabricmgr.app import logs, messages
from fabricmgr.app.messages import Configure, Orders, Report
from fabricmgr.settings import ManagerSettings, load

_PR_SET_PDEATHSIG = 1
STDIN, STDOUT, STDERR = 0, 1, 2


class Inside:
    """One for each child process. Made before the event loop: the first order says with which settings to begin."""

    def __init__(self) -> None:
        # What a library prints goes to the log; reports have the pipe for themselves.
        self._reports = os.dup(STDOUT)
        os.dup2(STDERR, STDOUT)
        self._rest = b""
        first = self._first()
        _end_with(first.parent)
        self.configured = first
        self.settings = load(ManagerSettings, first.arguments, {})
        logs.begin(first.name, self.settings.log_format, self.settings.log_level)
        self._orders: asyncio.Queue[Orders] = asyncio.Queue()

    def report(self, report: Report) -> None:
        """Tell the supervisor."""
        os.write(self._reports, messages.line(report))

    def listen(self) -> None:
        """Hear orders from now on; needs the running loop."""
        self._split()
        asyncio.get_running_loop().add_reader(STDIN, self._read)

    async def next(self) -> Orders:
        """The next order."""
        return await self._orders.get()

    def _first(self) -> Configure:
        while b"\n" not in self._rest:
            piece = os.read(STDIN, 65536)
            if not piece:
                raise SystemExit(1)
            self._rest += piece
        first, self._rest = self._rest.split(b"\n", 1)
        order = messages.order(first)
        if not isinstance(order, Configure):
            raise SystemExit(f"told {first!r} before anything else")
        return order

    def _read(self) -> None:
        piece = os.read(STDIN, 65536)
        if not piece:  # the supervisor is gone, and a signal of the kernel's is on its way
            os._exit(1)
        self._rest += piece
        self._split()

    def _split(self) -> None:
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self._orders.put_nowait(messages.order(line))


def _end_with(parent: int) -> None:
    """Die when the supervisor does: a listening socket that is left over would keep its successor from binding (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        raise SystemExit(1)
