"""Domain events as Redfish messages: each has one, and each is what its registry says."""

import json
import re
from dataclasses import MISSING, fields
from datetime import UTC, datetime

import pytest

from fabricmgr import dmtf
from fabricmgr.domain import events
from fabricmgr.domain.events import DomainEvent, Event
from fabricmgr.redfish.messages import ROWS, Message, Row, alive, key_of, lost, messages_of, payload
from fabricmgr.redfish.resources.event_service import TYPES
from fabricmgr.redfish.resources.logs import ANSWERED, RECORDED

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KINDS = {kind.__name__: kind for kind in DomainEvent.__subclasses__() if kind.__module__ == events.__name__}
SAID = [(what, row) for what, rows in ROWS.items() for row in rows if what in KINDS]


def sample(what: str) -> Event:
    """An event of that kind, each field filled with a word that is its name."""
    about: dict[str, events.Json] = {}
    for field in fields(KINDS[what]):
        number = "int" in str(field.type)
        about[field.name] = 7 if number else ["a", "b"] if "tuple" in str(field.type) else f"some-{field.name}"
        assert field.default in (MISSING, None)
    return Event(41, AT, what, about)


def test_every_domain_event_has_its_messages() -> None:
    assert set(KINDS) <= set(ROWS)


@pytest.mark.parametrize(("what", "row"), SAID, ids=lambda value: value if isinstance(value, str) else f"{value.registry}.{value.name}")
def test_a_message_has_as_many_arguments_as_its_registry_says(what: str, row: Row) -> None:
    fact = dmtf.message(row.registry, row.name)
    found = next(each for each in messages_of(sample(what)) if each.key == f"{row.registry}.{row.name}")

    assert len(found.args) == len(row.args) == fact.args
    assert found.severity == fact.severity
    assert "{" not in found.text + "".join(found.args) + found.origin
    assert "%" not in re.sub(r"\d+ %", "", found.text)


@pytest.mark.parametrize("what", [what for what in KINDS if what != "TestEventSubmitted"])
def test_a_record_has_what_the_schema_requires(what: str) -> None:
    found = messages_of(sample(what))

    told = payload("41", "mine", found)

    assert told["Events@odata.count"] == len(told["Events"]) == len(found) > 0
    assert len({each["EventId"] for each in told["Events"]}) == len(found)
    for member, each in enumerate(told["Events"]):
        assert each["MemberId"] == str(member)
        assert each["EventType"] == "Other"
        assert each["EventTimestamp"].endswith("+00:00")
        assert each["MessageId"].count(".") == 3
        assert each["OriginOfCondition"]["@odata.id"].startswith("/redfish/v1/")


def test_a_changed_password_is_told_as_such() -> None:
    event = Event(1, AT, "AccountChanged", {"account": "eve", "changed": ["password"], "by": "eve"})

    assert [each.key for each in messages_of(event)] == ["AccountSecurity.PasswordModified"]


def test_a_test_event_says_what_its_client_said() -> None:
    about: dict[str, events.Json] = {
        "message": "Alert.1.0.LanDisconnect",
        "args": ["eth0"],
        "text": "out",
        "severity": "Critical",
        "by": "eve",
    }
    event = Event(9, AT, "TestEventSubmitted", {**about, "origin": "/redfish/v1/Systems/n1"})

    (found,) = messages_of(event)

    record = found.record(0)
    assert (record["MessageId"], record["MessageArgs"]) == ("Alert.1.0.LanDisconnect", ["eth0"])
    assert (record["Message"], record["MessageSeverity"]) == ("out", "Critical")
    assert record["OriginOfCondition"] == {"@odata.id": "/redfish/v1/Systems/n1"}


def test_an_event_of_a_later_version_is_told_to_nobody() -> None:
    assert messages_of(Event(1, AT, "SomethingNew", {})) == ()


@pytest.mark.parametrize("made", [lost(3, AT), alive(3, AT)], ids=["lost", "alive"])
def test_what_the_service_says_of_itself_is_what_the_registry_says(made: Message) -> None:
    record = made.record(0)
    registry, name = key_of(record["MessageId"]).split(".")

    assert dmtf.message(registry, name).args == len(record["MessageArgs"])


@pytest.mark.parametrize("name", dmtf.own_registry()["Messages"])
def test_a_message_of_our_registry_names_each_argument_it_takes(name: str) -> None:
    told = dmtf.own_registry()["Messages"][name]

    named = {int(number) for number in re.findall(r"%(\d)", told["Message"])}
    assert named == set(range(1, told["NumberOfArgs"] + 1))
    assert len(told.get("ParamTypes", [])) == len(told.get("ArgDescriptions", [])) == told["NumberOfArgs"]
    assert name in (ANSWERED, RECORDED) or any(row.name == name for _, row in SAID if row.registry == dmtf.OWN_REGISTRY)
    assert json.dumps(told).isascii()


def test_types_that_events_are_about_are_announced() -> None:
    assert {row.kind for rows in ROWS.values() for row in rows} == set(TYPES)
