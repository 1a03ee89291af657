"""What we implement of DMTF's model, as facts: type versions, privileges, messages. Read from redfish_schemas/dmtf.json alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PUBLISHED = "https://redfish.dmtf.org/schemas/v1"


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


def odata_type(name: str) -> str:
    """The `@odata.type` of a type, its version with it: `#AddressPool.v1_3_0.AddressPool`. Collections have none (DSP0266, 9.6)."""
    if name.endswith("Collection"):
        return f"#{name}.{name}"
    return f"#{name}.{_facts()['types'][name]}.{name}"


def schema_uri(name: str) -> str:
    """Where DMTF publishes the JSON schema of a type, as the Link header names it."""
    file = name if name.endswith("Collection") else f"{name}.{_facts()['types'][name]}"
    return f"{PUBLISHED}/{file}.json"


def schema_files() -> list[tuple[str, str]]:
    """(CSDL file, namespace) of every type in use, for `$metadata`."""
    versioned = [(f"{name}_v1.xml", f"{name}.{version}") for name, version in _facts()["types"].items()]
    collections = [(f"{name}_v1.xml", name) for name in _facts()["privileges"] if name.endswith("Collection")]
    return sorted(versioned + collections)


def privileges(entity: str, method: str) -> list[list[str]]:
    """Any of the outer list, all of the inner one, may do `method` (GET, POST, PATCH, DELETE) on `entity` (DSP0266, 13.4)."""
    found: list[list[str]] = _facts()["privileges"][entity]["GET" if method == "HEAD" else method]
    return found


def message(registry: str, name: str) -> MessageFact:
    """What a registry says of a message."""
    return MessageFact(**_facts()["messages"][registry][name])


def message_id(registry: str, name: str) -> str:
    """With major and minor version of the registry, as payloads carry it: `Base.1.22.PropertyUnknown`."""
    return f"{registry}.{_facts()['registries'][registry]}.{name}"
