"""One machine told in two ways is one machine; two machines that resemble each other are two."""

from ipaddress import ip_address

import pytest

from fabricmgr.domain.machine import Machine, compare, find, forms

BMC = "00112233-4455-6677-8899-AABBCCDDEEFF"
OS = "33221100-5544-7766-8899-aabbccddeeff"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Machine(uuid=BMC), Machine(uuid=BMC.lower())),
        (Machine(uuid=BMC, serial="X1"), Machine(uuid=OS, serial="x1")),
        (
            Machine(uuid=BMC, macs=frozenset({"02:00:00:00:00:01"})),
            Machine(uuid=OS, macs=frozenset({"02-00-00-00-00-01", "0200.0000.0002"})),
        ),
        (Machine(uuid=BMC, name="w1"), Machine(uuid=OS, name="w1")),
        (Machine(uuid="", name="w1"), Machine(uuid=OS, name="w1")),
        (Machine(uuid="00000000-0000-0000-0000-000000000000", name="w1"), Machine(uuid=OS, name="w1")),
    ],
)
def test_the_same_machine_is_known_in_both_byte_orders_and_any_letter_case(one: Machine, other: Machine) -> None:
    """F051."""
    assert compare(one, other).same
    assert compare(other, one).same


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (Machine(uuid=BMC, serial="X1"), Machine(uuid=OS, serial="X2"), "serial numbers X1 and X2 differ"),
        (Machine(uuid=BMC), Machine(uuid=OS), "nothing else speaks for it"),
        (Machine(uuid=BMC, serial="X1"), Machine(uuid=BMC, serial="X2"), "serial numbers"),
        (Machine(uuid=BMC, name="w1"), Machine(uuid="11111111-2222-3333-4444-555555555555", name="w1"), "name w1, but UUIDs"),
    ],
)
def test_what_speaks_against_it_is_named(one: Machine, other: Machine, reason: str) -> None:
    """F051: a match on the swapped form alone, with another serial number, is refused."""
    verdict = compare(one, other)

    assert not verdict.same
    assert reason in verdict.reason


def test_a_machine_whose_firmware_swapped_its_uuid_stays_one() -> None:
    """F051: after an update the BMC tells the other form."""
    known = [Machine(uuid=OS, serial="X1", name="w1"), Machine(uuid="11111111-2222-3333-4444-555555555555", serial="X2", name="w2")]

    assert find(Machine(uuid=BMC, serial="X1"), known)[0] == 0
    assert find(Machine(uuid=OS, serial="X1"), known)[0] == 0
    assert OS in forms(BMC)


def test_of_cloned_machines_the_namesake_is_it_and_without_one_none_is() -> None:
    known = [Machine(uuid=OS, name="w1"), Machine(uuid=OS, name="w2")]

    assert find(Machine(uuid=OS, name="w2"), known)[0] == 1
    assert find(Machine(uuid=OS, name="w3"), known) == (None, f"2 machines have UUID {OS}")


def test_an_address_is_a_witness_where_a_machine_has_no_uuid() -> None:
    known = [Machine(addresses=frozenset({ip_address("192.0.2.1")})), Machine(addresses=frozenset({ip_address("192.0.2.2")}))]

    assert find(Machine(addresses=frozenset({ip_address("192.0.2.2")}), name="w2"), known) == (1, "address 192.0.2.2")
    assert find(Machine(name="w9"), known) == (None, "")
