"""The network list that the runtime reads, and where it goes: `agent install` remembers the place, the agent writes it when it can serve.

It stays when the agent ends: taken away, the runtime would put pods on whatever other network it finds.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from fabricmgr.agent.plugin import PLUGIN
from fabricmgr.agent.result import VERSIONS

# An old libcni takes `cniVersion`, a new one the highest of `cniVersions` that it knows.
OLDEST_READER = "1.0.0"
REMEMBERED = "install.json"


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What `agent install` was told. conf_file: name of the list in conf_dir. replaces: the list of an earlier install, which goes when
    this one stands: a runtime that saw neither would call its node's network broken."""

    bin_dir: str
    conf_dir: str
    network: str
    conf_file: str
    replaces: str = ""

    @property
    def path(self) -> Path:
        return Path(self.conf_dir) / self.conf_file


def remember(data_dir: Path, installed: Installed) -> None:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    write(data_dir / REMEMBERED, msgspec.json.format(msgspec.json.encode(installed)))


def remembered(data_dir: Path) -> Installed | None:
    """None where nothing was installed, or what was written then cannot be read."""
    try:
        return msgspec.json.decode((data_dir / REMEMBERED).read_bytes(), type=Installed)
    except (OSError, msgspec.MsgspecError):
        return None


def forget(data_dir: Path) -> None:
    with suppress(FileNotFoundError):
        (data_dir / REMEMBERED).unlink()


def content(network: str) -> bytes:
    """The list: our plugin alone, with the capabilities it serves.

    Hairpin: where br_netfilter is loaded, a pod's call of a Service that leads back to the pod itself is turned round within the bridge."""
    plugin = {"type": PLUGIN, "capabilities": {"ips": True, "mac": True}, "hairpinMode": True}
    document = {"cniVersion": OLDEST_READER, "cniVersions": list(VERSIONS), "name": network, "plugins": [plugin]}
    return json.dumps(document, indent=2).encode() + b"\n"


def ensure(installed: Installed) -> bool:
    """Write the list where it is missing or says something else; then take away the one it replaces. True when it was written.

    Raises OSError."""
    written = _written(installed)
    if installed.replaces:
        Path(installed.replaces).unlink(missing_ok=True)
    return written


def _written(installed: Installed) -> bool:
    wanted = content(installed.network)
    with suppress(OSError):
        if installed.path.read_bytes() == wanted:
            return False
    installed.path.parent.mkdir(parents=True, exist_ok=True)
    write(installed.path, wanted, 0o644)
    return True


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """By rename: whoever reads meanwhile sees the old or the new. Raises OSError."""
    aside = path.with_name(f".{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(descriptor, mode)
    aside.rename(path)
