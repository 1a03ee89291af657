"""Ids: safe in a URI, and each stands for one thing."""

import pytest

from fabricmgr.domain.addresses import parse_prefix
from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.fabric import endpoint_name, safe
from fabricmgr.redfish import ids


@pytest.mark.parametrize(
    ("cluster", "node", "expected"), [("default", "n1", "n1"), ("east", "n1", "east_n1"), ("default", "n1.example", "n1.example")]
)
def test_a_node_is_found_again_by_its_id(cluster: str, node: str, expected: str) -> None:
    assert ids.system_id(cluster, node) == expected
    assert ids.system_of(expected) == (cluster, node)


@pytest.mark.parametrize("text", ["", "_", "_n1", "east_", "a_b_c", "East_n1", "n1%20", "n 1", "-n1"])
def test_an_id_that_no_node_can_have_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        ids.system_of(text)


@pytest.mark.parametrize(("prefix", "expected"), [("10.1.4.0/26", "10.1.4.0-26"), ("2001:db8::/64", "2001_db8__-64"), ("::/0", "__-0")])
def test_a_prefix_is_found_again_by_its_id(prefix: str, expected: str) -> None:
    assert ids.prefix_id(parse_prefix(prefix)) == expected
    assert ids.prefix_of(expected, "block") == parse_prefix(prefix)


@pytest.mark.parametrize("text", ["10.1.4.1-26", "10.1.4.0", "2001_0db8__-64", "2001:db8::-64", "-", "10.1.4.0-026"])
def test_another_spelling_of_a_prefix_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        ids.prefix_of(text, "block")


@pytest.mark.parametrize(
    ("name", "expected"), [("Ethernet1/1", "Ethernet1-1"), ("eth0.7", "eth0.7"), ("br_x", "br_5Fx"), ("é", "_C3_A9"), ("a b", "a_20b")]
)
def test_a_name_of_a_kernel_or_a_switch_becomes_safe(name: str, expected: str) -> None:
    assert safe(name) == expected


def test_nics_of_two_nodes_never_share_an_id() -> None:
    names = [endpoint_name(cluster, node, nic) for cluster in ("a", "a.b") for node in ("b", "b.c") for nic in ("c", "c_d", "b_c")]

    assert len(set(names)) == len(names)
    assert all(name.split("_", 2)[0] in ("a", "a.b") for name in names)
