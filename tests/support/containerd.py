"""A containerd of one's own: everything of it in one folder, in a network namespace of the caller's, ended without a trace."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from tests.support import pause, scratch
from tests.support.cri import Cri, CriError
from tests.support.netns import Namespace

CONFIG = """version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{folder}/sock"
[ttrpc]
  address = "{folder}/ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


@dataclass
class Containerd:
    """The daemon and its folder. The conflists in `net_d` are read again whenever they change; the first by name counts."""

    folder: Path
    node: Namespace
    environment: dict[str, str]
    daemon: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def socket(self) -> str:
        return str(self.folder / "sock")

    @property
    def net_d(self) -> Path:
        return self.folder / "net.d"

    @property
    def cgroup(self) -> str:
        return f"/{self.folder.name}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def cri(self) -> Cri:
        return Cri(self.socket, self.cgroup)

    def start(self) -> None:
        """Start it and wait for the runtime; of the network only `wait_ready` speaks."""
        command = self.node.command("containerd", "-c", str(self.folder / "config.toml"))
        with (self.folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | self.environment)
        self.wait(network=False)

    def wait_ready(self) -> None:
        """Until a sandbox can be run. AssertionError after 30 s, with what the runtime still waits for."""
        self.wait(network=True)

    def wait(self, network: bool) -> None:
        deadline = time.monotonic() + 30
        waits = ["containerd has not answered"]
        with self.cri() as cri:
            while time.monotonic() < deadline and waits:
                time.sleep(0.1)
                try:
                    waits = [each for each in cri.unready() if network or not each.startswith("NetworkReady")]
                except CriError as error:
                    waits = [str(error)]
        assert not waits, f"after 30 s: {waits}\n{self.log[-3000:]}"

    def kill(self) -> None:
        """kill -9, as a crash would. Its sandboxes live on."""
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.daemon is not None:
            self.daemon.send_signal(how)
            self.daemon.wait(20)
            self.daemon = None

    def import_pause(self) -> None:
        image = pause.write_image(self.folder)
        subprocess.run(["ctr", "-a", self.socket, "-n", "k8s.io", "images", "import", str(image)], check=True, capture_output=True)


@contextmanager
def containerd(
    node: Namespace, plugins: Path, conflists: dict[str, str], environment: dict[str, str] | None = None
) -> Iterator[Containerd]:
    """A containerd in the node's namespace which calls the plugins of a folder as the conflists say (file name to text).

    The environment is added to the daemon's, which hands it on to the plugins.
    """
    # Directly under /tmp: the path of a socket ends at 107 bytes.
    folder = Path(mkdtemp(prefix="fm-cd-", dir=scratch.short()))
    made = Containerd(folder, node, environment or {})
    made.net_d.mkdir()
    for name, text in conflists.items():
        (made.net_d / name).write_text(text)
    (folder / "config.toml").write_text(CONFIG.format(folder=folder, plugins=plugins, image=pause.NAME))
    try:
        made.start()
        made.import_pause()
        yield made
    finally:
        clean_up(made)


def clean_up(made: Containerd) -> None:
    """Leave nothing: sandboxes, processes, mounts, cgroups, files; also after a test that failed half way."""
    if made.daemon is not None and made.daemon.poll() is None:
        with made.cri() as cri:
            for sandbox in cri.sandboxes():
                try:
                    cri.stop(sandbox)
                    cri.remove(sandbox)
                except CriError as error:
                    print(f"left to be killed: {error}")
    made.end()
    for pid in shims(made):
        os.kill(pid, signal.SIGKILL)
    for mount in reversed(mounts(made.folder)):
        subprocess.run(["umount", "--lazy", mount], check=False)
    for hierarchy in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]:
        remove_cgroup(hierarchy / made.folder.name)
    shutil.rmtree(made.folder)


def shims(made: Containerd) -> list[int]:
    """The processes that containerd started for its sandboxes: they carry its socket on their command line, and so do no others."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"containerd-shim-runc-v2") and made.socket.encode() in words:
                found.append(int(entry.name))
    return found


def mounts(below: Path) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{below}/")]


def remove_cgroup(folder: Path) -> None:
    """Groups are removed from the innermost on; one that still has a dying process is tried again for a second."""
    if not folder.is_dir():
        return
    for inner in [path for path in folder.iterdir() if path.is_dir()]:
        remove_cgroup(inner)
    deadline = time.monotonic() + 1
    while True:
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        else:
            return
