"""What a Service's status says of its addresses."""

from ipaddress import ip_address

import pytest

from fabricmgr.controllers.kube_services import serving
from fabricmgr.controllers.service_conditions import ANNOUNCED, ASSIGNED, CONFLICT, Verdict, verdicts
from fabricmgr.kube.views import EndpointConditions as Conditions
from fabricmgr.kube.views import EndpointSlice
from fabricmgr.kube.views import SliceEndpoint as Endpoint
from fabricmgr.services.service_addresses import Settled
from fabricmgr.store.announce_rows import Announcement

FOUR, SIX = ip_address("192.0.2.1"), ip_address("2001:db8::1")
SPOKEN = Verdict(ANNOUNCED, "True", "Announced", "192.0.2.1: n1 announces it")


def has(*announced: Announcement) -> Settled:
    return Settled(tuple(each.address for each in announced), "", announced=announced)


def of(kind: str, found: tuple[Verdict, ...]) -> Verdict | None:
    return next((each for each in found if each.type == kind), None)


def test_a_service_that_waits_says_why_and_nothing_of_announcements() -> None:
    found = verdicts(Settled((), "pool front has no free address"), ())

    assert found == (Verdict(ASSIGNED, "False", "Pending", "pool front has no free address"),)


def test_who_announces_each_address_is_named() -> None:
    found = verdicts(has(Announcement(FOUR, "n1", "speaking"), Announcement(SIX, "n2", "speaking")), ())

    assert of(ANNOUNCED, found) == Verdict(ANNOUNCED, "True", "Announced", "192.0.2.1: n1 announces it; 2001:db8::1: n2 announces it")
    assert of(CONFLICT, found) is None


def test_an_address_that_nobody_may_announce_says_so_and_warns() -> None:
    """F022."""
    found = of(ANNOUNCED, verdicts(has(Announcement(FOUR, reason="every node is excluded"), Announcement(SIX, "n1", "speaking")), ()))

    assert found == Verdict(ANNOUNCED, "False", "NotAnnounced", "192.0.2.1 is not announced: every node is excluded")
    assert found.warns


@pytest.mark.parametrize("before", [(), (SPOKEN,)])
def test_while_a_node_asks_the_wire_what_was_said_before_stands(before: tuple[Verdict, ...]) -> None:
    found = verdicts(has(Announcement(FOUR, "n2", "probing")), before)

    assert of(ANNOUNCED, found) == (before[0] if before else None)


def test_a_foreign_answerer_is_named_with_what_to_change_though_the_address_is_announced() -> None:
    """F028."""
    found = verdicts(has(Announcement(FOUR, "n1", "speaking", conflict="02:00:00:00:00:02", other="n2")), ())
    conflict = of(CONFLICT, found)

    assert conflict is not None
    assert conflict.message.startswith("02:00:00:00:00:02 (n2) answers for 192.0.2.1 too: ")
    assert "arp_ignore=1" in conflict.message
    assert conflict.warns
    assert of(ANNOUNCED, found) == SPOKEN


def test_an_address_that_a_foreigner_keeps_from_being_announced_is_not_announced() -> None:
    """F028."""
    found = of(ANNOUNCED, verdicts(has(Announcement(FOUR, "n1", "probing", conflict="02:00:00:00:00:02")), (SPOKEN,)))

    assert found == Verdict(ANNOUNCED, "False", "NotAnnounced", "192.0.2.1 is not announced: 02:00:00:00:00:02 answers for it")


def test_nodes_that_serve_are_those_with_ready_endpoints_else_those_that_end_and_serve_on() -> None:
    ready, unknown, ending, gone = (
        Endpoint(node_name="n1", conditions=Conditions(ready=True)),
        Endpoint(node_name="n2"),
        Endpoint(node_name="n3", conditions=Conditions(ready=False, serving=True, terminating=True)),
        Endpoint(node_name="n4", conditions=Conditions(ready=False, serving=False, terminating=True)),
    )

    assert serving([EndpointSlice(endpoints=[ready, ending]), EndpointSlice(endpoints=[unknown, gone])]) == ("n1", "n2")
    assert serving([EndpointSlice(endpoints=[ending, gone]), EndpointSlice()]) == ("n3",)
    assert serving([]) == ()
