"""`fabricmgr node`."""

from typing import Annotated

import typer

from fabricmgr.cli import client, login, show
from fabricmgr.cli.clusters import ClusterOption
from fabricmgr.cli.show import Output, OutputOption

node = typer.Typer(help="Nodes: machines that run an agent.", no_args_is_help=True)

COLUMNS: show.Columns = {
    "NAME": "name",
    "CLUSTER": "cluster",
    "STATE": "state",
    "ADDRESSES": "addresses",
    "AGENT": "agent_version",
    "SEEN": "seen_at",
}


def _token(name: str, made: client.Json, output: Output) -> None:
    command = f"fabricmgr agent join --manager {login.load().url} --token-file FILE"
    sentence = f"{made['token']}\n\nThe token is good once, until {made['expires_at']}. Put it into a file on {name} and run:\n  {command}"
    show.said(sentence, made, output)


@node.command("add")
def add(name: str, cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """Make a node and print the token with which its agent enrols."""
    _token(name, client.call("POST", client.path("clusters", cluster, "nodes"), {"name": name}), output)


@node.command("token")
def token(name: str, cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """Print a new token: a node that enrols again keeps its blocks."""
    _token(name, client.call("POST", client.path("clusters", cluster, "nodes", name, "token")), output)


@node.command("list")
def list_nodes(cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """The nodes of a cluster."""
    show.rows(client.items(client.path("clusters", cluster, "nodes")), COLUMNS, output)


@node.command("show")
def show_node(name: str, cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """One node."""
    show.one(client.call("GET", client.path("clusters", cluster, "nodes", name)), output)


@node.command("revoke")
def revoke(name: str, cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """Refuse the node's certificates from now on. Frees nothing: its pods may still run."""
    done = client.call("POST", client.path("clusters", cluster, "nodes", name, "revoke"))
    show.said(f"the certificates of node {name} are revoked; its blocks and addresses stay its own", done, output)


@node.command("gone")
def gone(
    name: str,
    cluster: ClusterOption = "default",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give up a node for good: its addresses go to others. If it still runs, two pods will have one address."""
    if not yes:
        typer.confirm(f"Is node {name} really switched off? If it still runs, its pods' addresses will be given to others", abort=True)
    done = client.call("POST", client.path("clusters", cluster, "nodes", name, "gone"))
    show.said(f"node {name} is gone; its addresses are free after their cooldown", done, output)


@node.command("delete")
def delete(name: str, cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """Remove a node that holds nothing."""
    show.said(f"node {name} deleted", client.call("DELETE", client.path("clusters", cluster, "nodes", name)), output)
