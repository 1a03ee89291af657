"""`fabricmgr agent install` and `uninstall`: the plugin where the runtime looks for it, and the place of the network list."""

from contextlib import suppress
from pathlib import Path

import msgspec

from fabricmgr.agent import conflist, plugin
from fabricmgr.agent.conflist import Installed
from fabricmgr.domain.names import network_name

BIN_DIR = Path("/opt/cni/bin")
CONF_DIR = Path("/etc/cni/net.d")


def conf_file(network: str) -> str:
    """Its name: early in the order, since the runtime takes the first of the directory."""
    return f"05-fabricmgr-{network}.conflist"


def install(data_dir: Path, bin_dir: Path, conf_dir: Path, network: str, static: bool | None = None) -> tuple[Path, Installed]:
    """Put the plugin in place by rename and remember where the list goes; the agent writes it when it can serve.

    Installed for another network or place before: that list goes when the new one stands. Raises Invalid for a bad name, OSError,
    FileNotFoundError."""
    installed = Installed(
        bin_dir=str(bin_dir.absolute()), conf_dir=str(conf_dir.absolute()), network=network_name(network), conf_file=conf_file(network)
    )
    installed = msgspec.structs.replace(installed, replaces=_replaced(conflist.remembered(data_dir), installed))
    target = plugin.install(bin_dir, plugin.shim(static))
    conflist.remember(data_dir, installed)
    return target, installed


def _replaced(before: Installed | None, after: Installed) -> str:
    """The list that stands now and is another one than the new."""
    standing = [Path(path) for path in ((str(before.path), before.replaces) if before else ()) if path]
    return next((str(path) for path in standing if path != after.path and path.exists()), "")


def uninstall(data_dir: Path) -> list[Path]:
    """Take away what `install` put there, the list first so that no runtime calls a missing plugin. Gives back what was removed."""
    installed = conflist.remembered(data_dir)
    if installed is None:
        return []
    conflist.forget(data_dir)
    removed = []
    for path in (installed.path, *([Path(installed.replaces)] if installed.replaces else [])):
        with suppress(FileNotFoundError):
            path.unlink()
            removed.append(path)
    if plugin.uninstall(Path(installed.bin_dir)):
        removed.append(Path(installed.bin_dir) / plugin.PLUGIN)
    return removed
