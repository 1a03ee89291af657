"""The agent's log: an event with fields on one line, as JSON for programs or as text for a person."""

import asyncio
import json
import logging
import sys
import time
from datetime import UTC, datetime
from logging.handlers import MemoryHandler

# Seconds in which everyday lines gather, and how many do at most: a call would wait for its own line, and those of a burst for all.
GATHER = 0.05
_MOST = 1000

# What every record has; the rest is an event's own fields.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_JSON = json.JSONEncoder(default=str)


def fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _USUAL}


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"at": at, "level": record.levelname.lower(), "event": record.getMessage(), "from": record.name}
        line |= fields(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _JSON.encode(line)


class TextLines(logging.Formatter):
    """Time, level, event, then fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        said = " ".join([at, record.levelname.lower(), record.getMessage(), *(f"{name}={value}" for name, value in fields(record).items())])
        return f"{said}\n{self.formatException(record.exc_info)}" if record.exc_info else said


class Gathering(MemoryHandler):
    """Hands lines on a moment later, all at once. From a warning on, and where no loop runs, at once with all that wait."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__(_MOST, logging.WARNING, target)
        self._alarm: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if self.buffer and self._alarm is None:
            self._wait()

    def flush(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()
        super().flush()

    def _wait(self) -> None:
        try:
            self._alarm = asyncio.get_running_loop().call_later(GATHER, self.flush)
        except RuntimeError:
            self.flush()


def start(form: str, level: str) -> None:
    """Log to stderr. The HTTP client's own lines are left out: each call would be one."""
    # No line shows them, and each is asked for at every line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - the way that the documentation of logging names ("Optimization"): no line shows its source
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(handlers=[Gathering(handler)], level=level.upper(), force=True)
    for name in ("httpx2", "httpcore2", "asyncio", "pyroute2"):
        logging.getLogger(name).setLevel(logging.WARNING)
