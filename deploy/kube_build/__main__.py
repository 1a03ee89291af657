"""Build what the test cluster runs from Go modules: `make cluster-build`. What is built already is left as it is.

Needs Go (see OLDEST_GO) and, for what the module cache lacks, Go's module proxy as `go env GOPROXY` names it; no C compiler.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from deploy.kube_build.groups import COMPLETE, GROUPS, Group, root

OLDEST_GO = (1, 26, 6)
# Where an administrator unpacks Go by its own instructions, which add it to the PATH of logins only.
USUAL_GO = "/usr/local/go/bin/go"
# What a build depends on is in the module files alone: no workspace, no other toolchain fetched, no paths of this machine in the programs.
ENVIRONMENT = {"CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false"}
BEGAN = time.monotonic()


class Refused(Exception):
    """The text is for the person at the console."""


def say(sentence: str) -> None:
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {sentence}", flush=True)


def find_go() -> str:
    """The `go` to build with: GO, else of PATH, else where it usually lies. Refused when it is missing or too old."""
    wanted = ".".join(map(str, OLDEST_GO))
    found = os.environ.get("GO") or shutil.which("go") or shutil.which(USUAL_GO)
    if not found:
        raise Refused(f"no command go: Kubernetes is built by Go {wanted} or later, unpacked into /usr/local/go or anywhere on PATH")
    told = subprocess.run([found, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", told)
    if not match or tuple(int(number or 0) for number in match.groups()) < OLDEST_GO:
        raise Refused(f"{found} is {told.strip() or 'no Go'}: Go {wanted} or later is needed")
    return found


def run(go: str, group: Group, *words: str) -> str:
    """What `go` printed. Refused with what it complained of."""
    done = subprocess.run([go, *words], cwd=group.sources, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(f"{group.name}: go {' '.join(words[:2])} failed:\n{done.stderr.strip()[-4000:]}")
    return done.stdout


def packages(go: str, group: Group) -> dict[str, str]:
    """By program: the package it is made of. Refused when module file and list of programs do not agree."""
    found = {named(package): package for package in run(go, group, "list", "tool").split()}
    if set(found) != set(group.programs):
        raise Refused(f"{group.name}: go.mod has the tools {sorted(found)}, but {sorted(group.programs)} are meant")
    return found


def named(package: str) -> str:
    """The file name of a program: the last part of its package that is no version; etcd's package is called `server`."""
    parts = [part for part in package.split("/") if not re.fullmatch(r"v\d+", part)]
    return "etcd" if parts[-1] == "server" else parts[-1]


def build(go: str, group: Group) -> None:
    """All programs of a group, aside; then, by rename, where they are looked for."""
    began = time.monotonic()
    run(go, group, "mod", "download")
    version = run(go, group, "list", "-m", "-f", "{{.Version}}", group.module).strip()
    say(f"{group.name}: {group.module} {version}, its modules are there after {time.monotonic() - began:.0f} s")
    aside = Path(mkdtemp(prefix=f".{group.name}-", dir=root()))
    try:
        for program, package in sorted(packages(go, group).items()):
            started = time.monotonic()
            run(go, group, "build", "-tags", group.tags, "-ldflags", group.linker(version), "-o", str(aside / program), package)
            say(f"{group.name}: {program} built in {time.monotonic() - started:.0f} s")
        (aside / COMPLETE).touch()
        aside.chmod(0o755)
        aside.rename(group.folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def alone() -> Iterator[None]:
    """One build at a time in the folder: a second one waits, and then finds everything built."""
    root().mkdir(parents=True, exist_ok=True)
    with (root() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is at work here: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_missing() -> None:
    lacking = [group for group in GROUPS if not group.built]
    if not lacking:
        return
    go = find_go()
    with alone():
        for group in [group for group in lacking if not group.built]:
            build(go, group)
    say(f"all built: {root()}")


def main(words: Sequence[str]) -> int:
    if words:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        build_missing()
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
