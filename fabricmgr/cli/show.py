"""What a command prints: a table for people, JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = dict[str, Any]
# Heading of a column, and the field it shows: a dotted path, or a function of the row.
Columns = Mapping[str, str | Callable[[Json], object]]


class Output(Enum):
    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs")]


def rows(found: Iterable[Json], columns: Columns, output: Output) -> None:
    """Print a list."""
    if output is Output.JSON:
        print(json.dumps(list(found), indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in columns:
        table.add_column(heading, overflow="fold")
    for row in found:
        table.add_row(*(Text(text(value_of(row, source))) for source in columns.values()))
    _console().print(table)


def one(item: Json, output: Output) -> None:
    """Print one thing, a field a line."""
    if output is Output.JSON:
        print(json.dumps(item, indent=2))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in item.items():
        table.add_row(name.replace("_", " "), Text(text(value)))
    _console().print(table)


def said(sentence: str, item: Json, output: Output) -> None:
    """Print what was done: a sentence for people, the thing for programs."""
    print(json.dumps(item, indent=2) if output is Output.JSON else sentence)


def value_of(row: Json, source: str | Callable[[Json], object]) -> object:
    """What a column shows of a row."""
    if callable(source):
        return source(row)
    value: object = row
    for part in source.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def text(value: object) -> str:
    """A value as people read it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(text(part) for part in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}={text(part)}" for name, part in value.items()) or "-"
    return str(value)


def _console() -> Console:
    # Not a terminal: no wrapping, so that lines can be grepped.
    return Console(width=None if sys.stdout.isatty() else 400, highlight=False, markup=False)
