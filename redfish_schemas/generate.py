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

_EDM = {
    "string": "Edm.String",
    "integer": "Edm.Int64",
    "number": "Edm.Decimal",
    "boolean": "Edm.Boolean",
    "time": "Edm.DateTimeOffset",
}
_PUBLISHED = "redfish.dmtf.org/schemas/v1"
_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">',
)
_OWNER = '      <Annotation Term="Redfish.OwningEntity" String="fabricmgr"/>'
_COMMON = {
    "@odata.id": "Where this is.",
    "@odata.type": "The type of this resource.",
    "@odata.etag": "Its version.",
    "Id": "The last segment of its URI.",
    "Name": "Its name for people.",
    "Description": "What it is.",
}
_TAIL = ("    </Schema>", "  </edmx:DataServices>", "</edmx:Edmx>", "")
_REFERENCES = (
    (
        "http://docs.oasis-open.org/odata/odata/v4.0/errata03/csd01/complete/vocabularies/Org.OData.Core.V1.xml",
        "Org.OData.Core.V1",
        "OData",
    ),
    ("https://redfish.dmtf.org/schemas/v1/RedfishExtensions_v1.xml", "RedfishExtensions.v1_0_0", "Redfish"),
    (
        "http://docs.oasis-open.org/odata/odata/v4.0/errata03/csd01/complete/vocabularies/Org.OData.Capabilities.V1.xml",
        "Org.OData.Capabilities.V1",
        "Capabilities",
    ),
    (f"https://{_PUBLISHED}/Resource_v1.xml", "Resource", ""),
    (f"https://{_PUBLISHED}/Resource_v1.xml", "Resource.v1_0_0", ""),
)


def csdl(source: Source) -> str:
    """The CSDL document (OData 4.0, as DSP0266 section 9 uses it)."""
    namespace, version = source["namespace"], source["version"]
    whole = _entity(source) if "uri" in source else _complex(source, source["object"], source, "Resource.OemObject")
    lines = [
        *_HEAD,
        *(_reference(*reference) for reference in (*_REFERENCES, *_linked(source))),
        "  <edmx:DataServices>",
        _schema(namespace),
        _OWNER,
        *(_abstract(source["object"], source, source["uri"], "Resource.v1_0_0.Resource") if "uri" in source else ()),
        *_actions(source),
        "    </Schema>",
        _schema(f"{namespace}.{version}"),
        _OWNER,
        *whole,
    ]
    for name, kind in source.get("types", {}).items():
        lines += _complex(source, name, kind, "")
    for name, enum in source.get("enums", {}).items():
        members = [f'        <Member Name="{member}"/>' for member in enum["members"]]
        lines += [f'      <EnumType Name="{name}">', *_described(enum, 8), *members, "      </EnumType>"]
    return "\n".join([*lines, *_TAIL])


def collection_csdl(source: Source) -> str:
    """The CSDL document of the collection of a resource of ours."""
    name = source["object"]
    kind = {"description": f"The collection of {name} resources.", "capabilities": source.get("collection_capabilities", {})}
    head = _abstract(f"{name}Collection", kind, source["uri"].rpartition("/")[0], "Resource.v1_0_0.ResourceCollection", abstract=False)
    members = [
        f'        <NavigationProperty Name="Members" Type="Collection({name}.{name})">',
        '          <Annotation Term="OData.Permissions" EnumMember="OData.Permission/Read"/>',
        *_described({"description": "The members of this collection."}, 10),
        '          <Annotation Term="OData.AutoExpandReferences"/>',
        '          <Annotation Term="Redfish.Required"/>',
        "        </NavigationProperty>",
    ]
    own = _reference(f"/redfish/v1/Schemas/{name}_v1.xml", name, "")
    lines = [*_HEAD, *(_reference(*each) for each in _REFERENCES), own, "  <edmx:DataServices>", _schema(f"{name}Collection"), _OWNER]
    return "\n".join([*lines, *head[:-1], *members, head[-1], *_TAIL])


def _schema(namespace: str) -> str:
    return f'    <Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="{namespace}">'


def _abstract(name: str, kind: Source, uri: str, base: str, *, abstract: bool = True) -> list[str]:
    """The type without a version: what a client may do with it, and where it lives."""
    allowed = kind.get("capabilities", {})
    marked = ' Abstract="true"' if abstract else ""
    lines = [f'      <EntityType Name="{name}" BaseType="{base}"{marked}>', *_described(kind, 8)]
    for restriction, flag in (("Insert", "Insertable"), ("Update", "Updatable"), ("Delete", "Deletable")):
        value = str(bool(allowed.get(flag.lower(), False))).lower()
        record = f'<Record><PropertyValue Property="{flag}" Bool="{value}"/></Record>'
        lines.append(f'        <Annotation Term="Capabilities.{restriction}Restrictions">{record}</Annotation>')
    where = f"<Collection><String>{uri}</String></Collection>"
    return [*lines, f'        <Annotation Term="Redfish.Uris">{where}</Annotation>', "      </EntityType>"]


def _entity(source: Source) -> list[str]:
    """The versioned type of a resource of ours."""
    name = source["object"]
    head = f'      <EntityType Name="{name}" BaseType="{source["namespace"]}.{name}">'
    return [head, *_complex(source, name, source, "")[1:-1], "      </EntityType>"]


def _actions(source: Source) -> list[str]:
    lines: list[str] = []
    for name, action in source.get("actions", {}).items():
        lines.append(f'      <Action Name="{name}" IsBound="true">')
        lines.append(f'        <Parameter Name="{source["object"]}" Type="Resource.OemObject"/>')
        for parameter, rule in action["parameters"].items():
            nullable = ' Nullable="false"' if rule.get("required") else ""
            lines.append(f'        <Parameter Name="{parameter}" Type="{_edm(source, rule["type"])}"{nullable}>')
            lines += [*_described(rule, 10), "        </Parameter>"]
        lines += _described(action, 8)
        if "returns" in action:
            lines.append(f'        <ReturnType Type="{_edm(source, action["returns"])}" Nullable="false"/>')
        lines.append("      </Action>")
    return lines


def _linked(source: Source) -> list[tuple[str, str, str]]:
    """References to the schemas of what a type links to: `@Type` is a resource of DMTF's or ours."""
    kinds = [source, *source.get("types", {}).values()]
    names = {rule["type"].removesuffix("[]")[1:] for kind in kinds for rule in kind["properties"].values() if rule["type"].startswith("@")}
    return [(f"{_home(name)}/{name}_v1.xml", name, "") for name in sorted(names)]


def _home(name: str) -> str:
    return "/redfish/v1/Schemas" if name.startswith("FabricMgr") else f"https://{_PUBLISHED}"


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
        tag = "NavigationProperty" if rule["type"].startswith("@") else "Property"
        lines += [
            f'        <{tag} Name="{prop}" Type="{_edm(source, rule["type"])}"{nullable}>',
            f'          <Annotation Term="OData.Permissions" EnumMember="OData.Permission/{permission}"/>',
            *required,
            *_described(rule, 10),
            f"        </{tag}>",
        ]
    return [*lines, "      </ComplexType>"]


def _edm(source: Source, kind: str) -> str:
    if kind.endswith("[]"):
        return f"Collection({_edm(source, kind[:-2])})"
    if kind.startswith("@"):
        return f"{kind[1:]}.{kind[1:]}"
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
    return _document(name, source["object"], definitions)


def _document(name: str, title: str, definitions: Source) -> str:
    document = {
        "$id": f"/redfish/v1/Schemas/{name}.json",
        "$schema": "http://redfish.dmtf.org/schemas/v1/redfish-schema-v1.json",
        "title": f"#{name}.{title}",
        "owningEntity": "fabricmgr",
        "definitions": definitions,
    }
    return json.dumps(document, indent=2) + "\n"


def _object(kind: Source) -> Source:
    properties = {name: _property(rule) for name, rule in kind["properties"].items()}
    if "uri" in kind:
        return _resource(kind, properties)
    if "namespace" in kind:
        properties = {"@odata.type": {"type": "string", "description": "The type of this object."}, **properties}
    required = [name for name, rule in kind["properties"].items() if rule.get("required")]
    shape: Source = {"type": "object", "additionalProperties": False, "description": kind["description"], "properties": properties}
    return {**shape, "required": required} if required else shape


def _resource(kind: Source, properties: Source) -> Source:
    """What every resource has, and its own."""
    common = {name: {"type": "string", "description": text} for name, text in _COMMON.items()}
    required = ["@odata.id", "@odata.type", "Id", "Name", *(name for name, rule in kind["properties"].items() if rule.get("required"))]
    shape = {"type": "object", "additionalProperties": False, "description": kind["description"]}
    return {**shape, "properties": {**common, **properties}, "required": required}


def collection_json_schema(source: Source) -> str:
    """The JSON schema document of the collection of a resource of ours."""
    name = f"{source['object']}Collection"
    counted = {
        "Members": {"type": "array", "items": _property({"type": f"@{source['object']}", "description": "A member."}), "readonly": True},
        "Members@odata.count": {"type": "integer", "description": "How many members there are in all."},
        "Members@odata.nextLink": {"type": "string", "description": "Where the next page is."},
    }
    common = {each: {"type": "string", "description": text} for each, text in _COMMON.items() if each != "Id"}
    required = ["@odata.id", "@odata.type", "Members", "Members@odata.count", "Name"]
    shape = {"type": "object", "additionalProperties": False, "description": f"The collection of {source['object']} resources."}
    return _document(name, name, {name: {**shape, "properties": {**common, **counted}, "required": required}})


def _property(rule: Source) -> Source:
    kind = rule["type"]
    about = {"description": rule["description"], "readonly": not rule.get("writable", False)}
    if kind.endswith("[]"):
        return {"type": "array", "items": _property({**rule, "type": kind[:-2]}), **about}
    if kind.startswith("@"):
        home = "/redfish/v1/Schemas" if kind.startswith("@FabricMgr") else f"http://{_PUBLISHED}"
        return {"$ref": f"{home}/{kind[1:]}.json#/definitions/{kind[1:]}", **about}
    if kind == "time":
        return {"type": "string", "format": "date-time", **about}
    return {"type": kind, **about} if kind in _EDM else {"$ref": f"#/definitions/{kind}", **about}


def documents() -> dict[Path, str]:
    """Every file that follows from the sources, with its content."""
    found: dict[Path, str] = {}
    for path in sorted(HERE.glob("*.toml")):
        source = tomllib.loads(path.read_text())
        major = source["version"].partition("_")[0]
        found[HERE / "csdl" / f"{source['namespace']}_{major}.xml"] = csdl(source)
        found[HERE / "json-schema" / f"{source['namespace']}.{source['version']}.json"] = json_schema(source)
        if "uri" in source:
            found[HERE / "csdl" / f"{source['namespace']}Collection_{major}.xml"] = collection_csdl(source)
            found[HERE / "json-schema" / f"{source['namespace']}Collection.json"] = collection_json_schema(source)
    return found


def main() -> int:
    for path, content in documents().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
