"""`fabricmgr serve` and `fabricmgr account reset`: what is done on the manager's machine."""

import asyncio
import os
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from fabricmgr.app.refusal import Refusal
from fabricmgr.domain.errors import FabricError, SettingRefused, UnknownSetting
from fabricmgr.problems import sentence
from fabricmgr.settings import ManagerSettings, load, usage

_RESET = """usage: fabricmgr account reset [NAME] [--data-dir DIRECTORY] [--database-url URL] [--config FILE]

Gives an administrator (by default `admin`) a new password, which is printed, enables the account and ends its sessions.
To be run on the manager's machine, by the user that the manager runs as; the manager may run meanwhile.
"""


def main(given: Sequence[str]) -> int:
    """given: `serve ...` or `account reset ...`. Gives back the exit code.

    0: done; 1: a bug of ours; 2: what was asked is wrong; 3: the database is; 4: another manager works here."""
    try:
        return _serve(given[1:]) if given[0] == "serve" else _reset(list(given[2:]))
    except (UnknownSetting, SettingRefused) as error:
        return _complain(sentence(error), 2)
    except Refusal as error:
        return _complain(error.sentence, error.code)
    except FabricError as error:
        return _complain(sentence(error), 3)


def _complain(text: str, code: int) -> int:
    print(f"fabricmgr: {text}", file=sys.stderr)
    return code


def _say(text: str) -> None:
    print(f"fabricmgr: {text}", flush=True)


def _serve(arguments: Sequence[str]) -> int:
    if any(each in ("--help", "-h") for each in arguments):
        print(usage(ManagerSettings))
        return 0
    settings = load(ManagerSettings, arguments, os.environ)
    _check_site_certificate(settings)
    from fabricmgr.app.supervisor import Supervisor

    return Supervisor(settings, _say).run()


def _check_site_certificate(settings: ManagerSettings) -> None:
    """Raises Refusal. Before anything else: workers that can't load it would only say so in the log, again and again."""
    if settings.tls_certificate is None:
        return
    from fabricmgr.app import tls  # its libraries would stay in the supervisor's memory for nothing

    try:
        tls.check_site_certificate(settings)
    except ValueError as error:
        raise Refusal(str(error), 2) from None


# --- account reset -------------------------------------------------------------------------------------------------------


def _reset(arguments: list[str]) -> int:
    if any(each in ("--help", "-h") for each in arguments):
        print(_RESET, end="")
        return 0
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "admin"
    settings = load(ManagerSettings, arguments, os.environ)
    from fabricmgr.app import local

    with local.database_url(settings, _say) as url:
        password = asyncio.run(_new_password(url, name))
    print(f"account {name}: the new password is {password}")
    return 0


async def _new_password(url: str, name: str) -> str:
    from fabricmgr.services import accounts
    from fabricmgr.services.passwords import Passwords
    from fabricmgr.store.tx import Database

    def clock() -> datetime:
        return datetime.now(UTC)

    database = await Database.open(url, clock=clock, connections=1, name="account reset")
    passwords = Passwords(secrets.token_bytes(32))
    try:
        return await accounts.reset(database, passwords, name, clock())
    finally:
        passwords.close()
        await database.close()
