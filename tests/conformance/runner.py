"""Runs DMTF's suites against a manager that listens, one process a suite."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.conformance.venv import programs
from tests.conformance.verdict import Result

CHECKOUT = Path(__file__).parents[2]
OWN_SCHEMAS = CHECKOUT / "redfish_schemas" / "csdl"
PROFILE = CHECKOUT / "redfish_schemas" / "fabricmgr-profile.json"
SUITES = ("protocol", "sse", "service", "usecase", "interop")
LONGEST = 900.0  # seconds a suite may take
# They would send the tools' requests elsewhere, or have them trust others.
_DISTURBING = ("proxy", "ca_bundle", "ssl_cert")


class BundleRefused(Exception):
    """A folder that is no copy of DMTF's schemas. reason: what it lacks."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(f"REDFISH_SCHEMAS={folder}: {reason}; `make dmtf-schemas` fetches them")


def bundle(folder: str) -> Path:
    """DMTF's schemas. Raises BundleRefused."""
    if not folder:
        raise BundleRefused(folder, "it is not set")
    place = Path(folder).resolve()
    if not (place / "csdl" / "ServiceRoot_v1.xml").exists():
        raise BundleRefused(folder, "there is no csdl/ServiceRoot_v1.xml")
    return place


@dataclass(frozen=True)
class Target:
    """A service, an account of it that may do all, and the file of the CA certificates that its own is checked by."""

    url: str
    user: str
    password: str
    authorities: Path


def run(target: Target, schemas: Path, out: Path, suites: Sequence[str] = SUITES) -> Iterator[Result]:
    """Each suite's result as it comes. schemas: DMTF's bundle. out: a folder for their reports and logs."""
    out.mkdir(parents=True, exist_ok=True)
    job = {
        "url": target.url.rstrip("/"),
        "user": target.user,
        "password": target.password,
        "authorities": str(target.authorities.resolve()),
        "schemas": str(_all_schemas(schemas, out)),
        "profile": str(PROFILE),
        "out": str(out.resolve()),
    }
    for suite in suites:
        yield _suite(suite, json.dumps(job), environment(target.authorities), out)


def _suite(suite: str, job: str, variables: dict[str, str], out: Path) -> Result:
    written, log = out / f"{suite}.json", out / f"{suite}.log"
    written.unlink(missing_ok=True)
    command = [str(programs() / "python"), "-m", "tests.conformance.suites", suite]
    try:
        with log.open("w") as told:
            done = subprocess.run(
                command, input=job, text=True, stdout=told, stderr=told, cwd=out, env=variables, timeout=LONGEST, check=False
            )
    except subprocess.TimeoutExpired:
        return Result(suite, seconds=LONGEST, trouble=f"not done within {LONGEST:.0f} s")
    if not written.exists():
        said = log.read_text(errors="replace").strip().splitlines()
        return Result(suite, trouble=f"exit {done.returncode}: {said[-1] if said else 'nothing was said'} ({log})")
    return msgspec.json.decode(written.read_bytes(), type=Result)


def environment(authorities: Path) -> dict[str, str]:
    """For a program in the tools' environment: no proxy, and no CA but the service's."""
    kept = {name: value for name, value in os.environ.items() if not any(part in name.lower() for part in _DISTURBING)}
    return kept | {"PYTHONPATH": str(CHECKOUT), "REQUESTS_CA_BUNDLE": str(authorities.resolve()), "NO_COLOR": "1", "NO_PROXY": "*"}


def _all_schemas(schemas: Path, out: Path) -> Path:
    """One folder with DMTF's CSDL files and ours, by links."""
    together = out.resolve() / "schemas"
    together.mkdir(exist_ok=True)
    for old in together.iterdir():
        old.unlink()
    for source in (*(schemas / "csdl").glob("*.xml"), *OWN_SCHEMAS.glob("*.xml")):
        link = together / source.name
        link.unlink(missing_ok=True)
        link.symlink_to(source.resolve())
    return together
