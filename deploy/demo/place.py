"""Where the demo keeps its things: names and addresses of one checkout's own, so that two checkouts can show theirs side by side."""

import fcntl
import hashlib
import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """root: the checkout. What outlives the demo lies in `keep`, what doesn't outlive a boot in `run`."""

    root: Path

    @property
    def mark(self) -> str:
        """Four hex digits of the checkout's path: part of the name of all we make on this machine."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:4]

    @property
    def keep(self) -> Path:
        mine = self.root / ".run"
        if mine.exists() and mine.stat().st_uid != os.geteuid():
            return self.root / f".run-{os.geteuid()}"
        return mine

    @property
    def run(self) -> Path:
        # Not below the checkout: a socket's path ends at 107 bytes.
        return Path(f"/run/fabricmgr-demo-{self.mark}")

    @property
    def program(self) -> Path:
        return self.root / ".venv" / "bin" / "fabricmgr"

    @property
    def underlay(self) -> IPv4Network:
        """The nodes' network: out of the range for benchmarks (RFC 2544), which no site routes."""
        return IPv4Network((int(IPv4Address("198.18.0.0")) + ((int(self.mark, 16) % 510) << 8), 24))

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
        """Make the folder, and the command that knows the demo's login."""
        self.keep.mkdir(mode=0o711, exist_ok=True)
        self.shortcut.write_text(f'#!/bin/sh\nFABRICMGR_LOGIN="{self.login}" exec "{self.program}" "$@"\n')
        self.shortcut.chmod(0o755)

    def lock(self) -> int:
        """Hold the place until the process ends. BlockingIOError when another demo of this checkout holds it."""
        descriptor = os.open(self.keep / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
