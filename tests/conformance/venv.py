"""Where DMTF's tools and other people's Redfish software are installed: environments of their own, outside the checkout.

One's name has the digest of what it holds, so that another lock file gets another one, and checkouts with the same share it."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

LOCK = Path(__file__).with_name("requirements.lock")


class ToolsMissing(Exception):
    """The environment can't be made. reason: pip's last words."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"what {LOCK.name} names could not be installed: {reason}")


def folder(lock: Path) -> Path:
    """The environment's place, whether it is made or not."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    content = lock.read_bytes() + sys.version.encode()
    return cache_home / "fabricmgr" / f"{lock.parent.name}-{hashlib.sha256(content).hexdigest()[:16]}"


@cache
def programs(lock: Path = LOCK) -> Path:
    """The bin folder of the environment that holds what a lock file names; made first if it is not there. Raises ToolsMissing."""
    place = folder(lock)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as held:
        # Two runs that begin at once make it once.
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (place / "made").exists():
            _make(place, lock)
    return place / "bin"


def _make(place: Path, lock: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(place))
    pip = (str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input")
    _run(*pip, "install", "-q", "--require-hashes", "-r", str(lock))
    (place / "made").touch()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolsMissing(" / ".join((done.stderr or done.stdout).strip().splitlines()[-3:]) or f"exit {done.returncode}")
