"""A container image that holds one static program, made on the spot: no registry is asked.

`/pause` waits. `/pause 8080` answers every HTTP request at that port with the pod's name, over IPv4 and IPv6.
"""

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
SOURCE = r"""
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int n) { (void)n; _exit(0); }
static void collect(int n) { (void)n; while (waitpid(-1, 0, WNOHANG) > 0) { } }

/* A socket of IPv6 takes IPv4 too; where the kernel has no IPv6 there is the other one. */
static int listening(int port) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, found = socket(AF_INET6, SOCK_STREAM, 0), old = found < 0;
    if (old) found = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(found, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(found, old ? (struct sockaddr *)&four : (struct sockaddr *)&six, old ? sizeof four : sizeof six)) _exit(1);
    if (listen(found, 64)) _exit(1);
    return found;
}

static void serve(int port) {
    char name[256] = "", answer[512], request[4096];
    struct timeval second = {.tv_sec = 1};
    int door = listening(port), guest;
    gethostname(name, sizeof name - 1);
    int length = snprintf(answer, sizeof answer, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n\r\n%s\n", strlen(name) + 1, name);
    for (;;) {
        if ((guest = accept(door, 0, 0)) < 0) continue;
        setsockopt(guest, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
        if (read(guest, request, sizeof request) > 0 && write(guest, answer, length) < 0) { }
        close(guest);
    }
}

int main(int count, char **words) {
    signal(SIGTERM, leave); signal(SIGINT, leave); signal(SIGCHLD, collect); signal(SIGPIPE, SIG_IGN);
    if (count > 1) serve(atoi(words[1]));
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
