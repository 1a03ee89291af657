"""The command: picks the room that serves it, so that a quick one does not load the others."""

import sys
from collections.abc import Sequence

from fabricmgr import __version__

_ABOUT = """usage: fabricmgr serve                  run the manager
       fabricmgr agent                  run on a node; `fabricmgr agent --help` for join, status, install
       fabricmgr account reset          a new password for a locked-out administrator, on the manager's machine
       fabricmgr login | logout         open and close a session with a manager
       fabricmgr cluster | network | pool | node | allocation | event | account VERB
       fabricmgr who-had ADDRESS        who has or had an address
       fabricmgr --version
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Gives back its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("help", "--help", "-h"):
        print(_ABOUT, end="")
        return 0 if given else 2
    if given[0] in ("--version", "version"):
        print(f"fabricmgr {__version__}")
        return 0
    return _run(given)


def _run(given: list[str]) -> int:
    if given[0] == "serve" or given[:2] == ["account", "reset"]:
        from fabricmgr.app import command as app

        return app.main(given)
    if given[0] == "agent":
        from fabricmgr.agent import command as agent

        return agent.main(given[1:])
    from fabricmgr.cli import command as cli

    return cli.main(given)


if __name__ == "__main__":
    sys.exit(main())
