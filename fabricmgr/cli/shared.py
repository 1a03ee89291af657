"""Options that several commands have in common, declared once as fields of a dataclass."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

Command = Callable[..., None]


def spread(command: Command) -> Command:
    """The command with one option for each field of a parameter that is a dataclass, in that parameter's place."""
    hints = get_type_hints(command, include_extras=True)
    sets: dict[str, type[Any]] = {name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}

    @wraps(command)
    def called(**given: Any) -> None:
        gathered = {name: kind(**{each.name: given.pop(each.name) for each in fields(kind)}) for name, kind in sets.items()}
        command(**given, **gathered)

    parameters = [each for parameter in signature(command).parameters.values() for each in _parameters(parameter, hints)]
    # By keyword alone: an option that may be left out stands before one that may not.
    called.__dict__["__signature__"] = Signature(parameters)
    called.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
    return called


def _parameters(parameter: Parameter, hints: dict[str, Any]) -> Iterator[Parameter]:
    kind = hints[parameter.name]
    if not is_dataclass(kind):
        yield parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=kind)
        return
    types = get_type_hints(kind, include_extras=True)
    for each in fields(kind):
        yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=types[each.name])
