"""Podman with its CNI backend, all of it in one folder and in a network namespace of the caller's."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from tests.support import scratch
from tests.support.containerd import remove_cgroup
from tests.support.netns import Namespace

CONFIG = """[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
seccomp_profile = "unconfined"
apparmor_profile = "unconfined"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{plugins}"]
network_config_dir = "{folder}/net.d"
default_network = "{network}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
BUSYBOX = "/bin/busybox"


@dataclass
class Podman:
    """One installation. Containers run busybox from a folder; no image is needed."""

    folder: Path
    node: Namespace

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command, to its end. What it said lies in the answer, whether it worked or not."""
        base = ["podman", "--root", f"{self.folder}/s", "--runroot", f"{self.folder}/r", "--tmpdir", f"{self.folder}/t"]
        whole = self.node.command(*base, "--storage-driver", "vfs", "--runtime", "runc", *words)
        given = {**os.environ, "CONTAINERS_CONF": f"{self.folder}/containers.conf"}
        return subprocess.run(whole, env=given, capture_output=True, text=True, timeout=90, check=False, stdin=subprocess.DEVNULL)

    def run(self, name: str, *options: str, command: str = "sleep 1000") -> subprocess.CompletedProcess[str]:
        """Start a container that runs on."""
        words = ["run", "-d", "--name", name, "--cgroup-parent", f"/{self.folder.name}", *options, "--rootfs", f"{self.folder}/rootfs"]
        return self.call(*words, "/bin/sh", "-c", f"trap 'exit 0' TERM; {command} & wait")

    def said(self, *words: str) -> str:
        """What a command printed, which must succeed."""
        done = self.call(*words)
        assert done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()


def make_root(folder: Path) -> None:
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "run"):
        (folder / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin" / "busybox")
    for name in ("sh", "sleep", "ip", "ping"):
        (folder / "bin" / name).symlink_to("busybox")


@contextmanager
def podman(node: Namespace, plugins: Path, network: str, conflist: str) -> Iterator[Podman]:
    """A Podman on the node whose default network is the list's."""
    folder = Path(mkdtemp(prefix="fmp-", dir=scratch.short()))
    made = Podman(folder, node)
    (folder / "net.d").mkdir()
    (folder / "net.d" / f"05-{network}.conflist").write_text(conflist)
    (folder / "containers.conf").write_text(CONFIG.format(folder=folder, plugins=plugins, network=network))
    make_root(folder / "rootfs")
    try:
        yield made
    finally:
        made.call("rm", "--all", "--force", "--time", "0")
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", line.split()[1]], check=False)
        for hierarchy in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]:
            remove_cgroup(hierarchy / folder.name)
        shutil.rmtree(folder, ignore_errors=True)
