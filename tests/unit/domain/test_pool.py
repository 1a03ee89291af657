"""Pools: drafts that cannot be wrong, and what is kept out."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabricmgr.domain.addresses import Family, Prefix, parse_prefix
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.names import pool_name
from fabricmgr.domain.page import Page
from fabricmgr.domain.pool import (
    BlockTally,
    PoolChange,
    PoolDraft,
    PoolPrefix,
    PrefixDraft,
    PrefixTally,
    Purpose,
    Reservation,
    add_up,
    inside,
    parse_prefixes,
    purpose,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def prefix(text: str, *reserved: str) -> PoolPrefix:
    kept = tuple(Reservation(parse_prefix(each), "printers", NOW) for each in reserved)
    return PoolPrefix(1, parse_prefix(text), 26, False, None, NOW, kept)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/16", ["10.0.0.0/16"]),
        ("10.0.0.10-10.0.0.19", ["10.0.0.10/31", "10.0.0.12/30", "10.0.0.16/30"]),
        ("10.0.0.7 - 10.0.0.7", ["10.0.0.7/32"]),
        ("2001:db8::-2001:db8::ffff", ["2001:db8::/112"]),
    ],
)
def test_a_cidr_and_a_range_are_taken(text: str, expected: list[str]) -> None:
    assert [str(each) for each in parse_prefixes(text)] == expected


@pytest.mark.parametrize("text", ["10.0.0.1/16", "10.0.0.9-10.0.0.1", "10.0.0.1-2001:db8::1", "10.0.0.1-"])
def test_what_is_no_prefix_and_no_range_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_prefixes(text)


def test_the_oddest_range_still_fits_into_a_pool() -> None:
    found = parse_prefixes("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")

    assert len(found) == 254
    assert PoolDraft(pool_name("pods"), tuple(PrefixDraft(each) for each in found)).prefixes[0].cidr == found[0]


@pytest.mark.parametrize(
    "values",
    [
        {"cooldown": timedelta(seconds=-1)},
        {"cooldown": timedelta(days=8)},
        {"scope": -1},
        {"scope": 2**31 - 1},
        {"prefixes": tuple(PrefixDraft(parse_prefix(f"10.{n >> 8}.{n & 255}.0/24")) for n in range(257))},
    ],
)
def test_a_draft_that_cannot_be_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        PoolDraft(pool_name("pods"), **values)
    assert PoolChange().given() == {}


@pytest.mark.parametrize("gateway", ["10.0.1.1", "2001:db8::1"])
def test_a_gateway_lies_in_its_prefix(gateway: str) -> None:
    with pytest.raises(Invalid):
        PrefixDraft(parse_prefix("10.0.0.0/24"), gateway=ip_address(gateway))


@pytest.mark.parametrize(
    ("text", "central", "expected"),
    [("10.0.0.0/24", False, False), ("10.0.0.0/24", True, True), ("10.0.0.0/27", False, True), ("2001:db8::/126", False, True)],
)
def test_blocks_too_small_and_prefixes_that_say_so_are_central(text: str, central: bool, expected: bool) -> None:
    assert PrefixDraft(parse_prefix(text), central=central).is_central(Purpose.POD) is expected
    assert PrefixDraft(parse_prefix(text)).is_central(Purpose.SERVICE)


def test_a_block_larger_than_its_prefix_is_refused() -> None:
    with pytest.raises(Invalid):
        PrefixDraft(parse_prefix("10.0.0.0/24"), block_length=23)


def test_an_unknown_purpose_names_the_known_ones() -> None:
    with pytest.raises(Invalid) as refused:
        purpose("pod")

    assert "FabricLink" in refused.value.expected


@pytest.mark.parametrize(
    ("kept", "skip_ends", "expected"),
    [
        (prefix("10.0.0.0/24"), True, ["10.0.0.0/32", "10.0.0.255/32"]),
        (prefix("10.0.0.0/24"), False, []),
        (prefix("10.0.0.0/31"), True, []),
        (prefix("2001:db8::/128"), True, []),
        (prefix("10.0.0.0/24", "10.0.0.0/30", "10.0.0.2/32", "10.0.0.4/30"), True, ["10.0.0.0/29", "10.0.0.255/32"]),
    ],
)
def test_each_address_is_kept_out_once(kept: PoolPrefix, skip_ends: bool, expected: list[str]) -> None:
    assert [str(each) for each in kept.kept_out(skip_ends)] == expected


_PREFIXES = st.builds(
    lambda number, length: ip_network((number >> (32 - length) << (32 - length), length)), st.integers(0, 2**32 - 1), st.integers(20, 32)
)


@given(_PREFIXES, _PREFIXES)
def test_inside_says_what_the_standard_library_does(small: Prefix, large: Prefix) -> None:
    assert inside(small, large) == (set(range(*_span(small))) <= set(range(*_span(large))))
    assert not inside(parse_prefix("2001:db8::/64"), large)


def _span(prefix: Prefix) -> tuple[int, int]:
    return int(prefix.network_address), int(prefix.broadcast_address) + 1


def test_a_tally_of_every_kind_of_address_adds_up() -> None:
    tally = PrefixTally(
        cidr=parse_prefix("10.0.0.0/24"),
        kept_out=10,
        held=20,
        waiting=3,
        taken_kept_out=2,
        taken_in_node_blocks=15,
        node_blocks=BlockTally(64, 4),
        resting_blocks=BlockTally(16, 1),
        resting_spares=5,
    )

    usage = add_up(Family.IPV4, [tally.usage(), tally.usage()])

    assert (usage.held, usage.reserved, usage.cooling, usage.idle) == (40, 16, 46, 90)
    assert usage.total == 512 == usage.held + usage.reserved + usage.cooling + usage.idle + usage.free


@pytest.mark.parametrize("limit", [0, 1001, -5])
def test_a_page_has_one_to_a_thousand_items(limit: int) -> None:
    with pytest.raises(Invalid):
        Page(limit)


def test_a_page_says_where_the_next_begins_only_when_there_is_one() -> None:
    assert Page(2).cut(["a", "b", "c"], str).next == "b"
    assert Page(2).cut(["a", "b"], str).next is None
    assert Page(2).cut([], str).items == ()
