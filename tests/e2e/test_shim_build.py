"""What the shims are made of: this is what makes them start in a millisecond, and run where there is no Python."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fabricmgr.agent.plugin import PLUGIN, install, interpreter, python_shim, shim, uninstall
from fabricmgr.domain.errors import SettingRefused
from tests.support.shims import ROOT, build, clean_python, variables

SHIM = ROOT / "cni" / "shim.py"

# Ends the shim by printing what was imported, in place of ending the process.
SHOW_MODULES = """
import sys, posix
def show(status):
    print(*sorted(sys.modules))
posix._exit = show
sys.argv = ["fabricmgr-cni"]
exec(compile(open(%r).read(), "shim", "exec"), {"__name__": "__main__"})
"""


def test_the_python_shim_adds_one_built_in_module_to_a_bare_interpreter(tmp_path: Path) -> None:
    python = clean_python()
    given = variables(tmp_path / "agent.sock", CNI_COMMAND="DEL")

    bare = subprocess.run([*python, "-c", "import sys; print(*sorted(sys.modules))"], capture_output=True, text=True, check=True)
    ended = subprocess.run([*python, "-c", SHOW_MODULES % str(SHIM)], env=given, stdin=subprocess.DEVNULL, capture_output=True, check=True)

    assert set(ended.stdout.decode().split()) - set(bare.stdout.split()) == {"_socket"}
    assert "json" not in bare.stdout.split()


def test_the_python_shim_is_short() -> None:
    assert len(SHIM.read_text().splitlines()) < 120


def test_the_installed_python_shim_names_its_interpreter_and_takes_nothing_from_its_surroundings() -> None:
    first, rest = build("python").read_bytes().split(b"\n", 1)

    assert first == b"#!" + str(interpreter()).encode() + b" -IS"
    assert interpreter().is_absolute()
    assert not interpreter().is_symlink()
    assert SHIM.read_bytes().split(b"\n", 1)[1] in rest


def test_the_python_shim_runs_from_its_source_where_the_interpreter_is_another_one(tmp_path: Path) -> None:
    installed = build("python").read_bytes()
    assert installed.count(b"sys.hexversion == %d" % sys.hexversion) == 1

    other = install(tmp_path, installed.replace(b"sys.hexversion == %d" % sys.hexversion, b"sys.hexversion == 1"))
    broken = install(tmp_path / "broken", re.sub(rb"marshal\.loads\(.*\) if", b"marshal.loads(b'') if", installed))

    asked = variables(tmp_path / "agent.sock", CNI_COMMAND="VERSION")
    printed = [subprocess.run([each], env=asked, capture_output=True, check=False).stdout for each in (build("python"), other, broken)]
    assert printed[0] == printed[1] != b""
    assert printed[2] == b""


@pytest.mark.parametrize("python", ["python3", "/opt/my python/bin/python3", "/" + "x" * 260, "/opt/a\tb"])
def test_an_interpreter_that_a_first_line_cannot_hold_is_refused(python: str) -> None:
    with pytest.raises(SettingRefused):
        python_shim(SHIM.read_bytes(), Path(python))


def test_the_static_shim_needs_no_loader_and_no_library() -> None:
    headers = subprocess.run(["readelf", "-lW", build("static")], capture_output=True, text=True, check=True).stdout

    assert "LOAD" in headers
    assert "INTERP" not in headers
    assert "DYNAMIC" not in headers


def test_the_static_shim_calls_neither_heap_nor_stdio() -> None:
    source = (ROOT / "cni" / "shim.c").read_text()

    assert not [name for name in ("malloc", "calloc", "printf", "fopen", "fwrite", "puts(") if name in source]
    assert build("static").stat().st_size < 1_000_000


def test_a_plugin_is_replaced_by_rename_and_taken_away(tmp_path: Path) -> None:
    install(tmp_path / "bin", b"old")
    with (tmp_path / "bin" / PLUGIN).open("rb") as running:
        target = install(tmp_path / "bin", shim(static=False))

        assert running.read() == b"old"

    assert [each.name for each in target.parent.iterdir()] == [PLUGIN]
    assert target.stat().st_mode & 0o777 == 0o755
    assert uninstall(target.parent)
    assert not uninstall(target.parent)
    assert not list(target.parent.iterdir())
