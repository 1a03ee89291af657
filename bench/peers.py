"""The plugins we are measured against: the newest bridge and host-local where Go can build them, else Debian's."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

VERSION = "v1.9.1"
MODULE = "github.com/containernetworking/plugins/plugins"
PARTS = ("main/bridge", "ipam/host-local")
DEBIAN = Path("/usr/lib/cni")


@dataclass(frozen=True)
class Peer:
    """The folder of the plugins and the name a figure carries."""

    folder: Path
    name: str


def peer(build: Path, parts: Sequence[str] = PARTS) -> Peer:
    """Build these parts once into a folder and reuse it. SystemExit where there is neither Go nor Debian's package."""
    folder = build / f"cni-plugins-{VERSION}"
    if shutil.which("go") and built(folder, parts):
        return Peer(folder, f"Go bridge + host-local {VERSION} (go install, {go_version()})")
    if (DEBIAN / "bridge").exists():
        return Peer(DEBIAN, f"Go bridge + host-local {debian_version()} (Debian)")
    raise SystemExit("no peer to measure against: install Go, or Debian's package containernetworking-plugins")


def built(folder: Path, parts: Sequence[str] = PARTS) -> bool:
    """Whether the folder holds them; builds what lacks. A module proxy that can't be reached is no error: Debian's are there."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOBIN": str(folder.resolve()), "GOTOOLCHAIN": "local"}
    for part in parts:
        if (folder / part.rpartition("/")[2]).exists():
            continue
        print(f"building {MODULE}/{part}@{VERSION}", flush=True)
        done = subprocess.run(["go", "install", f"{MODULE}/{part}@{VERSION}"], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"  not built: {done.stderr.strip().splitlines()[-1] if done.stderr else 'no reason given'}")
            return False
    return True


def go_version() -> str:
    return subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()


def debian_version() -> str:
    query = ["dpkg-query", "-W", "-f", "${Version}", "containernetworking-plugins"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
