"""Rules of the project as a whole that no linter knows."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
TOOLS = ("tests/conformance/requirements.lock", "bench/requirements.lock")
SHIM_MAY_IMPORT = {"sys", "posix", "_socket", "time", "errno", "select"}


def imports(path: Path) -> Iterator[str]:
    """The modules a file imports, in full."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", [*LOCKS, *TOOLS])
def test_a_lock_file_carries_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert "://" not in text
    assert "--index-url" not in text
    for entry in re.split(r"\n(?=[a-z])", text):
        assert "--hash=sha256:" in entry, f"{lock}: no hash for {entry.splitlines()[0]}"


def test_what_runs_is_locked_at_the_same_versions_as_what_is_tested() -> None:
    run, dev = (pins(lock) for lock in LOCKS)

    assert run
    assert run.items() <= dev.items()


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [re.split(r"[<>=!;\[ ]", text)[0].lower() for text in project["project"]["dependencies"]]

    assert set(named) <= pins("requirements.lock").keys()


def test_domain_imports_the_standard_library_and_itself() -> None:
    files = sorted((ROOT / "fabricmgr" / "domain").rglob("*.py"))

    assert files
    for path in files:
        for module in imports(path):
            top = module.split(".")[0]
            assert top in sys.stdlib_module_names or module.startswith("fabricmgr.domain"), f"{path.name} imports {module}"


def test_the_python_shim_imports_modules_built_into_the_interpreter_alone() -> None:
    found = set(imports(ROOT / "cni" / "shim.py"))

    assert found <= SHIM_MAY_IMPORT, f"a file must be read for each of {found - SHIM_MAY_IMPORT}, at every call of the plugin"


@pytest.mark.parametrize("tree", ["fabricmgr", "tests", "cni", "bench", "migrations", "deploy"])
def test_no_file_hides_an_unfinished_or_unchecked_place(tree: str) -> None:
    marks = re.compile(r"#\s*(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", r"type:\s*ignore(?!\[)", "pragma:"]) + ")")
    files = sorted((ROOT / tree).rglob("*.py"))

    assert files, f"{tree} holds no Python file"
    for path in files:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not marks.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


@pytest.mark.parametrize("tree", ["fabricmgr", "cni", "bench", "migrations", "deploy"])
def test_no_function_is_longer_than_forty_lines(tree: str) -> None:
    for path in sorted((ROOT / tree).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= 40, f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines"
