"""`fabricmgr explain`, `fabricmgr workload` and `fabricmgr simulate`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.clusters import ClusterOption
from fabricmgr.cli.failure import USAGE, Failure
from fabricmgr.cli.show import Output, OutputOption

explain = typer.Typer(help="Why a pool is taken for a pod or a Service, or not.", no_args_is_help=True)
workload = typer.Typer(help="Workloads: pods that something made together.", no_args_is_help=True)

NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="the namespace it is in")]
REASONS: show.Columns = {
    "NETWORK": "network",
    "POOL": "pool",
    "TAKEN": lambda row: row["place"] if row["taken"] else "no",
    "FREE": lambda row: [f"{family} {count}" for family, count in row["free"].items()],
    "WHY": "why",
}
PEERS: show.Columns = {"POD": "name", "NODE": "node", "ADDRESSES": "addresses", "READY": "ready", "PHASE": "phase"}
OBJECTS: show.Columns = {
    "OBJECT": "object",
    "NAMESPACE": "namespace",
    "FITS": lambda row: "yes" if row["fits"] else "no",
    "TAKES": lambda row: [f"{each['count']} IPv{each['family']} of {each['pool']}" for each in row["taken"]],
    "REASON": "reason",
}
LEFT: show.Columns = {"POOL": "pool", "FAMILY": lambda row: f"IPv{row['family']}", "FREE NOW": "before", "FREE THEN": "after"}


def _explain(kind: str, name: str, namespace: str, cluster: str, output: Output) -> None:
    found = client.call("GET", client.path("clusters", cluster, "explain", kind, namespace, name))["items"]
    if output is Output.TABLE:
        for each in found:
            print(f"{each['network'] or 'Service'}: decided by {each['decides']}{'; ' + each['refused'] if each['refused'] else ''}")
    rows = [{"network": each["network"], **reason} for each in found for reason in each["pools"]]
    show.rows(found if output is Output.JSON else rows, REASONS, output)


@explain.command("pod")
def explain_pod(
    name: str, namespace: NamespaceOption = "default", cluster: ClusterOption = "default", output: OutputOption = Output.TABLE
) -> None:
    """Which pools a pod may have addresses of, in which order, and why not of the others."""
    _explain("pods", name, namespace, cluster, output)


@explain.command("service")
def explain_service(
    name: str, namespace: NamespaceOption = "default", cluster: ClusterOption = "default", output: OutputOption = Output.TABLE
) -> None:
    """The same for a Service of type LoadBalancer."""
    _explain("services", name, namespace, cluster, output)


@workload.command("peers")
def peers(
    name: str,
    namespace: NamespaceOption = "default",
    cluster: ClusterOption = "default",
    kind: Annotated[str | None, typer.Option(help="such as Deployment, where two kinds have one name")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Pods of a workload that hold addresses now."""
    path = client.path("workloads", cluster, namespace, name, "peers")
    found = client.call("GET", path, query={"kind": kind})["items"]
    show.rows(found, PEERS, output)


def simulate(
    file: Annotated[Path, typer.Option("--file", "-f", help="a manifest, as kubectl takes it; - reads it from stdin")],
    namespace: NamespaceOption = "default",
    cluster: ClusterOption = "default",
    network: Annotated[str, typer.Option(help="whose pods they are; the cluster's first by name where it is not named")] = "",
    output: OutputOption = Output.TABLE,
) -> int:
    """Whether a manifest fits, which pools it takes, and what is left then. Nothing changes. Exit code 1: it does not fit."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file} cannot be read: {error}", USAGE) from None
    body = {"manifest": text, "namespace": namespace, "network": network}
    found = client.call("POST", client.path("clusters", cluster, "simulate"), body)
    if output is Output.JSON:
        show.one(found, output)
    else:
        show.rows(found["objects"], OBJECTS, output)
        show.rows(found["left"], LEFT, output)
        verdict = "it fits" if found["fits"] else "it does not fit"
        print("\n".join([*found["passed"], f"{verdict}, with pods in network {found['network']}"]))
    return 0 if found["fits"] else 1
