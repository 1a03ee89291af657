"""What a cluster leaves on the machine when its own process was killed: known by its folder, and removed by the next one."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.support import scratch
from tests.support.kube import machine
from tests.support.kube.node import end_machine

PREFIX = "fmk-"
OWNER, NAMESPACES = "owner", "namespaces"


def claim(folder: Path) -> None:
    """This process will remove it."""
    (folder / OWNER).write_text(machine.beginning_of(os.getpid()))


def note(folder: Path, namespace: str) -> None:
    """A network namespace that goes with it."""
    with (folder / NAMESPACES).open("a") as file:
        file.write(f"{namespace}\n")


def sweep() -> None:
    """Remove every cluster whose process is gone."""
    for owner in (path for place in (scratch.DISK, scratch.MEMORY) for path in place.glob(f"{PREFIX}*/{OWNER}")):
        if owner.stat().st_uid == os.geteuid() and not machine.runs(owner.read_text()):
            remove(owner.parent)


def remove(folder: Path) -> None:
    for pid in machine.processes():
        if names(pid, folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for node in folder.glob("node*/own"):
        end_machine(node.parent)
    machine.remove_cgroups(folder.name)
    noted = folder / NAMESPACES
    for namespace in noted.read_text().split() if noted.exists() else []:
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def names(pid: int, folder: Path) -> bool:
    """Whether a process has a path of the folder's on its command line, as all of the control plane have."""
    try:
        return f"{folder}/".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
