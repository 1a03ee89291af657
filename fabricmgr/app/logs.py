"""Structured logs: an event with fields, a line each, on stderr."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_QUIET = ("uvicorn", "alembic", "asyncio", "httpx2")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, process, logger, event, then the event's own fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "event": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


class Text(logging.Formatter):
    """For a person at the console."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end; a traceback follows on lines of its own."""
        at = datetime.fromtimestamp(record.created, UTC)
        more = " ".join(f"{name}={value}" for name, value in fields(record).items())
        text = f"{at:%H:%M:%S} {record.levelname.lower():7} {self._process:12} {record.getMessage()} {more}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a log call gave as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


def begin(process: str, form: str, level: str) -> None:
    """Send this process's logs to stderr. form, level: as the settings say."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process) if form == "json" else Text(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
