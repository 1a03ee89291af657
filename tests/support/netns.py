"""Network namespaces for tests: made under a name of this run, removed by that name."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

RUN_ID = uuid4().hex[:6]
"""In the name of all this run makes, so that two runs on one machine never touch each other's."""


@dataclass(frozen=True)
class Namespace:
    """One network namespace, mounted by name where `ip netns` keeps them."""

    name: str

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def command(self, *words: str) -> list[str]:
        """The words to run a command inside. nsenter, since `ip netns exec` hides the cgroup mounts."""
        return ["nsenter", f"--net={self.path}", "--", *words]

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run to the end, within 30 seconds. With `check`, AssertionError with what the command said when it fails."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=30, check=False)
        assert not check or done.returncode == 0, f"{' '.join(words)} in {self.name}: {done.stderr}{done.stdout}"
        return done

    def ping(self, address: str, count: int = 1) -> bool:
        """Whether all echoes come back, each within two seconds."""
        return self.run("ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "2", address, check=False).returncode == 0


@contextmanager
def namespace(role: str) -> Iterator[Namespace]:
    """A fresh namespace with its loopback up, gone afterwards."""
    made = Namespace(f"fm-{role}-{RUN_ID}-{uuid4().hex[:8]}")
    subprocess.run(["ip", "netns", "add", made.name], check=True)
    try:
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", made.name], check=True)
