"""The command line as a whole."""

import sys
from collections.abc import Sequence

import typer

from fabricmgr.cli import accounts, allocations, clusters, events, fabric, nodes, pools, roles, services, tasks, workloads
from fabricmgr.cli.failure import Failure

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Ask and tell the Fabric Manager.")
app.command("login")(accounts.log_in)
app.command("logout")(accounts.log_out)
app.command("who-had")(allocations.who_had)
app.command("simulate")(workloads.simulate)
app.add_typer(workloads.explain, name="explain")
app.add_typer(workloads.workload, name="workload")
app.add_typer(clusters.cluster, name="cluster")
app.add_typer(clusters.network, name="network")
app.add_typer(fabric.endpoint, name="endpoint")
app.add_typer(fabric.zone, name="zone")
app.add_typer(pools.pool, name="pool")
app.add_typer(nodes.node, name="node")
app.add_typer(allocations.allocation, name="allocation")
app.add_typer(events.event, name="event")
app.add_typer(accounts.account, name="account")
app.add_typer(roles.role, name="role")
app.add_typer(services.app, name="service")
app.add_typer(tasks.task, name="task")


def main(arguments: Sequence[str]) -> int:
    """Run one command. Gives back its exit code."""
    try:
        return int(app(list(arguments), prog_name="fabricmgr", standalone_mode=False) or 0)
    except Failure as failure:
        print(f"fabricmgr: {failure}", file=sys.stderr)
        return failure.code
    except typer.Abort:
        print("fabricmgr: stopped", file=sys.stderr)
        return 130
    except typer.TyperException as error:
        print(f"fabricmgr: {error.format_message()}", file=sys.stderr)
        return error.exit_code
