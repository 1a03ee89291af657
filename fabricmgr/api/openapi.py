"""/v1/openapi.json: FastAPI describes its routes, we describe the raw ones from the very types their bodies are decoded with."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from fabricmgr.api.dispatch import RawRoute
from fabricmgr.web.privileges import Requirement, requirement

Json = dict[str, Any]

PROBLEM: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "fields"],
            "properties": {
                "code": {"type": "string", "description": "the error's name; it does not change"},
                "message": {"type": "string", "description": "one sentence for people"},
                "fields": {"type": "object", "description": "what the sentence is made of"},
            },
        }
    },
}
SCHEMES: Json = {
    "session": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
    "basic": {"type": "http", "scheme": "basic"},
    "certificate": {"type": "mutualTLS"},
}
_REFUSED: Json = {"description": "Refused", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_TEMPLATE = "#/components/schemas/{name}"


def describe(raw: Sequence[RawRoute], framework: Sequence[APIRoute], version: str) -> Json:
    """The whole document."""
    document: Json = get_openapi(title="fabricmgr", version=version, routes=list(framework))
    components = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    kinds = [kind for route in raw for kind in (route.takes, route.gives) if kind is not None]
    schemas, found = msgspec.json.schema_components(kinds, ref_template=_TEMPLATE)
    components.update(found)
    components["Problem"] = PROBLEM
    document["components"]["securitySchemes"] = SCHEMES
    references = iter(schemas)
    for route in raw:
        takes = next(references) if route.takes is not None else None
        gives = next(references) if route.gives is not None else None
        document["paths"].setdefault(route.template, {})[route.method.lower()] = _operation(route, takes, gives)
    for template, operations in document["paths"].items():
        for method, operation in operations.items():
            _finish(operation, requirement(method.upper(), template))
    return document


def _operation(route: RawRoute, takes: Mapping[str, Any] | None, gives: Mapping[str, Any] | None) -> Json:
    answer: Json = {"description": route.summary}
    if gives is not None:
        answer["content"] = {route.media_type: {"schema": gives}}
    elif route.status != 204:
        answer["content"] = {route.media_type: {}}
    operation: Json = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z]+', '_', route.template)}",
        "parameters": _parameters(route),
        "responses": {str(route.status): answer},
    }
    if takes is not None:
        operation["requestBody"] = {"required": not route.optional_body, "content": {"application/json": {"schema": takes}}}
    return operation


def _parameters(route: RawRoute) -> list[Json]:
    names = re.findall(r"{([a-z_]+)}", route.template)
    path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    query = [{"name": name, "in": "query", "description": about, "schema": {"type": "string"}} for name, about in route.query.items()]
    return [*path, *query]


def _finish(operation: Json, need: Requirement) -> None:
    """What the privilege table says, and one form for all refusals."""
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = _REFUSED
    if need.open_to_all:
        operation["security"] = []
        return
    operation["security"] = [{"certificate": []}] if need.node else [{"session": []}, {"basic": []}]
    if not need.node:
        operation["x-privileges"] = sorted(need.any_of)
