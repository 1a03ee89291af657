"""Log lines: an event with its fields, in both forms."""

import json
import logging
import sys

from fabricmgr.app.logs import JsonLines, Text


def record(event: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("fabricmgr.test", logging.INFO, "file.py", 1, event, None, None)
    made.__dict__.update(fields)
    made.created = 1_700_000_000.25
    return made


def test_a_json_line_has_the_event_its_fields_and_the_process() -> None:
    told = json.loads(JsonLines("web 1").format(record("allocated", address="10.0.0.5", pool="pods")))

    assert told == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "info",
        "process": "web 1",
        "logger": "fabricmgr.test",
        "event": "allocated",
        "address": "10.0.0.5",
        "pool": "pods",
    }


def test_a_line_stays_one_whatever_a_field_holds() -> None:
    assert "\n" not in JsonLines("web 1").format(record("refused", reason="two\nlines", error=ValueError("x\ny")))


def test_a_traceback_is_a_field_of_the_json_line() -> None:
    made = record("failed")
    try:
        raise ValueError("why")
    except ValueError:
        made.exc_info = sys.exc_info()

    line = JsonLines("controllers").format(made)

    assert "\n" not in line
    assert "ValueError: why" in json.loads(line)["traceback"]


def test_the_text_form_names_fields_behind_the_event() -> None:
    assert Text("web 1").format(record("allocated", address="10.0.0.5")) == "22:13:20 info    web 1        allocated address=10.0.0.5"
