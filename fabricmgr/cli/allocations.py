"""`fabricmgr allocation` and `fabricmgr who-had`."""

from typing import Annotated

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.failure import REFUSED, Failure
from fabricmgr.cli.show import Output, OutputOption

allocation = typer.Typer(help="Allocations: who holds which address.", no_args_is_help=True)

COLUMNS: show.Columns = {
    "ADDRESSES": lambda row: [a["address"] for a in row["addresses"]],
    "OWNER": lambda row: f"{row['namespace']}/{row['pod']}" if row.get("pod") else row["owner"],
    "NODE": "node",
    "NETWORK": "network",
    "MAC": "mac",
    "SINCE": "at",
    "STATE": "state",
}
HISTORY_COLUMNS: show.Columns = {
    "FROM": "from_at",
    "UNTIL": "until_at",
    "ADDRESS": "address",
    "OWNER": lambda row: f"{row['about'].get('namespace', '')}/{row['about']['pod']}" if row["about"].get("pod") else row["owner"],
    "NODE": "node",
    "ENDED BY": "reason",
}


@allocation.command("list")
def list_allocations(
    pool: Annotated[str | None, typer.Option("--pool", "-p")] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", "-c")] = None,
    node: Annotated[str | None, typer.Option("--node", "-n")] = None,
    namespace: Annotated[str | None, typer.Option()] = None,
    pod: Annotated[str | None, typer.Option()] = None,
    address: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int | None, typer.Option(help="at most so many", min=1)] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Allocations, all or those that match every filter."""
    query = {"pool": pool, "cluster": cluster, "node": node, "namespace": namespace, "pod": pod, "address": address}
    show.rows(client.items("/v1/allocations", query, limit), COLUMNS, output)


@allocation.command("allocate")
def allocate(
    pool: str,
    owner: Annotated[str, typer.Argument(help="your name for what needs it: asked again, it gets the same address")],
    address: Annotated[str | None, typer.Option(help="this very address")] = None,
    family: Annotated[list[int] | None, typer.Option(help="4, 6, or both by giving it twice; all of the pool when absent")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be given and take nothing")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Get an address from a pool."""
    optional = {"address": address, "families": family, "dry_run": dry_run or None}
    body = {field: value for field, value in optional.items() if value}
    got = client.call("PUT", client.path("pools", pool, "allocations", owner), body)
    show.said("\n".join(a["address"] for a in got["addresses"]), got, output)


@allocation.command("show")
def show_allocation(pool: str, owner: str, output: OutputOption = Output.TABLE) -> None:
    """What an owner holds in a pool."""
    show.one(client.call("GET", client.path("pools", pool, "allocations", owner)), output)


@allocation.command("release")
def release(pool: str, owner: str, output: OutputOption = Output.TABLE) -> None:
    """Give an address back."""
    show.said(
        f"{owner} gave its address back to pool {pool}", client.call("DELETE", client.path("pools", pool, "allocations", owner)), output
    )


def who_had(
    address: str,
    at: Annotated[str | None, typer.Option(help="a time such as 2026-11-25T10:00:00Z; all holders when absent")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Who has or had an address."""
    found = list(client.items("/v1/history", {"address": address, "at": at}))
    if not found and output is Output.TABLE:
        raise Failure(f"nobody had {address}{' at ' + at if at else ''}", REFUSED)
    show.rows(found, HISTORY_COLUMNS, output)
