"""Tokens: what `node add` prints, and events as JSON."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from ipaddress import ip_address, ip_network
from uuid import UUID

import pytest

from fabricmgr.domain.account import PREDEFINED, Role, account_name, privileges
from fabricmgr.domain.errors import Invalid, NotInList, TokenRefused
from fabricmgr.domain.events import DomainEvent, NodeGone, to_json
from fabricmgr.domain.node import Token


def test_a_token_is_read_as_it_was_written() -> None:
    made = Token.new("ab" * 32, lambda count: bytes(range(count)))

    assert Token.parse(str(made)) == made
    assert str(made) == "fm1.aaaqeayeaudaocajbifqydiob4ibceqt." + "ab" * 32
    assert made.secret.encode() not in made.digest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fm1..",
        "fm1.AAAQEAYEAUDAOCAJBIFQYDIOB4IBCEQT." + "ab" * 32,
        "fm1.aaaqeayeaudaocajbifqydiob4ibceqt." + "ab" * 31,
        "fm1.aaaqeayeaudaocajbifqydiob4ibceqt." + "ab" * 32 + "\n",
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenRefused):
        Token.parse(text)


def test_an_event_has_its_name_and_its_fields() -> None:
    event = NodeGone("default", "n1", released=3, blocks=1, by="anna")

    assert event.what == "NodeGone"
    assert event.about() == {"cluster": "default", "node": "n1", "released": 3, "blocks": 1, "by": "anna"}


def test_fields_of_an_event_become_json() -> None:
    class Kind(Enum):
        ONE = "one"

    values = (
        ip_address("2001:db8::5"),
        ip_network("10.0.0.0/8"),
        datetime(2026, 3, 1, tzinfo=UTC),
        UUID(int=5),
        Kind.ONE,
        {"a": (1, None)},
    )

    assert to_json(values) == [
        "2001:db8::5",
        "10.0.0.0/8",
        "2026-03-01T00:00:00+00:00",
        "00000000-0000-0000-0000-000000000005",
        "one",
        {"a": [1, None]},
    ]


def test_a_field_that_has_no_form_in_json_is_our_mistake() -> None:
    @dataclass(frozen=True)
    class Odd(DomainEvent):
        value: object

    with pytest.raises(TypeError):
        Odd(object()).about()


@pytest.mark.parametrize("text", ["", "-anna", "an na", "a" * 65, "anna\n", "änna"])
def test_what_is_no_account_name_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        account_name(text)


def test_redfishs_own_roles_are_known_by_its_names_and_a_privilege_it_does_not_have_is_refused() -> None:
    assert PREDEFINED["ReadOnly"] is Role.READ_ONLY
    assert Role.READ_ONLY.privileges == privileges(["Login", "ConfigureSelf"])
    with pytest.raises(NotInList):
        privileges(["login"])
