"""Names that cannot be wrong, and keys of owners."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.names import (
    DEFAULT_CLUSTER,
    NetworkName,
    NodeName,
    PoolName,
    cluster_name,
    container_id,
    interface_name,
    network_name,
    node_name,
    owner_name,
    pool_name,
)
from fabricmgr.domain.owner import Attachment, Direct, OwnerKind, owner_key


@pytest.mark.parametrize("text", ["a", "pods", "rack-7.example", "0", "a" * 63, ".".join(["a" * 63] * 3)])
def test_names_of_kubernetes_are_taken(text: str) -> None:
    parsed: list[str] = [cluster_name(text), node_name(text), pool_name(text)]

    assert parsed == [text] * 3


@pytest.mark.parametrize(
    "text", ["", "Pods", "-a", "a-", "a..b", ".a", "a_b", "a" * 64, "a/b", "a\n", "ä", "a" * 60 + ("." + "a" * 60) * 4]
)
def test_other_names_are_refused(text: str) -> None:
    for parse in (cluster_name, node_name, pool_name):
        with pytest.raises(Invalid):
            parse(text)


@pytest.mark.parametrize("text", ["podnet", "Pod_net.1-x", "0a"])
def test_cni_names_are_taken(text: str) -> None:
    assert network_name(text) == container_id(text) == text


@pytest.mark.parametrize("text", ["", "_a", "a b", "a/b", "a\n", "a" * 254])
def test_other_cni_names_are_refused(text: str) -> None:
    for parse in (network_name, container_id):
        with pytest.raises(Invalid):
            parse(text)


@pytest.mark.parametrize(
    ("text", "taken"), [("eth0", True), ("a" * 15, True), ("a" * 16, False), (".", False), ("a:b", False), ("é" * 8, False)]
)
def test_an_interface_has_a_name_that_linux_takes(text: str, taken: bool) -> None:
    if taken:
        assert interface_name(text) == text
        return
    with pytest.raises(Invalid):
        interface_name(text)


@pytest.mark.parametrize("text", ["", "-web", "web 1", "web/1", "w" * 254])
def test_an_owner_is_named_so_that_it_fits_into_a_uri(text: str) -> None:
    assert owner_name("ci@build:web-1.example") == "ci@build:web-1.example"
    with pytest.raises(Invalid):
        owner_name(text)


@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_two_lists_of_fields_have_one_key_only_when_they_are_equal(one: list[str], other: list[str]) -> None:
    same = owner_key(OwnerKind.DIRECT, *one) == owner_key(OwnerKind.DIRECT, *other)

    assert same == (one == other)
    assert owner_key(OwnerKind.SERVICE, *one) != owner_key(OwnerKind.DIRECT, *one)


def test_two_nodes_may_use_one_container_id() -> None:
    def at(node: str) -> Attachment:
        return Attachment(DEFAULT_CLUSTER, NodeName(node), NetworkName("podnet"), "c1", "eth0")

    assert at("n1").key == at("n1").key
    assert at("n1").key != at("n2").key
    assert str(at("n1")) == "container c1 interface eth0 network podnet node n1"


def test_a_client_of_two_pools_is_two_owners() -> None:
    one, other = (Direct(DEFAULT_CLUSTER, PoolName(pool), "web1") for pool in ("a", "b"))

    assert one.key != other.key
    assert str(one) == "web1 (pool a)"
