"""`fabricmgr account certificate`, `account authority`, `account client-login` and `account lockout`: how accounts log in."""

from pathlib import Path
from typing import Annotated

import typer

from fabricmgr.cli import client, show
from fabricmgr.cli.failure import USAGE, Failure
from fabricmgr.cli.show import Output, OutputOption

certificate = typer.Typer(help="Certificates by which an account logs in.", no_args_is_help=True)
authority = typer.Typer(help="CAs whose certificates name the account that logs in.", no_args_is_help=True)

COLUMNS: show.Columns = {"FINGERPRINT": "fingerprint", "SUBJECT": "subject", "ISSUER": "issuer", "UNTIL": "not_after"}
File = Annotated[Path, typer.Argument(help="the certificate, PEM; without its key")]
Fingerprint = Annotated[str, typer.Argument(help="SHA-256, as the list shows it")]


def _read(file: Path) -> str:
    """A key never leaves this machine. Raises Failure."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"certificate file {file}: {error}", USAGE) from None
    if "PRIVATE KEY" in text:
        raise Failure(f"certificate file {file}: it has a private key in it; give a file with the certificate alone", USAGE)
    return text


@certificate.command("list")
def list_certificates(account: str, output: OutputOption = Output.TABLE) -> None:
    """Those of an account."""
    show.rows(client.items(client.path("accounts", account, "certificates")), COLUMNS, output)


@certificate.command("add")
def add_certificate(account: str, file: File, output: OutputOption = Output.TABLE) -> None:
    """Let whoever has this certificate's key log in as the account."""
    made = client.call("POST", client.path("accounts", account, "certificates"), {"certificate": _read(file)})
    show.said(f"account {account} logs in by certificate {made['fingerprint']}", made, output)


@certificate.command("remove")
def remove_certificate(account: str, fingerprint: Fingerprint, output: OutputOption = Output.TABLE) -> None:
    """It counts no more, at once."""
    gone = client.call("DELETE", client.path("accounts", account, "certificates", fingerprint))
    show.said(f"certificate {fingerprint} of account {account} removed", gone, output)


@authority.command("list")
def list_authorities(output: OutputOption = Output.TABLE) -> None:
    """All that are trusted."""
    show.rows(client.items("/v1/client-authorities"), COLUMNS, output)


@authority.command("add")
def add_authority(file: File, output: OutputOption = Output.TABLE) -> None:
    """Trust a CA to say who somebody is."""
    made = client.call("POST", "/v1/client-authorities", {"certificate": _read(file)})
    show.said(f"certificates of CA {made['fingerprint']} name accounts", made, output)


@authority.command("remove")
def remove_authority(fingerprint: Fingerprint, output: OutputOption = Output.TABLE) -> None:
    """Its certificates count no more, at once."""
    gone = client.call("DELETE", client.path("client-authorities", fingerprint))
    show.said(f"CA {fingerprint} removed", gone, output)


def client_login(
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="whether accounts log in by certificate")] = None,
    mapping: Annotated[str | None, typer.Option(help="what names the account: Whole, CommonName or UserPrincipalName")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show or change whether accounts log in by certificate."""
    body = {field: value for field, value in {"enabled": enabled, "mapping": mapping}.items() if value is not None}
    if not body:
        show.one(client.call("GET", "/v1/client-login"), output)
        return
    changed = client.call("PATCH", "/v1/client-login", body)
    state = "on" if changed["enabled"] else "off"
    show.said(f"login by client certificate is {state}, accounts are named by {changed['mapping']}", changed, output)


def lockout(
    attempts: Annotated[int | None, typer.Option(help="wrong passwords before an account waits; 0: never")] = None,
    seconds: Annotated[int | None, typer.Option(help="how long it waits; 0: not at all")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say for all managers when wrong passwords lock an account out, in place of their settings."""
    body = {name: value for name, value in {"lockout_attempts": attempts, "lockout_seconds": seconds}.items() if value is not None}
    if not body:
        show.one(client.call("GET", "/v1/client-login"), output)
        return
    show.said("the lockout of accounts is changed, at every manager", client.call("PATCH", "/v1/client-login", body), output)
