"""Query parameters: what is announced works, the rest is refused."""

import pytest

from fabricmgr.domain.errors import QueryInvalid, QueryUnsupported
from fabricmgr.redfish.query import Query, read, select


@pytest.mark.parametrize("raw", [b"$count=true", b"%24orderby=x"])
def test_a_dollar_parameter_that_is_not_served_is_501(raw: bytes) -> None:
    with pytest.raises(QueryUnsupported):
        read(raw, collection=True)


@pytest.mark.parametrize("raw", [b"only=foo", b"$top=-1", b"$top=x", b"$skip=1.5", b"$top=", b"$select=", b"$select=a//b"])
def test_a_value_that_cannot_be_read_is_400(raw: bytes) -> None:
    with pytest.raises(QueryInvalid):
        read(raw, collection=True)


@pytest.mark.parametrize("raw", [b"only", b"$top=1", b"$skip=1"])
def test_paging_of_a_single_resource_is_400(raw: bytes) -> None:
    with pytest.raises(QueryInvalid):
        read(raw, collection=False)


def test_an_unknown_parameter_without_a_dollar_is_ignored() -> None:
    assert read(b"rpp=30&x", collection=False) == Query()


def test_select_keeps_what_every_resource_shows_and_the_paths_named() -> None:
    page = {"@odata.id": "/x", "@odata.type": "#X", "Name": "x", "Oem": {"A": {"B": 1, "C": 2}}, "Other": 1}

    assert select(page, (("Oem", "A", "B"), ("Gone",))) == {"@odata.id": "/x", "@odata.type": "#X", "Oem": {"A": {"B": 1}}}
