"""What a test cluster shares with its machine: settings of the kernel that a kubelet changes, cgroups, and what must be there."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.support.containerd import remove_cgroup

CGROUPS = Path("/sys/fs/cgroup")
V1 = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd", "hugetlb")
V2 = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")
COMMANDS = ("ip", "nft", "iptables", "runc", "nsenter", "unshare", "setpriv", "mount", "ping", "curl")
# A kubelet sets these for the whole machine.
CHANGED = ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")
RECORD = Path("/run/fabricmgr-test-kernel.json")


def lacking() -> str:
    """What this machine lacks for a cluster, but for its programs; empty when there is nothing."""
    if missing := [command for command in COMMANDS if not shutil.which(command)]:
        return f"no command {', '.join(missing)}"
    if not (shutil.which("musl-gcc") or shutil.which("gcc")):
        return "no C compiler, which makes the pods' image"
    if not is_v2() and not (CGROUPS / "cpuset").is_dir():
        return f"no cgroups under {CGROUPS}"
    return ""


def snapshotter(folder: Path) -> str:
    """Which of containerd's works in a folder: one that shares files between containers, or else one that copies them."""
    parts = [folder / f"overlay-{name}" for name in ("lower", "upper", "work", "merged")]
    for part in parts:
        part.mkdir()
    options = "lowerdir={},upperdir={},workdir={}".format(*parts)
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "overlay", "-o", options, "overlay", parts[-1]], capture_output=True, check=False
    )
    for part in parts:
        shutil.rmtree(part)
    return "overlayfs" if tried.returncode == 0 else "native"


# --- settings of the kernel ---


class Record(msgspec.Struct):
    """before: the settings as the first of the clusters that run now found them. users: the processes that keep one."""

    before: dict[str, str] = {}
    users: list[str] = []


@contextmanager
def kernel_settings_kept() -> Iterator[None]:
    """Clusters may run at the same time: the last to end puts back what the first one found."""
    me = beginning_of(os.getpid())
    with recorded() as record:
        record.users = [user for user in record.users if runs(user)]
        if not record.users:
            record.before = {name: (Path("/proc/sys") / name).read_text().strip() for name in CHANGED}
        record.users.append(me)
    try:
        yield
    finally:
        with recorded() as record:
            record.users.remove(me)
            if not any(runs(user) for user in record.users):
                put_back(record.before)


def put_back(before: dict[str, str]) -> None:
    for name, text in before.items():
        (Path("/proc/sys") / name).write_text(text)


@contextmanager
def recorded() -> Iterator[Record]:
    """The record, which is written again at the end; one process at a time has it."""
    with os.fdopen(os.open(RECORD, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = file.read()
        record = msgspec.json.decode(text, type=Record) if text else Record()
        yield record
        file.seek(0)
        file.truncate()
        file.write(msgspec.json.encode(record))


# --- processes ---


def beginning_of(pid: int) -> str:
    """A process by its id and the tick it began at, since ids are used again. ProcessLookupError when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        raise ProcessLookupError(pid) from None
    if fields[0] == "Z":
        raise ProcessLookupError(pid)
    return f"{pid} {fields[19]}"


def runs(beginning: str) -> bool:
    try:
        return beginning_of(int(beginning.split(maxsplit=1)[0])) == beginning
    except ProcessLookupError:
        return False


def processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


# --- cgroups ---


def is_v2() -> bool:
    return (CGROUPS / "cgroup.controllers").exists()


def make_cgroup(group: str) -> None:
    """A group in every hierarchy; what a kubelet expects of its root is there. group: a path of two names, such as `run/node`."""
    if is_v2():
        make_cgroup_v2(group)
        return
    for hierarchy in [CGROUPS / name for name in V1 if (CGROUPS / name).is_dir()]:
        (hierarchy / group).mkdir(parents=True, exist_ok=True)
    cpuset = CGROUPS / "cpuset"
    for folder in (cpuset / Path(group).parent, cpuset / group):
        for file in ("cpuset.cpus", "cpuset.mems"):
            (folder / file).write_text((cpuset / file).read_text())


def make_cgroup_v2(group: str) -> None:
    (CGROUPS / group).mkdir(parents=True, exist_ok=True)
    for folder in (CGROUPS, CGROUPS / Path(group).parent, CGROUPS / group):
        there = set((folder / "cgroup.controllers").read_text().split())
        for controller in sorted(there & set(V2)):
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def remove_cgroups(group: str) -> None:
    for hierarchy in [CGROUPS] if is_v2() else CGROUPS.iterdir():
        remove_cgroup(hierarchy / group)
