"""Facts about DMTF's model, and the schemas of our own."""

import json
import os
import re
from inspect import signature
from pathlib import Path

import pytest

from fabricmgr import dmtf
from fabricmgr.domain.errors import FabricError
from fabricmgr.problems import BUG, PROBLEMS
from redfish_schemas.generate import documents

BUNDLE = os.environ.get("REDFISH_SCHEMAS", "")
needs_bundle = pytest.mark.skipif(
    not BUNDLE and os.environ.get("CI") != "true", reason="REDFISH_SCHEMAS is not set: DMTF's schema bundle is not part of this project"
)
FACTS = json.loads((dmtf.folder() / "dmtf.json").read_text())


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_a_schema_of_ours_equals_its_source(path: Path) -> None:
    assert path.read_text() == documents()[path]


@pytest.mark.parametrize("problem", [*PROBLEMS.values(), BUG], ids=lambda problem: f"{problem.redfish}-{problem.text[:20]}")
def test_every_problem_names_a_message_and_gives_as_many_arguments_as_it_takes(problem: object) -> None:
    row = problem if isinstance(problem, type(BUG)) else BUG

    assert dmtf.message("Base", row.redfish).args == len(row.args)


@pytest.mark.parametrize(("error", "problem"), PROBLEMS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_every_sentence_uses_fields_the_error_has(error: type[FabricError], problem: object) -> None:
    row = problem if isinstance(problem, type(BUG)) else BUG
    named = {name for text in (row.text, *row.args) for name in re.findall(r"\{(\w+)", text)}

    assert named - {"uri"} <= set(signature(error).parameters)


@needs_bundle
@pytest.mark.parametrize(("name", "version"), FACTS["types"].items())
def test_a_type_has_the_version_that_the_bundle_has(name: str, version: str) -> None:
    assert (Path(BUNDLE) / "json-schema" / f"{name}.{version}.json").exists()


_MESSAGES = [(registry, name, fact) for registry, messages in FACTS["messages"].items() for name, fact in messages.items()]


@needs_bundle
@pytest.mark.parametrize(("registry", "name", "fact"), _MESSAGES)
def test_a_message_is_what_the_registry_says(registry: str, name: str, fact: dict[str, object]) -> None:
    (file,) = (Path(BUNDLE) / "registries").glob(f"{registry}.{FACTS['registries'][registry]}.*.json")

    message = json.loads(file.read_text())["Messages"][name]

    assert fact == {"args": message["NumberOfArgs"], "severity": message["MessageSeverity"]}


@needs_bundle
@pytest.mark.parametrize(("entity", "methods"), FACTS["privileges"].items())
def test_privileges_are_what_the_registry_says(entity: str, methods: dict[str, list[list[str]]]) -> None:
    file = Path(BUNDLE) / "registries" / f"{FACTS['registries']['Privileges']}_PrivilegeRegistry.json"
    (mapping,) = (each for each in json.loads(file.read_text())["Mappings"] if each["Entity"] == entity)

    assert methods == {method: [each["Privilege"] for each in mapping["OperationMap"][method]] for method in methods}
