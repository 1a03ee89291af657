"""`fabricmgr endpoint` and `fabricmgr zone`."""

from typing import Annotated

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.show import Output, OutputOption

ClusterOption = Annotated[str, typer.Option("--cluster", "-c", help="the cluster it belongs to")]

endpoint = typer.Typer(help="Endpoints: NICs of nodes as places on the fabric.", no_args_is_help=True)
zone = typer.Typer(help="Zones: groups of endpoints in a cluster.", no_args_is_help=True)

ENDPOINT_COLUMNS: show.Columns = {
    "NAME": "name",
    "NODE": lambda row: f"{row['cluster']}/{row['node']}",
    "INTERFACE": "interface",
    "MAC": "mac",
    "ZONES": "zones",
    "CLAIMED": "claimed",
}
ZONE_COLUMNS: show.Columns = {
    "NAME": "name",
    "CLUSTER": "cluster",
    "ENDPOINTS": "endpoints",
    "POOLS": "pools",
    "DESCRIPTION": "description",
}
DescriptionOption = Annotated[str | None, typer.Option("--description", "-d", help="for people")]
EndpointsOption = Annotated[list[str] | None, typer.Option("--endpoint", "-e", help="in it; with change: these and no others")]
PoolsOption = Annotated[list[str] | None, typer.Option("--pool", "-p", help="its endpoints take addresses from; these and no others")]


@endpoint.command("add")
def add_endpoint(
    name: str,
    node: str,
    interface: str,
    cluster: ClusterOption = "default",
    description: DescriptionOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Name the NIC of a node."""
    body = {"name": name, "cluster": cluster, "node": node, "interface": interface, "description": description or ""}
    show.said(f"endpoint {name} added", client.call("POST", "/v1/endpoints", body), output)


@endpoint.command("list")
def list_endpoints(output: OutputOption = Output.TABLE) -> None:
    """All endpoints, also NICs that nobody claimed."""
    show.rows(client.items("/v1/endpoints"), ENDPOINT_COLUMNS, output)


@endpoint.command("show")
def show_endpoint(name: str, output: OutputOption = Output.TABLE) -> None:
    """One endpoint."""
    show.one(client.call("GET", client.path("endpoints", name)), output)


@endpoint.command("change")
def change_endpoint(name: str, description: DescriptionOption = None, output: OutputOption = Output.TABLE) -> None:
    """Describe an endpoint."""
    body = {} if description is None else {"description": description}
    show.said(f"endpoint {name} changed", client.call("PATCH", client.path("endpoints", name), body), output)


@endpoint.command("delete")
def delete_endpoint(name: str, output: OutputOption = Output.TABLE) -> None:
    """Forget the name of a NIC that is in no zone."""
    show.said(f"endpoint {name} deleted", client.call("DELETE", client.path("endpoints", name)), output)


@zone.command("add")
def add_zone(
    name: str,
    cluster: ClusterOption = "default",
    endpoints: EndpointsOption = None,
    pools: PoolsOption = None,
    description: DescriptionOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a group of endpoints."""
    body = {"name": name, "description": description or "", "endpoints": endpoints or [], "pools": pools or []}
    show.said(f"zone {name} added to cluster {cluster}", client.call("POST", client.path("clusters", cluster, "zones"), body), output)


@zone.command("list")
def list_zones(cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """The zones of a cluster."""
    show.rows(client.items(client.path("clusters", cluster, "zones")), ZONE_COLUMNS, output)


@zone.command("show")
def show_zone(name: str, cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """One zone."""
    show.one(client.call("GET", client.path("clusters", cluster, "zones", name)), output)


@zone.command("change")
def change_zone(
    name: str,
    cluster: ClusterOption = "default",
    endpoints: EndpointsOption = None,
    pools: PoolsOption = None,
    description: DescriptionOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is named; the rest stays."""
    optional = {"description": description, "endpoints": endpoints, "pools": pools}
    body = {field: value for field, value in optional.items() if value is not None}
    changed = client.call("PATCH", client.path("clusters", cluster, "zones", name), body)
    show.said(f"zone {name} of cluster {cluster} changed", changed, output)


@zone.command("delete")
def delete_zone(name: str, cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """Remove a zone; its endpoints stay, in no zone."""
    gone = client.call("DELETE", client.path("clusters", cluster, "zones", name))
    show.said(f"zone {name} of cluster {cluster} deleted", gone, output)
