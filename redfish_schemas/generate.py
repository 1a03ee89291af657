"""Writes CSDL and JSON schema of each type of ours from its one source, the .toml file beside this one.

Run it after a change of a source; a test fails when the files and their source differ."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

HERE = Path(__file__).parent
Source = dict[str, Any]

_EDM = {"string": "Edm.String", "integer": "Edm.Int64", "number": "Edm.Decimal", "boolean": "Edm.Boolean"}
_REFERENCES = (
    (
        "http://docs.oasis-open.org/odata/odata/v4.0/errata03/csd01/complete/vocabularies/Org.OData.Core.V1.xml",
        "Org.OData.Core.V1",
        "OData",
    ),
    ("https://redfish.dmtf.org/schemas/v1/RedfishExtensions_v1.xml", "RedfishExtensions.v1_0_0", "Redfish"),
    ("https://redfish.dmtf.org/schemas/v1/Resource_v1.xml", "Resource", ""),
)


def csdl(source: Source) -> str:
    """The CSDL document (OData 4.0, as DSP0266 section 9 uses it)."""
    namespace, version = source["namespace"], source["version"]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">',
        *(_reference(*reference) for reference in _REFERENCES),
        "  <edmx:DataServices>",
        f'    <Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="{namespace}">',
        '      <Annotation Term="Redfish.OwningEntity" String="fabricmgr"/>',
        "    </Schema>",
        f'    <Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="{namespace}.{version}">',
        '      <Annotation Term="Redfish.OwningEntity" String="fabricmgr"/>',
        *_complex(source, source["object"], source, "Resource.OemObject"),
    ]
    for name, kind in source.get("types", {}).items():
        lines += _complex(source, name, kind, "")
    for name, enum in source.get("enums", {}).items():
        members = [f'        <Member Name="{member}"/>' for member in enum["members"]]
        lines += [f'      <EnumType Name="{name}">', *_described(enum, 8), *members, "      </EnumType>"]
    return "\n".join([*lines, "    </Schema>", "  </edmx:DataServices>", "</edmx:Edmx>", ""])


def _reference(uri: str, namespace: str, alias: str) -> str:
    shown = f" Alias={quoteattr(alias)}" if alias else ""
    return f"  <edmx:Reference Uri={quoteattr(uri)}><edmx:Include Namespace={quoteattr(namespace)}{shown}/></edmx:Reference>"


def _complex(source: Source, name: str, kind: Source, base: str) -> list[str]:
    derived = f' BaseType="{base}"' if base else ""
    lines = [f'      <ComplexType Name="{name}"{derived}>', '        <Annotation Term="OData.AdditionalProperties" Bool="false"/>']
    lines += _described(kind, 8)
    for prop, rule in kind["properties"].items():
        permission = "ReadWrite" if rule.get("writable") else "Read"
        required = ['          <Annotation Term="Redfish.Required"/>'] if rule.get("required") else []
        nullable = ' Nullable="false"' if rule.get("required") or rule["type"].endswith("[]") else ""
        lines += [
            f'        <Property Name="{prop}" Type="{_edm(source, rule["type"])}"{nullable}>',
            f'          <Annotation Term="OData.Permissions" EnumMember="OData.Permission/{permission}"/>',
            *required,
            *_described(rule, 10),
            "        </Property>",
        ]
    return [*lines, "      </ComplexType>"]


def _edm(source: Source, kind: str) -> str:
    if kind.endswith("[]"):
        return f"Collection({_edm(source, kind[:-2])})"
    return _EDM.get(kind, f"{source['namespace']}.{source['version']}.{kind}")


def _described(thing: Source, indent: int) -> list[str]:
    text, space = escape(thing["description"], {'"': "&quot;"}), " " * indent
    return [
        f'{space}<Annotation Term="OData.Description" String="{text}"/>',
        f'{space}<Annotation Term="OData.LongDescription" String="{text}"/>',
    ]


def json_schema(source: Source) -> str:
    """The JSON schema document (DSP0266, 10)."""
    name = f"{source['namespace']}.{source['version']}"
    definitions: Source = {source["object"]: _object(source)}
    definitions |= {kind: _object(rule) for kind, rule in source.get("types", {}).items()}
    definitions |= {
        enum: {"type": "string", "enum": rule["members"], "description": rule["description"]}
        for enum, rule in source.get("enums", {}).items()
    }
    document = {
        "$id": f"/redfish/v1/Schemas/{name}.json",
        "$schema": "http://redfish.dmtf.org/schemas/v1/redfish-schema-v1.json",
        "title": f"#{name}.{source['object']}",
        "owningEntity": "fabricmgr",
        "definitions": definitions,
    }
    return json.dumps(document, indent=2) + "\n"


def _object(kind: Source) -> Source:
    properties = {name: _property(rule) for name, rule in kind["properties"].items()}
    if "namespace" in kind:
        properties = {"@odata.type": {"type": "string", "description": "The type of this object."}, **properties}
    required = [name for name, rule in kind["properties"].items() if rule.get("required")]
    shape: Source = {"type": "object", "additionalProperties": False, "description": kind["description"], "properties": properties}
    return {**shape, "required": required} if required else shape


def _property(rule: Source) -> Source:
    kind = rule["type"]
    about = {"description": rule["description"], "readonly": not rule.get("writable", False)}
    if kind.endswith("[]"):
        return {"type": "array", "items": {"$ref": f"#/definitions/{kind[:-2]}"}, **about}
    return {"type": kind, **about} if kind in _EDM else {"$ref": f"#/definitions/{kind}", **about}


def documents() -> dict[Path, str]:
    """Every file that follows from the sources, with its content."""
    found: dict[Path, str] = {}
    for path in sorted(HERE.glob("*.toml")):
        source = tomllib.loads(path.read_text())
        major = source["version"].partition("_")[0]
        found[HERE / "csdl" / f"{source['namespace']}_{major}.xml"] = csdl(source)
        found[HERE / "json-schema" / f"{source['namespace']}.{source['version']}.json"] = json_schema(source)
    return found


def main() -> int:
    for path, content in documents().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
