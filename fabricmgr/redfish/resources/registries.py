"""JsonSchemas and Registries: where the schema of each type, and each registry, is published (DSP0266, 8.3 and 9.7).

DMTF's are pointed to, where DMTF publishes them; ours are served here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from fabricmgr import dmtf
from fabricmgr.domain.errors import NotFound
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource

PUBLISHED_REGISTRIES = "https://redfish.dmtf.org/registries"


@dataclass(frozen=True)
class File:
    """id: also of the page. what: the type or registry with its version. uri: where it is served; published: where DMTF has it."""

    id: str
    what: str
    uri: str = ""
    published: str = ""

    def location(self) -> Json:
        """As both pages say it."""
        where = {"Uri": self.uri} if self.uri else {"PublicationUri": self.published}
        return {"Languages": ["en"], "Location": [{"Language": "en", **where}]}


@cache
def schema_files() -> Mapping[str, File]:
    """One for each type in use."""
    return {name: _schema_file(name) for name in dmtf.types()}


def _schema_file(name: str) -> File:
    uri = dmtf.schema_uri(name)
    return File(name, dmtf.odata_type(name), **({"uri": uri} if dmtf.is_own(name) else {"published": uri}))


@cache
def registry_files() -> Mapping[str, File]:
    """One for each registry in use: message registries, and what privileges are for."""
    found = {}
    for name, version in dmtf.registry_files().items():
        minor = version.rpartition(".")[0]
        found[name] = File(name, f"{name}.{minor}", published=f"{PUBLISHED_REGISTRIES}/{name}.{version}.json")
    for path in dmtf.own_registries():
        name, _, version = path.stem.partition(".")
        found[name] = File(name, f"{name}.{version.rpartition('.')[0]}", uri=f"{dmtf.OWN}/{path.name}")
    return found


def _found(files: Mapping[str, File], kind: str, name: str) -> File:
    if name not in files:
        raise NotFound(kind, name)
    return files[name]


async def get_schema(ask: Ask) -> File:
    return _found(schema_files(), "schema", ask.params["schema_id"])


async def get_registry(ask: Ask) -> File:
    return _found(registry_files(), "registry", ask.params["registry_id"])


async def schemas(_ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    return list(schema_files())[skip:][:top], len(schema_files())


async def registries(_ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    return list(registry_files())[skip:][:top], len(registry_files())


def schema_body(file: File) -> Json:
    return {"Id": file.id, "Name": f"Schema of {file.id}", "Schema": file.what, **file.location()}


def registry_body(file: File) -> Json:
    return {"Id": file.id, "Name": f"Registry {file.id}", "Registry": file.what, **file.location()}


json_schema = Resource(
    schema="JsonSchemaFile",
    uri="/redfish/v1/JsonSchemas/{schema_id}",
    get=get_schema,
    body=schema_body,
    members=schemas,
    collection_name="Schemas",
)
registry = Resource(
    schema="MessageRegistryFile",
    uri="/redfish/v1/Registries/{registry_id}",
    get=get_registry,
    body=registry_body,
    members=registries,
    collection_name="Registries",
)
