"""`fabricmgr cluster` and `fabricmgr network`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.failure import USAGE, Failure
from fabricmgr.cli.shared import spread
from fabricmgr.cli.show import Output, OutputOption

ClusterOption = Annotated[str, typer.Option("--cluster", "-c", help="the cluster it belongs to")]

cluster = typer.Typer(help="Clusters: what shares networks and nodes.", no_args_is_help=True)
network = typer.Typer(help="Networks: what a CNI configuration names.", no_args_is_help=True)

CLUSTER_COLUMNS: show.Columns = {
    "NAME": "name",
    "API SERVER": "server",
    "STATE": "state",
    "CREATED": "created_at",
    "VERSION": "version",
}
NETWORK_COLUMNS: show.Columns = {
    "NAME": "name",
    "CLUSTER": "cluster",
    "POOLS": "pools",
    "MTU": "mtu",
    "MASQUERADE": "masquerade",
    "ROUTING": "routing",
    "DECIDE": "decide",
}


def _given(**fields: Any) -> client.Json:
    return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class ApiOptions:
    """How a cluster's API server is reached."""

    kubeconfig: Annotated[Path | None, typer.Option(help="of the API server, with inline credentials; - reads it from stdin")] = None
    in_cluster: Annotated[bool, typer.Option("--in-cluster", help="the manager runs in this cluster: its pod's service account")] = False
    pod_range: Annotated[list[str] | None, typer.Option(help="where pods' addresses lie, unless the nodes say it")] = None
    service_range: Annotated[list[str] | None, typer.Option(help="cluster addresses of Services, unless the server says it")] = None
    class_less: Annotated[
        bool | None, typer.Option("--class-less/--class-only", help="whether Services without a loadBalancerClass are ours too")
    ] = None

    def fields(self) -> client.Json:
        """Those that are given, as /v1 has them."""
        return _given(
            kubeconfig=None if self.kubeconfig is None else _text(self.kubeconfig),
            in_cluster=self.in_cluster or None,
            pod_ranges=self.pod_range or None,
            service_ranges=self.service_range or None,
            class_less=self.class_less,
        )


def _text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path} cannot be read: {error}", USAGE) from None


def _row(found: client.Json) -> client.Json:
    api = found.get("api") or {}
    return {**found, "server": api.get("server"), "state": api.get("state")}


@cluster.command("add")
@spread
def add_cluster(name: str, api: ApiOptions, output: OutputOption = Output.TABLE) -> None:
    """Make a cluster; with an API server, it is followed from now on."""
    show.said(f"cluster {name} added", client.call("POST", "/v1/clusters", {"name": name, **api.fields()}), output)


@cluster.command("change")
@spread
def change_cluster(name: str, api: ApiOptions, output: OutputOption = Output.TABLE) -> None:
    """Give it an API server, or reach the one it has with other credentials."""
    show.said(f"cluster {name} changed", client.call("PATCH", client.path("clusters", name), api.fields()), output)


@cluster.command("forget-api")
def forget_api(name: str, output: OutputOption = Output.TABLE) -> None:
    """Follow its API server no more, and forget its credentials."""
    gone = client.call("DELETE", client.path("clusters", name, "api"))
    show.said(f"the API server of cluster {name} is followed no more", gone, output)


@cluster.command("list")
def list_clusters(output: OutputOption = Output.TABLE) -> None:
    """All clusters."""
    show.rows((_row(each) for each in client.items("/v1/clusters")), CLUSTER_COLUMNS, output)


@cluster.command("show")
def show_cluster(name: str, output: OutputOption = Output.TABLE) -> None:
    """One cluster."""
    show.one(client.call("GET", client.path("clusters", name)), output)


@cluster.command("delete")
def delete_cluster(name: str, output: OutputOption = Output.TABLE) -> None:
    """Remove a cluster that has neither network, node nor pool."""
    show.said(f"cluster {name} deleted", client.call("DELETE", client.path("clusters", name)), output)


@dataclass(frozen=True)
class NetworkOptions:
    """What of a network may be left out, and be changed."""

    mtu: Annotated[int | None, typer.Option(help="bytes, 1280 to 65535")] = None
    masquerade: Annotated[bool | None, typer.Option(help="hide pods behind the node's address towards the outside")] = None
    routing: Annotated[str | None, typer.Option(help="host-gw: agents lay the routes between nodes; none: the underlay does")] = None
    decide: Annotated[str | None, typer.Option(help="who decides a pod's address: agent, namespaces or manager")] = None
    namespace: Annotated[list[str] | None, typer.Option(help="with `--decide namespaces`: the manager decides for these")] = None
    direct: Annotated[list[str] | None, typer.Option(help="prefixes reached without masquerade")] = None
    status_policy: Annotated[str | None, typer.Option(help="whether want of addresses fails CNI STATUS: auto, strict or lenient")] = None

    def fields(self) -> client.Json:
        """Those that are given, as /v1 has them."""
        named = vars(self)
        return _given(namespaces=self.namespace, **{name: value for name, value in named.items() if name != "namespace"})


@network.command("add")
@spread
def add_network(
    name: str,
    pool: Annotated[list[str], typer.Option("--pool", "-p", help="a pool to take addresses from, in order of preference")],
    options: NetworkOptions,
    cluster: ClusterOption = "default",
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a network over one or more pools."""
    body = {"name": name, "pools": pool, **options.fields()}
    made = client.call("POST", client.path("clusters", cluster, "networks"), body)
    show.said(f"network {name} added to cluster {cluster}", made, output)


@network.command("change")
@spread
def change_network(
    name: str,
    options: NetworkOptions,
    cluster: ClusterOption = "default",
    pool: Annotated[list[str] | None, typer.Option("--pool", "-p", help="all pools, in order of preference")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is named; the rest stays."""
    body = {**_given(pools=pool), **options.fields()}
    changed = client.call("PATCH", client.path("clusters", cluster, "networks", name), body)
    show.said(f"network {name} of cluster {cluster} changed", changed, output)


@network.command("list")
def list_networks(cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """The networks of a cluster."""
    show.rows(client.items(client.path("clusters", cluster, "networks")), NETWORK_COLUMNS, output)


@network.command("show")
def show_network(name: str, cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """One network."""
    show.one(client.call("GET", client.path("clusters", cluster, "networks", name)), output)


@network.command("delete")
def delete_network(name: str, cluster: ClusterOption = "default", output: OutputOption = Output.TABLE) -> None:
    """Remove a network that no attachment uses."""
    gone = client.call("DELETE", client.path("clusters", cluster, "networks", name))
    show.said(f"network {name} of cluster {cluster} deleted", gone, output)
