"""FastAPI as we use it: strict models, and every refusal in our own words, never 422 and never {"detail"}."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from fastapi import Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from fabricmgr.api import bodies
from fabricmgr.api.dispatch import FrameworkRoute
from fabricmgr.domain.errors import FabricError, Invalid, MalformedBody, MissingField, NotFound, WrongType
from fabricmgr.problems import sentence
from fabricmgr.web.edge import context
from fabricmgr.web.responses import Answer, presentable, problem
from fabricmgr.web.who import Principal

TITLE = "fabricmgr"


class Model(BaseModel):
    """Base of all bodies: unknown fields are refused, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class View(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(extra="forbid")


def response(answer: Answer) -> Response:
    """An answer as the framework's response."""
    made = Response(answer.body, answer.status, media_type=answer.media_type if answer.status not in (204, 304) else None)
    made.raw_headers.extend(answer.headers)
    return made


def principal(request: Request) -> Principal:
    """Who asks, as the dispatch found out before the body was read."""
    found: Principal = request.scope["fabricmgr.principal"]
    return found


Asker = Annotated[Principal, Depends(principal)]


def make_app(routes: Sequence[APIRoute], version: str) -> FastAPI:
    """The framework's part, to be called by the dispatch. It brings no routes and no pages of its own."""
    app = FastAPI(title=TITLE, version=version, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.router.routes.extend(routes)
    app.add_exception_handler(FabricError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(Exception, _refuse)
    return app


def framework_routes(routes: Sequence[APIRoute]) -> list[FrameworkRoute]:
    """The same for the dispatch."""
    return [
        FrameworkRoute(method, route.path, frozenset(_query_names(route.dependant)))
        for route in routes
        for method in sorted(route.methods or ())
    ]


def _query_names(dependant: Dependant) -> Iterator[str]:
    yield from (each.alias for each in dependant.query_params)
    for below in dependant.dependencies:
        yield from _query_names(below)


async def _refuse(request: Request, raised: Exception) -> Response:
    error = _translated(request, raised)
    seen = context(request.scope)
    seen.reason = "" if error is None else sentence(presentable(error))
    return response(problem(error, request.url.path))


def _translated(request: Request, raised: Exception) -> FabricError | None:
    if isinstance(raised, FabricError):
        return raised
    if isinstance(raised, RequestValidationError):
        return refusal(raised.errors(), _body_model(request))
    if isinstance(raised, HTTPException) and raised.status_code == 404:
        return NotFound("resource", request.url.path)
    if isinstance(raised, HTTPException) and raised.status_code == 400:
        return MalformedBody("the body", "it is not JSON in UTF-8, or nested too deep")
    return None


# --- what pydantic found, in our words -----------------------------------------------------------------------------------


def refusal(errors: Sequence[Mapping[str, Any]], model: type[BaseModel] | None) -> FabricError:
    """The first of pydantic's errors; where one field is unknown, that one, since the others may follow from it."""
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    kind, place, steps = first["type"], first["loc"][0], first["loc"][1:]
    where = _dotted(steps)
    if kind == "json_invalid":
        return MalformedBody("the body", f"{first['ctx']['error']} at character {steps[0]}")
    if kind == "missing":
        return MissingField(where or "the body", "a value" if where else "a JSON object")
    if kind == "extra_forbidden":
        known = list(_model_at(model, steps[:-1]).model_fields) if model is not None else []
        return bodies.unknown_field(str(steps[-1]), known, _dotted(steps[:-1]))
    expected = first["msg"].removeprefix("Input should be ")
    if kind.endswith("_type") and place == "body":
        return WrongType(where or "the body", first["input"], expected)
    return Invalid(where, first["input"], expected)


def _dotted(steps: Sequence[int | str]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")


def _body_model(request: Request) -> type[BaseModel] | None:
    route = request.scope.get("route")
    found = route.body_field.field_info.annotation if isinstance(route, APIRoute) and route.body_field is not None else None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _model_at(model: type[BaseModel], steps: Sequence[int | str]) -> type[BaseModel]:
    """The model that a place in a body belongs to."""
    for step in steps:
        if isinstance(step, str) and step in model.model_fields:
            model = next(_models_in(model.model_fields[step].annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) is not None:
        for inner in get_args(annotation):
            yield from _models_in(inner)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
