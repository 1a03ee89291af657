"""Where a login is kept, and how the manager's certificate comes to be trusted."""

import hashlib
import os
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2
import msgspec

from fabricmgr.cli.failure import NOT_LOGGED_IN, UNREACHABLE, USAGE, Failure


@dataclass(frozen=True)
class Login:
    """url: of the manager. authorities: PEM of the CAs to trust, "" for the system's. token: of the session."""

    url: str
    authorities: str
    token: str
    account: str


def path() -> Path:
    """FABRICMGR_LOGIN, else below the user's configuration directory."""
    given = os.environ.get("FABRICMGR_LOGIN")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "fabricmgr" / "login.json"


def load() -> Login:
    """The stored login. Raises Failure when there is none."""
    try:
        return msgspec.json.decode(path().read_bytes(), type=Login)
    except FileNotFoundError:
        raise Failure("not logged in: run `fabricmgr login URL` first", NOT_LOGGED_IN) from None
    except (msgspec.DecodeError, PermissionError) as error:
        raise Failure(f"the login in {path()} cannot be read ({error}): run `fabricmgr login URL` again", NOT_LOGGED_IN) from None


def store(login: Login) -> None:
    """Keep it, readable by this user alone, in one step."""
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = target.with_suffix(".new")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(msgspec.json.encode(asdict(login)))
    aside.rename(target)


def forget() -> None:
    """Remove the stored login."""
    path().unlink(missing_ok=True)


def trust(authorities: str) -> ssl.SSLContext:
    """Trust these CAs alone, or the system's when empty."""
    if not authorities:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=authorities)
    except ssl.SSLError:
        raise Failure("the CA file holds no certificate in PEM form", USAGE) from None


def presented_authorities(url: str) -> str:
    """The CAs the manager at `url` shows, asked for over a connection that is not verified: nothing secret goes over it."""
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    try:
        with httpx2.Client(verify=unverified, trust_env=False, timeout=10) as client:
            answer = client.get(f"{url}/v1/authorities")
            answer.raise_for_status()
    except httpx2.HTTPError as error:
        raise Failure(f"the manager at {url} cannot be reached: {error}", UNREACHABLE) from None
    return answer.text


def fingerprints(authorities: str) -> list[str]:
    """SHA-256 of each certificate's DER form, in hex."""
    end = "-----END CERTIFICATE-----"
    blocks = [part[part.index("-----BEGIN") :] + end for part in authorities.split(end) if "-----BEGIN" in part]
    return [hashlib.sha256(ssl.PEM_cert_to_DER_cert(block)).hexdigest() for block in blocks]
