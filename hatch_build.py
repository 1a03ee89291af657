"""What the wheel needs built: the static shim, where a C compiler is at hand.

A wheel without it is whole too (`fabricmgr agent install` then takes the Python shim), so a missing compiler is said and is no error.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def compile_shim(source: Path, out: Path, *flags: str) -> Path | None:
    """Compile the shim into one static file. None when no compiler can link statically; musl gives 20 KB, glibc 800.

    Code and constants share pages: a process that lives for a millisecond has fewer of them to map."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for compiler in ("musl-gcc", "cc", "gcc"):
        path = shutil.which(compiler)
        if path is None:
            continue
        command = [path, "-std=c11", "-static", "-Os", "-s", "-Wl,-z,noseparate-code", "-Wall", "-Wextra", "-Werror"]
        command += [*flags, "-o", str(out), str(source)]
        if subprocess.run(command, check=False).returncode == 0:
            return out
    return None


class CustomBuildHook(BuildHookInterface[Any]):
    """Puts the static shim beside its sources in the wheel, which is then one for this machine's architecture."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        shim = compile_shim(root / "cni" / "shim.c", root / "build" / "cni" / "fabricmgr-cni")
        if shim is None:
            self.app.display_warning("no C compiler that links statically: fabricmgr comes with the Python shim alone")
            return
        if version == "editable":
            return
        build_data["force_include"][str(shim)] = "fabricmgr/_data/cni/fabricmgr-cni"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag()}"


def platform_tag() -> str:
    """The tag of this machine as packaging tools write it."""
    from packaging.tags import platform_tags

    return next(tag for tag in platform_tags() if tag.startswith("linux"))
