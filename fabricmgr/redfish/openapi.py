"""/redfish/v1/openapi.yaml: the service as its declarations say it, in OpenAPI 3.1. Written as JSON, which is YAML (YAML 1.2, 1.3)."""

import re

from fabricmgr import __version__, dmtf
from fabricmgr.redfish.body import Flag, Items, Json, Kind, Number, Object, Text
from fabricmgr.redfish.resource import Place, Resource, Tree

PATH = "/redfish/v1/openapi.yaml"
SCHEMES: Json = {"session": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}, "basic": {"type": "http", "scheme": "basic"}}
_REFUSED: Json = {
    "description": "Refused",
    "content": {"application/json": {"schema": {"$ref": f"{dmtf.PUBLISHED}/redfish-error.v1_0_2.json"}}},
}
_QUERY = ("only", "$expand", "$filter", "$select", "$skip", "$top")


def described(tree: Tree) -> Json:
    """The whole document."""
    paths: Json = {}
    for resource in tree.resources:
        if resource.members is not None:
            paths[resource.collection_uri] = _path(resource.collection_uri, Place(resource, True, {}))
        paths[resource.uri] = _path(resource.uri, Place(resource, False, {}))
        for action in resource.actions:
            uri = action.target(resource.uri)
            paths[uri] = _path(uri, Place(resource, False, {}, action))
        for stream in resource.streams:
            uri = stream.uri(resource.uri)
            paths[uri] = {"get": {"responses": {"200": _streamed(stream.media_type), "default": _REFUSED}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "fabricmgr: Redfish", "version": __version__},
        "security": [{name: []} for name in SCHEMES],
        "paths": dict(sorted(paths.items())),
        "components": {"securitySchemes": SCHEMES},
    }


def _streamed(media_type: str) -> Json:
    return {"description": "Without an end", "content": {media_type: {"schema": {"type": "string"}}}}


def _path(uri: str, place: Place) -> Json:
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in re.findall(r"\{(\w+)\}", uri)]
    found: Json = {"parameters": parameters} if parameters else {}
    return found | {method.lower(): _operation(place, method) for method in place.methods if method != "HEAD"}


def _operation(place: Place, method: str) -> Json:
    found: Json = {"responses": {**_answers(place, method), "default": _REFUSED}}
    shape = _shape(place, method)
    if shape is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _schema(shape, method == "POST")}}}
    if method == "GET":
        names = [name for name in _QUERY if place.collection or name in ("$expand", "$select")]
        found["parameters"] = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
    if _is_open(place, method):
        found["security"] = []
    return found


def _is_open(place: Place, method: str) -> bool:
    logs_in = place.resource.login and place.collection and method == "POST"
    return logs_in or (place.resource.open_to_all and not place.collection and method == "GET")


def _answers(place: Place, method: str) -> Json:
    entity = place.resource.schema if method == "POST" else place.entity
    name = dmtf.schema_uri(entity)
    shown: Json = {"content": {"application/json": {"schema": {"$ref": f"{name}#/definitions/{entity}"}}}}
    if place.action is not None:
        return {"200": {"description": "Done, with a result"}, "201": {"description": "Made"}, "204": {"description": "Done"}}
    if method == "DELETE":
        return {"204": {"description": "Removed"}}
    return {"201": {"description": "Made", **shown}} if method == "POST" else {"200": {"description": "As it is", **shown}}


def _shape(place: Place, method: str) -> Object | None:
    resource: Resource = place.resource
    if method == "PATCH":
        return resource.patchable
    if method != "POST":
        return None
    return place.action.parameters if place.action is not None else resource.creatable


def _schema(kind: Kind, creating: bool) -> Json:
    if isinstance(kind, Text):
        return {"type": "string", **({"enum": list(kind.among)} if kind.among else {})}
    if isinstance(kind, Number):
        return {"type": "number" if kind.real else "integer"}
    if isinstance(kind, Flag):
        return {"type": "boolean"}
    if isinstance(kind, Items):
        return {"type": "array", "items": _schema(kind.kind, creating)}
    if not isinstance(kind, Object):
        return {"type": "object"}
    found: Json = {"type": "object", "properties": {name: _schema(each, creating) for name, each in kind.fields.items()}}
    return {**found, "required": list(kind.required)} if creating and kind.required else found
