"""`fabricmgr login`, `logout` and `account`."""

from pathlib import Path
from typing import Annotated

import typer

from fabricmgr.cli import client, client_certificates, login, show
from fabricmgr.cli.failure import USAGE, Failure
from fabricmgr.cli.show import Output, OutputOption

account = typer.Typer(help="Accounts: who may do what.", no_args_is_help=True)
account.add_typer(client_certificates.certificate, name="certificate")
account.add_typer(client_certificates.authority, name="authority")
account.command("client-login")(client_certificates.client_login)
account.command("lockout")(client_certificates.lockout)

COLUMNS: show.Columns = {
    "NAME": "name",
    "ROLE": "role",
    "ENABLED": "enabled",
    "MUST CHANGE PASSWORD": "must_change",
    "CREATED": "created_at",
}
PasswordFile = Annotated[Path | None, typer.Option(help="a file whose first line is the password; asked for when absent")]


def password_from(file: Path | None, prompt: str, twice: bool = False) -> str:
    """From the file, else from the terminal. It is never an argument, which any user of the machine could read. Raises Failure."""
    if file is None:
        return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=twice))
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise Failure(f"password file {file}: {error.strerror}", USAGE) from None
    if not lines or not lines[0]:
        raise Failure(f"password file {file}: its first line is empty", USAGE)
    return lines[0]


def log_in(
    url: Annotated[str, typer.Argument(help="of the manager")] = "https://127.0.0.1:8443",
    name: Annotated[str, typer.Option("--account", "-a")] = "admin",
    password_file: PasswordFile = None,
    ca: Annotated[Path | None, typer.Option(help="file with the CA to trust, such as DATA_DIR/ca.pem of the manager")] = None,
    fingerprint: Annotated[str | None, typer.Option(help="SHA-256 of the manager's CA: trust it if it is this one")] = None,
) -> None:
    """Open a session and keep it for the commands that follow."""
    url = url.rstrip("/")
    if not url.startswith("https://"):
        raise Failure(f"url {url!r}: expected https://HOST:PORT", USAGE)
    authorities = _authorities(url, ca, fingerprint)
    body = {"account": name, "password": password_from(password_file, f"Password of {name}")}
    opened = client.send(url, authorities, "POST", "/v1/sessions", body)
    login.store(login.Login(url, authorities, opened["token"], name))
    print(f"logged in to {url} as {name} ({opened['role']})")


def _authorities(url: str, ca: Path | None, fingerprint: str | None) -> str:
    if ca is not None:
        try:
            return ca.read_text()
        except OSError as error:
            raise Failure(f"CA file {ca}: {error.strerror}", USAGE) from None
    presented = login.presented_authorities(url)
    found = login.fingerprints(presented)
    if fingerprint is None:
        typer.confirm(f"The manager at {url} shows a CA with the SHA-256 fingerprint\n  {found[0]}\nTrust it?", abort=True)
        return presented
    wanted = fingerprint.replace(":", "").lower()
    if wanted not in found:
        raise Failure(f"the manager at {url} shows the CA {found[0]}, not {wanted}: this is another manager, or somebody between", USAGE)
    return presented


def log_out() -> None:
    """Close the session and forget it."""
    client.call("DELETE", "/v1/sessions/current")
    login.forget()
    print("logged out")


@account.command("list")
def list_accounts(output: OutputOption = Output.TABLE) -> None:
    """All accounts."""
    show.rows(client.items("/v1/accounts"), COLUMNS, output)


@account.command("add")
def add(
    name: str,
    role: Annotated[str, typer.Option(help="as `fabricmgr role list` shows them")] = "ReadOnly",
    password_file: PasswordFile = None,
    must_change: Annotated[bool, typer.Option("--must-change", help="the password must be changed at the first login")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make an account."""
    password = password_from(password_file, f"Password for {name}", twice=True)
    body = {"name": name, "role": role, "password": password, "must_change": must_change}
    show.said(f"account {name} added with role {role}", client.call("POST", "/v1/accounts", body), output)


@account.command("show")
def show_account(name: str, output: OutputOption = Output.TABLE) -> None:
    """One account."""
    show.one(client.call("GET", client.path("accounts", name)), output)


@account.command("change")
def change(
    name: str,
    role: Annotated[str | None, typer.Option(help="as `fabricmgr role list` shows them")] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change role, or whether it may log in."""
    body = {field: value for field, value in {"role": role, "enabled": enabled}.items() if value is not None}
    show.said(f"account {name} changed", client.call("PATCH", client.path("accounts", name), body), output)


@account.command("password")
def password(
    name: Annotated[str | None, typer.Argument(help="your own when absent")] = None,
    password_file: PasswordFile = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set a password."""
    whose = name or login.load().account
    body = {"password": password_from(password_file, f"New password of {whose}", twice=True)}
    show.said(f"password of {whose} changed", client.call("PATCH", client.path("accounts", whose), body), output)


@account.command("unlock")
def unlock(name: str, output: OutputOption = Output.TABLE) -> None:
    """Let it in again after too many wrong passwords, wherever they came from."""
    show.said(f"account {name} unlocked", client.call("PATCH", client.path("accounts", name), {"unlock": True}), output)


@account.command("delete")
def delete(name: str, output: OutputOption = Output.TABLE) -> None:
    """Remove an account and its sessions."""
    show.said(f"account {name} deleted", client.call("DELETE", client.path("accounts", name)), output)
