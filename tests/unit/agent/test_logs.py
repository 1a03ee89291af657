"""The agent's log: everyday lines gather for a moment, and none is lost or out of order."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest

from fabricmgr.agent.logs import Gathering, TextLines
from tests.support.poll import until


class Written(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def has(self, count: int) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            return len(self.lines) >= count

        return holds


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def log(written: Written) -> Iterator[logging.Logger]:
    gathering = Gathering(written)
    made = logging.getLogger("fabricmgr.test-of-logs")
    made.setLevel(logging.INFO)
    made.propagate = False
    made.addHandler(gathering)
    yield made
    made.removeHandler(gathering)
    gathering.close()


async def test_everyday_lines_are_written_together_a_moment_later(log: logging.Logger, written: Written) -> None:
    log.info("one")
    log.info("two")
    before = list(written.lines)

    await until(written.has(2))

    assert before == []
    assert written.lines == ["one", "two"]


async def test_a_warning_is_written_at_once_and_brings_what_came_before_it(log: logging.Logger, written: Written) -> None:
    log.info("one")

    log.warning("two")

    assert written.lines == ["one", "two"]


async def test_lines_after_a_warning_gather_anew(log: logging.Logger, written: Written) -> None:
    log.warning("one")
    log.info("two")
    before = list(written.lines)

    await until(written.has(2))

    assert before == ["one"]
    assert written.lines == ["one", "two"]


def test_a_line_is_written_at_once_where_no_loop_runs(log: logging.Logger, written: Written) -> None:
    log.info("one")

    assert written.lines == ["one"]


def test_what_waits_when_the_log_ends_is_written(written: Written) -> None:
    gathering = Gathering(written)

    async def tell() -> None:
        gathering.handle(logging.makeLogRecord({"msg": "last", "levelno": logging.INFO}))

    asyncio.run(tell())
    gathering.close()

    assert written.lines == ["last"]


def test_a_line_for_people_names_time_level_event_and_fields() -> None:
    record = logging.makeLogRecord({"msg": "attached", "levelname": "INFO", "container": "c1", "created": 0.0})

    line = TextLines().format(record)

    assert line.split(" ", 1)[1] == "info attached container=c1"
