"""What a site installs is the wheel, not this checkout: it must be whole by itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).parents[2]


def run(*words: str | Path, **environment: str) -> str:
    """Output of a command that must succeed, run away from the checkout so that nothing is imported from there."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "FABRICMGR_"))}
    done = subprocess.run([str(word) for word in words], cwd="/", env=clean | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel and what requirements.lock names, and nothing of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    environment = folder / "environment"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    run(sys.executable, "-m", "venv", environment)
    pip = (environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q")
    run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", ROOT / "requirements.lock")
    run(*pip, "--no-deps", "--no-index", *folder.glob("*.whl"))
    return environment


def test_the_installed_wheel_answers_for_itself(installed: Path) -> None:
    version = run(installed / "bin" / "fabricmgr", "--version")

    assert version.startswith("fabricmgr ")


def test_the_wheel_brings_migrations_shims_and_redfish_declarations(installed: Path) -> None:
    [package] = installed.glob("lib/python3*/site-packages/fabricmgr")
    data = package / "_data"

    assert list((data / "migrations" / "versions").glob("*.py"))
    assert (data / "migrations" / "env.py").exists()
    assert (data / "cni" / "shim.py").exists()
    assert list((data / "redfish_schemas").iterdir())
    assert os.access(data / "cni" / "fabricmgr-cni", os.X_OK)


def test_the_static_shim_of_the_wheel_runs(installed: Path) -> None:
    [shim] = installed.glob("lib/python3*/site-packages/fabricmgr/_data/cni/fabricmgr-cni")

    answer = run(shim, CNI_COMMAND="VERSION", FABRICMGR_SOCKET="/nonexistent/agent.sock")

    assert '"supportedVersions"' in answer


def test_every_module_of_the_wheel_imports_without_the_checkout(installed: Path) -> None:
    script = (
        "import importlib, pkgutil, fabricmgr\n"
        "for module in pkgutil.walk_packages(fabricmgr.__path__, 'fabricmgr.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print(fabricmgr.__file__)\n"
    )

    where = run(installed / "bin" / "python", "-W", "error", "-c", script)

    assert where.startswith(str(installed))
