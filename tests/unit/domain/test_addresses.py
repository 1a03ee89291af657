"""Addresses and prefixes: one spelling inside, and arithmetic that holds for every prefix."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network, collapse_addresses, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabricmgr.domain.addresses import (
    Family,
    Prefix,
    block_at,
    block_length,
    blocks_are_central,
    central_tail,
    family_of,
    parse_address,
    parse_prefix,
    range_to_prefixes,
    skips_ends,
)
from fabricmgr.domain.errors import Invalid


@pytest.mark.parametrize("text", ["2001:db8::5", "2001:DB8:0::0005", "2001:0db8:0:0:0:0:0:5"])
def test_every_spelling_of_an_address_is_the_same_address(text: str) -> None:
    """F015."""
    assert str(parse_address(text)) == "2001:db8::5"


@pytest.mark.parametrize(
    "text", ["2001:db8::5%eth0", "::ffff:10.20.0.5", "2001:db8::5/64", "10.0.0.5/32", "", " 10.0.0.5", "10.0.0.05", "10.0.5", "host"]
)
def test_a_zone_a_mapped_form_and_a_prefix_length_are_no_address(text: str) -> None:
    """F015."""
    with pytest.raises(Invalid):
        parse_address(text)


def test_host_bits_are_refused_and_what_was_meant_is_named() -> None:
    with pytest.raises(Invalid) as refused:
        parse_prefix("10.0.0.77/24")

    assert "10.0.0.0/24" in refused.value.expected


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.0/33", "fe80::%eth0/64", "2001:db8::/129", "", "/", "a/8"])
def test_what_is_no_cidr_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_prefix(text)


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("10.0.0.0/16", None, 26),
        ("10.0.0.0/22", None, 26),
        ("10.0.0.0/24", None, 28),
        ("192.0.2.8/31", None, 32),
        ("192.0.2.8/32", None, 32),
        ("2001:db8::/64", None, 122),
        ("2001:db8::/120", None, 124),
        ("10.0.0.0/16", 24, 24),
        ("10.0.0.0/20", 20, 20),
    ],
)
def test_a_prefix_has_at_least_sixteen_blocks_where_it_can(text: str, wanted: int | None, expected: int) -> None:
    assert block_length(parse_prefix(text), wanted) == expected


@pytest.mark.parametrize("wanted", [15, 16, 19, 33])
def test_a_block_has_neither_more_than_4096_addresses_nor_less_than_one(wanted: int) -> None:
    with pytest.raises(Invalid):
        block_length(parse_prefix("10.0.0.0/16"), wanted)


@pytest.mark.parametrize(("length", "central"), [(29, False), (30, False), (31, True), (32, True)])
def test_blocks_of_fewer_than_four_addresses_are_central(length: int, central: bool) -> None:
    assert blocks_are_central(parse_prefix("10.0.0.0/24"), length) is central


def test_the_last_sixteenth_is_the_tail() -> None:
    assert central_tail(parse_prefix("10.0.0.0/16")) == IPv4Network("10.0.240.0/20")
    assert central_tail(parse_prefix("2001:db8::/64")) == IPv6Network("2001:db8:0:0:f000::/68")
    assert central_tail(parse_prefix("192.0.2.8/29")) is None


@pytest.mark.parametrize(("text", "skips"), [("10.0.0.0/30", True), ("10.0.0.0/31", False), ("2001:db8::/126", True), ("::1/128", False)])
def test_prefixes_of_one_or_two_addresses_skip_none(text: str, skips: bool) -> None:
    """F016."""
    assert skips_ends(parse_prefix(text)) is skips


def test_a_family_knows_its_width_and_its_name() -> None:
    assert family_of(parse_address("::1")) is Family.IPV6
    assert (Family.IPV4.label, Family.IPV4.width, Family.IPV6.width) == ("IPv4", 32, 128)


_ANY = st.integers(0, 2**32 - 1)


@given(_ANY, st.integers(0, 2000))
def test_a_range_is_the_fewest_cidrs_that_cover_it_and_nothing_else(lower: int, more: int) -> None:
    first, last = IPv4Address(lower), IPv4Address(min(lower + more, 2**32 - 1))

    found = list(range_to_prefixes(first, last))

    assert sum(each.num_addresses for each in found) == int(last) - int(first) + 1
    assert (found[0][0], found[-1][-1]) == (first, last)
    assert list(collapse_addresses(each for each in found if isinstance(each, IPv4Network))) == found


@given(_ANY, st.integers(8, 28), st.integers(0, 4))
def test_an_address_lies_in_its_block_and_the_block_in_its_prefix(number: int, length: int, more: int) -> None:
    prefix: Prefix = ip_network((number >> (32 - length) << (32 - length), length))

    block = block_at(prefix, length + more, IPv4Address(number))

    assert IPv4Address(number) in block
    assert block.prefixlen == length + more
    assert block.network_address in prefix


@pytest.mark.parametrize(("lower", "upper"), [("10.0.0.2", "10.0.0.1"), ("10.0.0.1", "2001:db8::1")])
def test_a_range_has_one_family_and_its_lower_end_first(lower: str, upper: str) -> None:
    with pytest.raises(Invalid):
        list(range_to_prefixes(parse_address(lower), parse_address(upper)))
