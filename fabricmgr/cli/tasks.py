"""`fabricmgr task`."""

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.show import Output, OutputOption

task = typer.Typer(help="Tasks: what was asked for without waiting.", no_args_is_help=True)

COLUMNS: show.Columns = {
    "ID": "id",
    "NAME": "name",
    "STATE": "state",
    "PERCENT": "percent",
    "BY": "by",
    "CREATED": "created_at",
    "ENDED": "ended_at",
}


@task.command("list")
def list_tasks(output: OutputOption = Output.TABLE) -> None:
    """All tasks, the newest first."""
    show.rows(client.items("/v1/tasks"), COLUMNS, output)


@task.command("show")
def show_task(task_id: str, output: OutputOption = Output.TABLE) -> None:
    """One task, and why it failed."""
    show.one(client.call("GET", client.path("tasks", task_id)), output)


@task.command("cancel")
def cancel(task_id: str, output: OutputOption = Output.TABLE) -> None:
    """Call it off before its next step; what is done stays done. One that has ended is forgotten."""
    show.said(f"task {task_id} called off", client.call("DELETE", client.path("tasks", task_id)), output)
