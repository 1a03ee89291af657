"""`fabricmgr service`."""

from typing import Annotated

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.clusters import ClusterOption
from fabricmgr.cli.show import Output, OutputOption

app = typer.Typer(help="Services of type LoadBalancer and their addresses.", no_args_is_help=True)

SERVICES: show.Columns = {
    "NAMESPACE": "namespace",
    "NAME": "name",
    "STATE": "state",
    "ADDRESSES": lambda row: [each["address"] for each in row["addresses"]],
    "NODES": lambda row: [each["node"] for each in row["addresses"] if each["node"]],
    "POOLS": lambda row: sorted({each["pool"] for each in row["addresses"]}),
    "REASON": lambda row: "; ".join(filter(None, [row["reason"], *(each["reason"] for each in row["addresses"])])),
}


@app.command("list")
def list_services(
    cluster: ClusterOption = "default",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="the namespace they are in; all")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Services that want addresses of ours."""
    found = client.call("GET", client.path("services"), query={"cluster": cluster, "namespace": namespace or None})["items"]
    show.rows(found, SERVICES, output)


@app.command("show")
def show_service(
    name: str,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="the namespace it is in")] = "default",
    cluster: ClusterOption = "default",
    output: OutputOption = Output.TABLE,
) -> None:
    """One of them."""
    show.one(client.call("GET", client.path("services", cluster, namespace, name)), output)
