"""The plugin's file: which of the two shims there is, and how it gets to where the runtime looks for it."""

import marshal
import os
import stat
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path

from fabricmgr.domain.errors import SettingRefused

PLUGIN = "fabricmgr-cni"

_PACKAGE = Path(__file__).parents[1]
# In an installed wheel, and in a checkout after the build.
_STATIC = (_PACKAGE / "_data" / "cni" / PLUGIN, _PACKAGE.parent / "build" / "cni" / PLUGIN)
_PYTHON = (_PACKAGE / "_data" / "cni" / "shim.py", _PACKAGE.parent / "cni" / "shim.py")
# Compiling the source takes an eighth of the Python shim's time. So its file holds it compiled too, for exactly the interpreter that
# compiled it; any other runs the source.
_COMPILED = b"""
import marshal
import sys

SOURCE = r'''%b'''
exec(marshal.loads(%a) if sys.hexversion == %d else SOURCE)
"""
# The kernel reads this many bytes of a script's first line (BINPRM_BUF_SIZE, execve(2)).
_LONGEST_FIRST_LINE = 255


def shim(static: bool | None = None) -> bytes:
    """The plugin's bytes. static: True the compiled one, False the Python one, None the compiled one where it was built.

    Raises FileNotFoundError when the wanted one does not come with this installation."""
    if static is not False and (found := next((path for path in _STATIC if path.is_file()), None)):
        return found.read_bytes()
    if static:
        raise FileNotFoundError(f"no static shim was built: {', '.join(map(str, _STATIC))}")
    return python_shim(next(path for path in _PYTHON if path.is_file()).read_bytes(), interpreter())


def interpreter() -> Path:
    """The interpreter itself, not a virtual environment's link or a version switcher's wrapper: that would cost up to 100 ms a call."""
    base = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    return base if base.is_file() else Path(sysconfig.get_config_var("BINDIR")) / "python3"


def python_shim(source: bytes, python: Path) -> bytes:
    """The Python shim with an absolute interpreter in its first line, and compiled beside its source.

    Raises SettingRefused for a path that a first line cannot hold."""
    first = b"#!" + os.fsencode(python) + b" -IS"
    if not python.is_absolute() or len(first) > _LONGEST_FIRST_LINE or any(byte <= 32 for byte in os.fsencode(python)):
        raise SettingRefused("python", str(python), "an absolute path without white space, of at most 249 bytes")
    rest = source[source.index(b"\n") :]
    if b"'''" in rest:
        return first + rest
    compiled = marshal.dumps(compile(rest, PLUGIN, "exec", dont_inherit=True, optimize=0))
    return first + _COMPILED % (rest, compiled, sys.hexversion)


def install(directory: Path, content: bytes, name: str = PLUGIN) -> Path:
    """Put the plugin there by rename: a runtime that meets a half-written one sleeps a second and tries again (libcni)."""
    directory.mkdir(parents=True, exist_ok=True)
    target, aside = directory / name, directory / f".{name}.new"
    aside.write_bytes(content)
    aside.chmod(0o755)
    aside.rename(target)
    return target


def uninstall(directory: Path, name: str = PLUGIN) -> bool:
    """Take the plugin away. False when there was none."""
    with suppress(FileNotFoundError):
        path = directory / name
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
            return True
    return False
