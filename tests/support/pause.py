"""A container image that holds one static program which waits, made on the spot: no registry is asked."""

import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

NAME = "localhost/pause:1"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# The first process of a sandbox: it must end when told to, and must collect the children of others.
SOURCE = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int n) { (void)n; _exit(0); }
static void collect(int n) { (void)n; while (waitpid(-1, 0, WNOHANG) > 0) { } }
int main(void) {
    signal(SIGTERM, leave); signal(SIGINT, leave); signal(SIGCHLD, collect);
    while (1) pause();
}
"""


def compiled(folder: Path) -> bytes:
    source, binary = folder / "pause.c", folder / "pause"
    source.write_text(SOURCE)
    compiler = shutil.which("musl-gcc") or "gcc"
    subprocess.run([compiler, "-static", "-Os", "-s", "-o", str(binary), str(source)], check=True)
    return binary.read_bytes()


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def write_image(folder: Path) -> Path:
    """An archive in `docker save`'s layout, which every runtime imports: one layer, its configuration, the list of both."""
    layer = packed({"pause": compiled(folder)})
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]).encode()
    out = folder / "pause.tar"
    out.write_bytes(packed({"manifest.json": manifest, "config.json": config, "layer.tar": layer}))
    return out
