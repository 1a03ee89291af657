"""`make dmtf-schemas`: fetch DMTF's schema and registry bundles from where DMTF publishes them, for the tests that read them.

They are other people's text and no part of this project. Exit 0: they are there; 1: they could not be had, and the reason is said."""

import argparse
import io
import json
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp

# DSP8010 holds the schemas, DSP8011 the registries. The version is the one that redfish_schemas/dmtf.json has its facts from.
PUBLISHED = "https://www.dmtf.org/sites/default/files/standards/documents"
BUNDLES = {"DMTF_SCHEMAS_URL": f"{PUBLISHED}/DSP8010_2025.4.zip", "DMTF_REGISTRIES_URL": f"{PUBLISHED}/DSP8011_2025.4.zip"}
LARGEST = 256 << 20  # bytes, of an archive and of a file in it
NEEDED = ("csdl/ServiceRoot_v1.xml", "json-schema/ServiceRoot.json", "registries/Base.*.json")


class Unavailable(Exception):
    """Why there are no schemas, in a sentence."""


def fetched(url: str) -> zipfile.ZipFile:
    """An archive. Raises Unavailable."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = answer.read(LARGEST + 1)
    except urllib.error.HTTPError as error:
        raise Unavailable(f"{url} answers {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise Unavailable(f"{url} can't be reached: {getattr(error, 'reason', error)}") from None
    if len(content) > LARGEST:
        raise Unavailable(f"{url} is larger than {LARGEST >> 20} MiB")
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile:
        raise Unavailable(f"{url} gave {len(content)} bytes that are no zip file") from None


def placed(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """Each file that is wanted, by its path in the folder. Where it lay in the archive decides no more than its kind."""
    for entry in archive.infolist():
        path = PurePosixPath(entry.filename)
        if entry.is_dir() or entry.file_size > LARGEST or path.suffix not in (".xml", ".json"):
            continue
        if path.parent.name == "csdl" and path.suffix == ".xml":
            yield f"csdl/{path.name}", archive.read(entry)
        elif path.parent.name == "json-schema" and path.suffix == ".json":
            yield f"json-schema/{path.name}", archive.read(entry)
        elif path.suffix == ".json" and (name := registry(path.name, content := archive.read(entry))):
            yield f"registries/{name}", content


def registry(name: str, content: bytes) -> str:
    """A registry's file name, by what it says it is; empty for what is none."""
    try:
        found = json.loads(content)
    except ValueError:
        return ""
    kind = str(found.get("@odata.type", "")) if isinstance(found, dict) else ""
    if kind.startswith("#MessageRegistry."):
        return f"{found.get('RegistryPrefix')}.{found.get('RegistryVersion')}.json"
    return name if kind.startswith("#PrivilegeRegistry.") else ""


def without_older_errata(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Of the registries that differ in the third number alone, the newest: a MessageId names the first two."""
    newest: dict[str, tuple[int, str]] = {}
    for path in files:
        if found := re.fullmatch(r"(registries/\w+\.\d+\.\d+)\.(\d+)\.json", path):
            newest[found[1]] = max(newest.get(found[1], (-1, "")), (int(found[2]), path))
    kept = {path for _, path in newest.values()}
    return {path: content for path, content in files.items() if path in kept or not re.fullmatch(r"registries/\w+(\.\d+){3}\.json", path)}


def lay_out(files: Mapping[str, bytes], folder: Path) -> None:
    """Put them there, all or none. Raises Unavailable when one is missing that tests need, or the folder holds something else."""
    for pattern in NEEDED:
        if not any(PurePosixPath(path).match(pattern) for path in files):
            raise Unavailable(f"there is no {pattern} in what was fetched: these are not DMTF's bundles DSP8010 and DSP8011")
    if folder.exists() and any(folder.iterdir()) and not (folder / "csdl").is_dir():
        raise Unavailable(f"{folder} holds something else: name an empty folder, or a new one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    for path, content in files.items():
        (made / path).parent.mkdir(exist_ok=True)
        (made / path).write_bytes(content)
    made.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make dmtf-schemas", epilog=f"Other addresses: {' and '.join(BUNDLES)} in the environment.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    files: dict[str, bytes] = {}
    try:
        for variable, published in BUNDLES.items():
            url = os.environ.get(variable) or published
            print(f"Fetching {url}", flush=True)
            files |= placed(fetched(url))
        lay_out(without_older_errata(files), folder)
    except Unavailable as error:
        print(f"dmtf-schemas: {error}", file=sys.stderr)
        return 1
    print(f"{len(files)} files. For the tests: export REDFISH_SCHEMAS={folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
