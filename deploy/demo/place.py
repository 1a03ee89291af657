"""Where the demo keeps its things: names and addresses of one folder's own, so that two checkouts can show theirs side by side."""

import fcntl
import hashlib
import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from deploy.demo.processes import Stopped


@dataclass(frozen=True)
class Place:
    """root: the checkout. keep: all it makes, which stays for the next start; `run` is a short way there while the demo is up."""

    root: Path
    keep: Path

    @classmethod
    def of(cls, root: Path) -> "Place":
        """The checkout's `.run`; where that is another user's, one of our own."""
        keep = root / ".run"
        theirs = keep.exists() and keep.stat().st_uid != os.geteuid()
        return cls(root, root / f".run-{os.geteuid()}" if theirs else keep)

    @property
    def mark(self) -> str:
        """Four hex digits of the folder's path: part of the name of all we make on this machine."""
        return hashlib.sha256(str(self.keep).encode()).hexdigest()[:4]

    @property
    def run(self) -> Path:
        # A socket's path ends at 107 bytes, and a checkout's own may be longer.
        return Path(f"/run/fabricmgr-demo-{self.mark}")

    def link(self) -> None:
        """Make the short way."""
        self.unlink()
        self.run.symlink_to(self.keep)

    def unlink(self) -> None:
        self.run.unlink(missing_ok=True)

    @property
    def program(self) -> Path:
        return self.root / ".venv" / "bin" / "fabricmgr"

    @property
    def underlay(self) -> IPv4Network:
        """The nodes' network: out of the range for benchmarks (RFC 2544), which no site routes."""
        return IPv4Network((int(IPv4Address("198.18.0.0")) + ((int(self.mark, 16) % 510) << 8), 24))

    @property
    def underlay6(self) -> IPv6Network:
        """The same wire in IPv6: a /64 of our own kind (RFC 4193)."""
        return IPv6Network((int(IPv6Address("fdfa:b000::")) + (int(self.mark, 16) << 64), 64))

    @property
    def manager_data(self) -> Path:
        return self.keep / "manager"

    @property
    def login(self) -> Path:
        return self.keep / "login.json"

    @property
    def shortcut(self) -> Path:
        return self.keep / "fabricmgr"

    def prepare(self) -> None:
        """Make the folder, and the command that knows the demo's login. Stopped where the folder was made for another path."""
        self.keep.mkdir(mode=0o711, exist_ok=True)
        made_for = self.keep / "made-for"
        if not made_for.exists():
            made_for.write_text(str(self.keep))
        if made_for.read_text() != str(self.keep):
            raise Stopped(f"{self.keep} was made as {made_for.read_text()}; remove it to start anew")
        self.shortcut.write_text(f'#!/bin/sh\nFABRICMGR_LOGIN="{self.login}" exec "{self.program}" "$@"\n')
        self.shortcut.chmod(0o755)

    def lock(self) -> int:
        """Hold the place until the process ends. BlockingIOError when another demo of this checkout holds it."""
        descriptor = os.open(self.keep / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
