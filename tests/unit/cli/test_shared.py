"""Options that are declared once are options of each command that takes them."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from fabricmgr.cli.shared import spread


@dataclass(frozen=True)
class Limits:
    most: Annotated[int, typer.Option("--most", "-m", help="how many")] = 7
    named: Annotated[list[str] | None, typer.Option(help="which")] = None
    open: Annotated[bool | None, typer.Option("--open/--shut")] = None


app = typer.Typer()


@app.command("add")
@spread
def add(name: str, limits: Limits, place: str = "here") -> None:
    """Add one."""
    print(name, limits, place)


@app.command("change")
@spread
def change(name: str, limits: Limits) -> None:
    print(name, limits)


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ((), Limits()),
        (("-m", "9", "--named", "a", "--named", "b", "--shut"), Limits(9, ["a", "b"], False)),
    ],
)
def test_each_field_is_an_option_of_every_command_and_arrives_in_its_place(words: tuple[str, ...], limits: Limits) -> None:
    added = CliRunner().invoke(app, ["add", "x", *words, "--place", "there"])
    changed = CliRunner().invoke(app, ["change", "x", *words])

    assert added.output == f"x {limits} there\n"
    assert changed.output == f"x {limits}\n"


def test_help_shows_the_options_with_their_words_and_defaults() -> None:
    said = CliRunner().invoke(app, ["add", "--help"], env={"COLUMNS": "160"}).output

    assert "Add one." in said
    assert [word in said for word in ("--most", "how many", "default: 7", "--open", "--shut", "which")] == [True] * 6
    assert "limits" not in said


def test_a_value_that_does_not_fit_is_refused_by_the_option_it_is_of() -> None:
    refused = CliRunner().invoke(app, ["change", "x", "--most", "many"])

    assert refused.exit_code == 2
    assert "--most" in refused.output
