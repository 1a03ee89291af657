"""`fabricmgr role`."""

from typing import Annotated

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.show import Output, OutputOption

role = typer.Typer(help="Roles: what accounts may do.", no_args_is_help=True)

COLUMNS: show.Columns = {"NAME": "name", "PRIVILEGES": "privileges", "PREDEFINED": "predefined"}
Privileges = Annotated[list[str], typer.Argument(help="Login, ConfigureManager, ConfigureUsers, ConfigureComponents, ConfigureSelf")]


@role.command("list")
def list_roles(output: OutputOption = Output.TABLE) -> None:
    """All roles, the predefined ones too."""
    show.rows(client.items("/v1/roles"), COLUMNS, output)


@role.command("add")
def add(name: str, privileges: Privileges, output: OutputOption = Output.TABLE) -> None:
    """Make a role."""
    made = client.call("POST", "/v1/roles", {"name": name, "privileges": privileges})
    show.said(f"role {name} added with {', '.join(privileges)}", made, output)


@role.command("change")
def change(name: str, privileges: Privileges, output: OutputOption = Output.TABLE) -> None:
    """Give it these privileges instead. Its accounts have them at once."""
    changed = client.call("PATCH", client.path("roles", name), {"privileges": privileges})
    show.said(f"role {name} has {', '.join(privileges)}", changed, output)


@role.command("delete")
def delete(name: str, output: OutputOption = Output.TABLE) -> None:
    """Remove a role that no account has."""
    show.said(f"role {name} deleted", client.call("DELETE", client.path("roles", name)), output)
