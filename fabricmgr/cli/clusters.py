"""`fabricmgr cluster` and `fabricmgr network`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.failure import USAGE, Failure
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


KubeconfigOption = Annotated[Path | None, typer.Option(help="of the API server, with inline credentials; - reads it from stdin")]
InClusterOption = Annotated[bool, typer.Option("--in-cluster", help="the manager runs in this cluster: its pod's service account")]
PodRangeOption = Annotated[list[str] | None, typer.Option("--pod-range", help="where pods' addresses lie, unless the nodes say it")]
ServiceRangeOption = Annotated[
    list[str] | None, typer.Option("--service-range", help="cluster addresses of Services, unless the server says it")
]
ClassLessOption = Annotated[
    bool | None, typer.Option("--class-less/--class-only", help="whether Services without a loadBalancerClass are ours too")
]


def _given(**fields: Any) -> client.Json:
    return {name: value for name, value in fields.items() if value is not None}


def _api(
    kubeconfig: Path | None, in_cluster: bool, pod_range: list[str] | None, service_range: list[str] | None, class_less: bool | None
) -> client.Json:
    return _given(
        kubeconfig=None if kubeconfig is None else _text(kubeconfig),
        in_cluster=in_cluster or None,
        pod_ranges=pod_range or None,
        service_ranges=service_range or None,
        class_less=class_less,
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
def add_cluster(
    name: str,
    kubeconfig: KubeconfigOption = None,
    in_cluster: InClusterOption = False,
    pod_range: PodRangeOption = None,
    service_range: ServiceRangeOption = None,
    class_less: ClassLessOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a cluster; with an API server, it is followed from now on."""
    body = {"name": name, **_api(kubeconfig, in_cluster, pod_range, service_range, class_less)}
    show.said(f"cluster {name} added", client.call("POST", "/v1/clusters", body), output)


@cluster.command("change")
def change_cluster(
    name: str,
    kubeconfig: KubeconfigOption = None,
    in_cluster: InClusterOption = False,
    pod_range: PodRangeOption = None,
    service_range: ServiceRangeOption = None,
    class_less: ClassLessOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give it an API server, or reach the one it has with other credentials."""
    body = _api(kubeconfig, in_cluster, pod_range, service_range, class_less)
    show.said(f"cluster {name} changed", client.call("PATCH", client.path("clusters", name), body), output)


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


MtuOption = Annotated[int | None, typer.Option(help="bytes, 1280 to 65535")]
MasqueradeOption = Annotated[bool | None, typer.Option(help="hide pods behind the node's address towards the outside")]
RoutingOption = Annotated[str | None, typer.Option(help="host-gw: agents lay the routes between nodes; none: the underlay does")]
DecideOption = Annotated[str | None, typer.Option(help="who decides a pod's address: agent, namespaces or manager")]
NamespaceOption = Annotated[list[str] | None, typer.Option("--namespace", help="with `--decide namespaces`: the manager decides for these")]
DirectOption = Annotated[list[str] | None, typer.Option("--direct", help="prefixes reached without masquerade")]
StatusOption = Annotated[str | None, typer.Option(help="whether want of addresses fails CNI STATUS: auto, strict or lenient")]


@network.command("add")
def add_network(
    name: str,
    pool: Annotated[list[str], typer.Option("--pool", "-p", help="a pool to take addresses from, in order of preference")],
    cluster: ClusterOption = "default",
    mtu: MtuOption = None,
    masquerade: MasqueradeOption = None,
    routing: RoutingOption = None,
    decide: DecideOption = None,
    namespace: NamespaceOption = None,
    direct: DirectOption = None,
    status_policy: StatusOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a network over one or more pools."""
    body = _given(
        name=name,
        pools=pool,
        mtu=mtu,
        masquerade=masquerade,
        routing=routing,
        decide=decide,
        namespaces=namespace,
        direct=direct,
        status_policy=status_policy,
    )
    made = client.call("POST", client.path("clusters", cluster, "networks"), body)
    show.said(f"network {name} added to cluster {cluster}", made, output)


@network.command("change")
def change_network(
    name: str,
    cluster: ClusterOption = "default",
    pool: Annotated[list[str] | None, typer.Option("--pool", "-p", help="all pools, in order of preference")] = None,
    mtu: MtuOption = None,
    masquerade: MasqueradeOption = None,
    routing: RoutingOption = None,
    decide: DecideOption = None,
    namespace: NamespaceOption = None,
    direct: DirectOption = None,
    status_policy: StatusOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is named; the rest stays."""
    body = _given(
        pools=pool,
        mtu=mtu,
        masquerade=masquerade,
        routing=routing,
        decide=decide,
        namespaces=namespace,
        direct=direct,
        status_policy=status_policy,
    )
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
