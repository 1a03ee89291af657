"""`fabricmgr event`."""

from typing import Annotated

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.show import Output, OutputOption

event = typer.Typer(help="Events: what happened, in order.", no_args_is_help=True)

COLUMNS: show.Columns = {"POSITION": "position", "AT": "at", "EVENT": "what", "ABOUT": "about"}
WAIT_SECONDS = 30


@event.command("list")
def list_events(
    after: Annotated[int, typer.Option(help="those with a position above this", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="at most so many", min=1, max=1000)] = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """Events after a position, oldest first."""
    show.rows(client.call("GET", "/v1/events", query={"after": after, "limit": limit})["items"], COLUMNS, output)


@event.command("follow")
def follow(after: Annotated[int | None, typer.Option(help="start behind this position; at the end when absent", min=0)] = None) -> None:
    """Print events as they happen, a line each, until Ctrl-C."""
    position = after if after is not None else int(client.call("GET", "/v1/events", query={"limit": 1})["last"])
    while True:
        for item in client.call("GET", "/v1/events", query={"after": position, "wait": WAIT_SECONDS})["items"]:
            position = item["position"]
            print(position, item["at"], item["what"], show.text(item["about"]), flush=True)
