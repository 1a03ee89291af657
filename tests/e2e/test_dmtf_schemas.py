"""`make dmtf-schemas`, with archives made here and a file server on loopback in DMTF's place."""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]


def archive(**files: object) -> bytes:
    """A zip file. Names: `__` for a slash, `_` before the suffix for a dot."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, text in files.items():
            made.writestr(name.replace("__", "/"), text if isinstance(text, str) else json.dumps(text))
    return content.getvalue()


def registry(prefix: str, version: str) -> dict[str, str]:
    return {"@odata.type": "#MessageRegistry.v1_7_0.MessageRegistry", "RegistryPrefix": prefix, "RegistryVersion": version}


SCHEMAS = archive(
    **{
        "DSP8010_2025.4__csdl__ServiceRoot_v1.xml": "<Edmx/>",
        "DSP8010_2025.4__json-schema__ServiceRoot.json": {},
        "DSP8010_2025.4__json-schema__ServiceRoot.v1_20_0.json": {},
        "DSP8010_2025.4__openapi__openapi.yaml": "openapi: 3",
        "DSP8010_2025.4__..__..__csdl__Outside_v1.xml": "<Edmx/>",
        "readme.txt": "text",
    }
)
REGISTRIES = archive(
    **{
        "Base.1.22.0.json": registry("Base", "1.22.0"),
        "Base.1.22.10.json": registry("Base", "1.22.10"),
        "Base.1.22.9.json": registry("Base", "1.22.9"),
        "Base.1.21.0.json": registry("Base", "1.21.0"),
        "Redfish_1.8.0_PrivilegeRegistry.json": {"@odata.type": "#PrivilegeRegistry.v1_2_0.PrivilegeRegistry"},
        "schemas.json": {"@odata.type": "#Other.v1_0_0.Other"},
    }
)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Tests look at the client's side."""


@pytest.fixture
def published(tmp_path: Path) -> Iterator[str]:
    """The URL of a folder on loopback, and in it what DMTF would have."""
    place = tmp_path / "published"
    place.mkdir()
    (place / "schemas.zip").write_bytes(SCHEMAS)
    (place / "registries.zip").write_bytes(REGISTRIES)
    (place / "page.zip").write_text("<html>moved</html>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(place))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def fetch(folder: Path, schemas: str, registries: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    urls = {"DMTF_SCHEMAS_URL": schemas, "DMTF_REGISTRIES_URL": registries}
    command = [sys.executable, "-m", "deploy.setup.dmtf_schemas", str(folder)]
    return subprocess.run(command, cwd=ROOT, env=environment | urls, capture_output=True, text=True, check=False)


def files(folder: Path) -> Mapping[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_bundles_are_laid_out_by_kind_with_the_newest_errata_alone(published: str, tmp_path: Path) -> None:
    folder = tmp_path / "in" / "dmtf"

    done = fetch(folder, f"{published}/schemas.zip", f"{published}/registries.zip")

    assert done.returncode == 0, done.stderr
    assert set(files(folder)) == {
        "csdl/ServiceRoot_v1.xml",
        "csdl/Outside_v1.xml",
        "json-schema/ServiceRoot.json",
        "json-schema/ServiceRoot.v1_20_0.json",
        "registries/Base.1.21.0.json",
        "registries/Base.1.22.10.json",
        "registries/Redfish_1.8.0_PrivilegeRegistry.json",
    }
    assert f"export REDFISH_SCHEMAS={folder}" in done.stdout


def test_fetching_again_replaces_what_was_there(published: str, tmp_path: Path) -> None:
    folder = tmp_path / "dmtf"
    (folder / "csdl").mkdir(parents=True)
    (folder / "csdl" / "Old_v1.xml").touch()

    done = fetch(folder, f"{published}/schemas.zip", f"{published}/registries.zip")

    assert done.returncode == 0, done.stderr
    assert "csdl/Old_v1.xml" not in files(folder)


@pytest.mark.parametrize(
    ("schemas", "said"),
    [
        ("schemas-of-yesterday.zip", "answers 404"),
        ("page.zip", "no zip file"),
        ("registries.zip", "there is no csdl/ServiceRoot_v1.xml in what was fetched"),
    ],
)
def test_what_is_not_the_bundle_is_refused_in_a_sentence_and_nothing_is_made(
    published: str, tmp_path: Path, schemas: str, said: str
) -> None:
    done = fetch(tmp_path / "dmtf", f"{published}/{schemas}", f"{published}/registries.zip")

    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "dmtf").exists()


def test_no_network_is_said_with_the_address(tmp_path: Path) -> None:
    done = fetch(tmp_path / "dmtf", "http://127.0.0.1:9/schemas.zip", "http://127.0.0.1:9/registries.zip")

    assert done.returncode == 1
    assert "dmtf-schemas: http://127.0.0.1:9/schemas.zip can't be reached: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_of_something_else_is_left_alone(published: str, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-my-aunt").touch()

    done = fetch(tmp_path / "letters", f"{published}/schemas.zip", f"{published}/registries.zip")

    assert done.returncode == 1
    assert "holds something else" in done.stderr
    assert set(files(tmp_path / "letters")) == {"to-my-aunt"}
