"""What we implement of DMTF's model, as facts: type versions, privileges, messages. Read from redfish_schemas/dmtf.json, and for resources
of our own from the .toml files beside it."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PUBLISHED = "https://redfish.dmtf.org/schemas/v1"
OWN = "/redfish/v1/Schemas"  # where this service publishes its own


@dataclass(frozen=True)
class MessageFact:
    """args: how many the registry says. severity: OK, Warning or Critical."""

    args: int
    severity: str


def folder() -> Path:
    """redfish_schemas/: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).parent / "_data" / "redfish_schemas"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "redfish_schemas"


@cache
def _facts() -> Mapping[str, Any]:
    facts: Mapping[str, Any] = json.loads((folder() / "dmtf.json").read_text())
    return facts


@cache
def own_types() -> Mapping[str, Mapping[str, Any]]:
    """Namespaces of ours, each with its source. Those with a `uri` are resources; the others lie inside resources of DMTF's."""
    sources = (tomllib.loads(path.read_text()) for path in sorted(folder().glob("*.toml")))
    return {source["namespace"]: source for source in sources}


@cache
def _version(name: str) -> str:
    found: str = own_types()[name]["version"] if name in own_types() else _facts()["types"][name]
    return found


def is_own(name: str) -> bool:
    """Whether a type, or a collection of it, is ours."""
    return name.removesuffix("Collection") in own_types()


def odata_type(name: str) -> str:
    """The `@odata.type` of a type, its version with it: `#AddressPool.v1_3_0.AddressPool`. Collections have none (DSP0266, 9.6)."""
    if name.endswith("Collection"):
        return f"#{name}.{name}"
    return f"#{name}.{_version(name)}.{name}"


def schema_uri(name: str) -> str:
    """Where the JSON schema of a type is published, by DMTF or by this service, as the Link header names it."""
    file = name if name.endswith("Collection") else f"{name}.{_version(name)}"
    return f"{OWN if is_own(name) else PUBLISHED}/{file}.json"


def schema_files() -> list[tuple[str, str]]:
    """(CSDL file, namespace) of every type in use, for `$metadata`."""
    versioned = [(f"{name}_v1.xml", f"{name}.{version}") for name, version in _facts()["types"].items()]
    collections = [(f"{name}_v1.xml", name) for name in _facts()["privileges"] if name.endswith("Collection")]
    return sorted(versioned + collections)


def own_files() -> dict[str, tuple[str, ...]]:
    """CSDL files of ours, each with the namespaces it defines, for `$metadata`."""
    found: dict[str, tuple[str, ...]] = {}
    for name, source in own_types().items():
        found[f"{name}_v1.xml"] = (name, f"{name}.{source['version']}")
        if "uri" in source:
            found[f"{name}Collection_v1.xml"] = (f"{name}Collection",)
    return found


def privileges(entity: str, method: str, below: str = "") -> list[list[str]]:
    """Any of the outer list, all of the inner one, may do `method` (GET, POST, PATCH, DELETE) on `entity` (DSP0266, 13.4).

    below: the type of the resource that it lies under, where that changes what is asked (13.4.7)."""
    table = own_types()[entity.removesuffix("Collection")]["privileges"] if is_own(entity) else _facts()["privileges"][entity]
    table = _facts()["subordinate_privileges"].get(entity, {}).get(below, table)
    found: list[list[str]] = table["GET" if method == "HEAD" else method]
    return found


def property_privileges(entity: str, method: str) -> Mapping[str, list[list[str]]]:
    """Properties that ask something else than the rest of their resource (DSP0266, 13.4.6)."""
    overrides = _facts()["property_privileges"].get(entity, {})
    return {name: methods[method] for name, methods in overrides.items() if method in methods}


def privileges_of_all() -> Mapping[str, Mapping[str, list[list[str]]]]:
    """What each entity asks, by method: DMTF's and ours."""
    found = dict(_facts()["privileges"])
    for name, source in own_types().items():
        if "uri" in source:
            found |= {name: source["privileges"], f"{name}Collection": source["privileges"]}
    return found


def subordinate_privileges(entity: str) -> Mapping[str, Mapping[str, list[list[str]]]]:
    """By the type above it, what an entity asks there."""
    found: Mapping[str, Mapping[str, list[list[str]]]] = _facts()["subordinate_privileges"].get(entity, {})
    return found


def types() -> list[str]:
    """Every type in use, collections too: DMTF's and ours."""
    collections = [name for name in privileges_of_all() if name.endswith("Collection")]
    return sorted({*_facts()["types"], *collections, *own_types()})


def own_registries() -> list[Path]:
    """Files of message registries of ours, `Name.major.minor.errata.json`."""
    return sorted((folder() / "registries").glob("*.json"))


def registry_files() -> Mapping[str, str]:
    """DMTF's message registries in use, each with its whole version."""
    found: Mapping[str, str] = _facts()["registry_files"]
    return found


def privilege_registry() -> str:
    """The version of DMTF's privilege registry that ours is made by."""
    found: str = _facts()["registries"]["Privileges"]
    return found


OWN_REGISTRY = "FabricMgr"
OWN_REGISTRY_FILE = "registries/FabricMgr.1.2.0.json"


@cache
def own_registry() -> Mapping[str, Any]:
    """The message registry of ours, as it is published."""
    found: Mapping[str, Any] = json.loads((folder() / OWN_REGISTRY_FILE).read_text())
    return found


def message(registry: str, name: str) -> MessageFact:
    """What a registry says of a message."""
    if registry == OWN_REGISTRY:
        own = own_registry()["Messages"][name]
        return MessageFact(own["NumberOfArgs"], own["MessageSeverity"])
    return MessageFact(**_facts()["messages"][registry][name])


def message_id(registry: str, name: str) -> str:
    """With major and minor version of the registry, as payloads carry it: `Base.1.22.PropertyUnknown`."""
    if registry == OWN_REGISTRY:
        return f"{registry}.{own_registry()['RegistryVersion'].rpartition('.')[0]}.{name}"
    return f"{registry}.{_facts()['registries'][registry]}.{name}"


def registries() -> list[str]:
    """Prefixes of the registries whose messages this service sends."""
    return sorted([*_facts()["messages"], OWN_REGISTRY])
