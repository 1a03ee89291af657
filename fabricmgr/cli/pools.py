"""`fabricmgr pool`."""

from typing import Annotated

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.failure import USAGE, Failure
from fabricmgr.cli.show import Output, OutputOption

pool = typer.Typer(help="Pools: addresses one may allocate from.", no_args_is_help=True)

COLUMNS: show.Columns = {
    "NAME": "name",
    "CLUSTER": "cluster",
    "PURPOSE": "purpose",
    "PREFIXES": lambda row: [p["prefix"] for p in row["prefixes"]],
    "COOLDOWN": lambda row: f"{row['cooldown_seconds']:g} s",
}
USAGE_COLUMNS: show.Columns = {
    "POOL": "pool",
    "FAMILY": "family",
    "TOTAL": "total",
    "HELD": "held",
    "RESERVED": "reserved",
    "COOLING": "cooling",
    "IDLE IN BLOCKS": "idle",
    "FREE": "free",
}
BLOCK_COLUMNS: show.Columns = {"BLOCK": "prefix", "STATE": "state", "NODE": "node", "CLAIM": "claim", "SINCE": "since"}


def _split(prefix: str) -> tuple[str, str]:
    address, slash, length = prefix.partition("/")
    if not slash:
        raise Failure(f"prefix {prefix!r}: expected a CIDR such as 10.0.0.0/16", USAGE)
    return address, length


def _reservation(given: str) -> client.Json:
    prefix, _, reason = given.partition("=")
    return {"prefix": prefix, "reason": reason or "reserved"}


WarningOption = Annotated[int | None, typer.Option(help="percent of what can be assigned, at which a warning is told")]
CriticalOption = Annotated[int | None, typer.Option(help="percent of what can be assigned, at which it becomes critical")]


NamespacesOption = Annotated[list[str] | None, typer.Option("--namespaces", help="only pods or Services of these namespaces")]
NamespaceLabelOption = Annotated[list[str] | None, typer.Option("--namespace-label", help="KEY=VALUE or KEY: of namespaces so labelled")]
NodeLabelOption = Annotated[list[str] | None, typer.Option("--node-label", help="KEY=VALUE or KEY: only on nodes so labelled")]
ServiceLabelOption = Annotated[list[str] | None, typer.Option("--service-label", help="KEY=VALUE or KEY: only Services so labelled")]
PriorityOption = Annotated[int | None, typer.Option(help="of pools that match, the higher one is asked first")]
AutoAssignOption = Annotated[
    bool | None, typer.Option("--auto-assign/--no-auto-assign", help="without it, the pool is taken only where an annotation names it")
]


def _selectors(
    namespaces: list[str] | None, namespace_label: list[str] | None, node_label: list[str] | None, service_label: list[str] | None
) -> client.Json | None:
    """None where nothing is named. `--namespaces ""` and the like select nothing."""
    given = {"namespace_labels": namespace_label, "node_labels": node_label, "services": service_label}
    if namespaces is None and all(labels is None for labels in given.values()):
        return None
    found: client.Json = {name: _labels(labels) for name, labels in given.items() if labels}
    named = [name for each in namespaces or [] for name in each.split(",") if name]
    return found | ({"namespaces": named} if named else {})


def _labels(texts: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if key:
            found.setdefault(key, []).extend([value] if equals else [])
    return found


@pool.command("add")
def add(
    name: str,
    prefixes: Annotated[list[str], typer.Argument(help="CIDRs of one or both families")],
    cluster: Annotated[str | None, typer.Option("--cluster", "-c", help="the only cluster that may use it")] = None,
    scope: Annotated[int | None, typer.Option(help="another address space: only where two networks are really apart")] = None,
    purpose: Annotated[str, typer.Option(help="Pod, Service, Node, FabricLink, Loopback or Management")] = "Pod",
    block_length: Annotated[int | None, typer.Option(help="prefix length of the blocks that nodes claim")] = None,
    cooldown: Annotated[float | None, typer.Option(help="seconds a released address rests")] = None,
    reserve: Annotated[list[str] | None, typer.Option(help="CIDR=REASON, never handed out")] = None,
    central: Annotated[bool, typer.Option("--central", help="no blocks for nodes: every address is decided by the manager")] = False,
    warning: WarningOption = None,
    critical: CriticalOption = None,
    namespaces: NamespacesOption = None,
    namespace_label: NamespaceLabelOption = None,
    node_label: NodeLabelOption = None,
    service_label: ServiceLabelOption = None,
    priority: PriorityOption = None,
    auto_assign: AutoAssignOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a pool of one or more CIDRs."""
    drafts = [_prefix(prefix, block_length, central) for prefix in prefixes]
    optional: client.Json = {"cluster": cluster, "scope": scope, "cooldown_seconds": cooldown, "warning": warning, "critical": critical}
    optional |= {"selectors": _selectors(namespaces, namespace_label, node_label, service_label)}
    optional |= {"priority": priority, "auto_assign": auto_assign}
    body = {
        "name": name,
        "purpose": purpose,
        "prefixes": drafts,
        "reservations": [_reservation(given) for given in reserve or []],
        **{field: value for field, value in optional.items() if value is not None},
    }
    show.said(f"pool {name} added: {', '.join(prefixes)}", client.call("POST", "/v1/pools", body), output)


def _prefix(prefix: str, block_length: int | None, central: bool) -> client.Json:
    optional = {"block_length": block_length, "central": central or None}
    return {"prefix": prefix, **{field: value for field, value in optional.items() if value is not None}}


@pool.command("list")
def list_pools(
    cluster: Annotated[str | None, typer.Option("--cluster", "-c")] = None,
    purpose: Annotated[str | None, typer.Option()] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """All pools, or those of a cluster or purpose."""
    show.rows(client.items("/v1/pools", {"cluster": cluster, "purpose": purpose}), COLUMNS, output)


@pool.command("show")
def show_pool(name: str, output: OutputOption = Output.TABLE) -> None:
    """One pool with its prefixes and reservations."""
    show.one(client.call("GET", client.path("pools", name)), output)


@pool.command("change")
def change(
    name: str,
    cooldown: Annotated[float | None, typer.Option(help="seconds a released address rests")] = None,
    reuse_early: Annotated[bool | None, typer.Option(help="rather than fail, take the address that has cooled longest")] = None,
    draining: Annotated[bool | None, typer.Option(help="hand out nothing more from this pool")] = None,
    warning: WarningOption = None,
    critical: CriticalOption = None,
    namespaces: NamespacesOption = None,
    namespace_label: NamespaceLabelOption = None,
    node_label: NodeLabelOption = None,
    service_label: ServiceLabelOption = None,
    priority: PriorityOption = None,
    auto_assign: AutoAssignOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change what is named; the rest stays. Selectors are replaced as a whole: `--namespaces ""` alone takes them away."""
    optional: client.Json = {"cooldown_seconds": cooldown, "reuse_early": reuse_early, "draining": draining}
    optional |= {"warning": warning, "critical": critical}
    optional |= {"selectors": _selectors(namespaces, namespace_label, node_label, service_label)}
    optional |= {"priority": priority, "auto_assign": auto_assign}
    body = {field: value for field, value in optional.items() if value is not None}
    show.said(f"pool {name} changed", client.call("PATCH", client.path("pools", name), body), output)


@pool.command("delete")
def delete(name: str, output: OutputOption = Output.TABLE) -> None:
    """Remove a pool of which nothing is held."""
    show.said(f"pool {name} deleted", client.call("DELETE", client.path("pools", name)), output)


@pool.command("grow")
def grow(
    name: str,
    prefix: str,
    block_length: Annotated[int | None, typer.Option(help="prefix length of the blocks that nodes claim")] = None,
    central: Annotated[bool, typer.Option("--central", help="no blocks for nodes in this prefix")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add a CIDR to a pool."""
    grown = client.call("POST", client.path("pools", name, "prefixes"), _prefix(prefix, block_length, central))
    show.said(f"pool {name} has {prefix} now", grown, output)


@pool.command("shrink")
def shrink(name: str, prefix: str, output: OutputOption = Output.TABLE) -> None:
    """Take a CIDR away of which nothing is held."""
    gone = client.call("DELETE", client.path("pools", name, "prefixes", *_split(prefix)))
    show.said(f"pool {name} is without {prefix} now", gone, output)


@pool.command("reserve")
def reserve(
    name: str,
    prefix: str,
    reason: Annotated[str, typer.Option(help="why, for those who ask later")] = "reserved",
    output: OutputOption = Output.TABLE,
) -> None:
    """Never hand out these addresses."""
    made = client.call("POST", client.path("pools", name, "reservations"), {"prefix": prefix, "reason": reason})
    show.said(f"{prefix} of pool {name} is reserved", made, output)


@pool.command("unreserve")
def unreserve(name: str, prefix: str, output: OutputOption = Output.TABLE) -> None:
    """Lift a reservation."""
    gone = client.call("DELETE", client.path("pools", name, "reservations", *_split(prefix)))
    show.said(f"{prefix} of pool {name} may be handed out again", gone, output)


@pool.command("usage")
def usage(name: Annotated[str | None, typer.Argument(help="all pools when absent")] = None, output: OutputOption = Output.TABLE) -> None:
    """How full a pool is: total, held, reserved, cooling, idle in nodes' blocks, free."""
    names = [name] if name else [row["name"] for row in client.items("/v1/pools")]
    found = ({"pool": each, **row} for each in names for row in client.call("GET", client.path("pools", each, "usage"))["items"])
    show.rows(found, USAGE_COLUMNS, output)


@pool.command("blocks")
def blocks(name: str, output: OutputOption = Output.TABLE) -> None:
    """Blocks of a pool, with state and holder."""
    show.rows(client.items(client.path("pools", name, "blocks")), BLOCK_COLUMNS, output)
