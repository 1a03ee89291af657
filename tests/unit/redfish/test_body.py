"""What a client may set, and how a wrong body is named."""

import pytest

from fabricmgr.domain.errors import FabricError, MalformedBody, MissingField, NothingToDo, NotInList, NotWritable, UnknownField, WrongType
from fabricmgr.redfish.body import Flag, Items, Json, Number, Object, Text, checked, parse

SHAPE = Object(
    {
        "Name": Text(),
        "Size": Number(),
        "Ratio": Number(real=True),
        "On": Flag(),
        "Oem": Object(
            {"FabricMgr": Object({"Purpose": Text(("Pod", "Service")), "Ranges": Items(Object({"Prefix": Text()}, ("Prefix",)))})}
        ),
    },
    required=("Name",),
)
SHOWN: Json = {"Id": "p", "Name": "p", "Oem": {"FabricMgr": {"Usage": [], "Purpose": "Pod"}}}


@pytest.mark.parametrize(
    ("body", "error", "field"),
    [
        ({"Name": 3}, WrongType, "Name"),
        ({"Size": True}, WrongType, "Size"),
        ({"Size": 1.5}, WrongType, "Size"),
        ({"On": "yes"}, WrongType, "On"),
        ({"Oem": {"FabricMgr": {"Purpose": "Pods"}}}, NotInList, "Oem/FabricMgr/Purpose"),
        ({"Oem": {"FabricMgr": {"Ranges": [{"Prefix": 1}]}}}, WrongType, "Oem/FabricMgr/Ranges/0/Prefix"),
        ({"Oem": {"FabricMgr": {"Usage": []}}}, NotWritable, "Oem/FabricMgr/Usage"),
        ({"Id": "q"}, NotWritable, "Id"),
        ({"Nmae": "q"}, UnknownField, "Nmae"),
        ({"Oem": {"FabricMgr": {"Ranges": [{"Prefx": "x"}]}}}, UnknownField, "Oem/FabricMgr/Ranges/0/Prefx"),
    ],
)
def test_a_wrong_change_is_named_by_its_path(body: Json, error: type[FabricError], field: str) -> None:
    with pytest.raises(error) as raised:
        checked(body, SHAPE, SHOWN, creating=False)

    assert vars(raised.value)["field"] == field


def test_a_misspelt_property_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UnknownField) as raised:
        checked({"Nmae": "q"}, SHAPE, SHOWN, creating=False)

    assert "Name was probably meant" in raised.value.nearest


def test_a_change_of_annotations_alone_is_no_operation() -> None:
    with pytest.raises(NothingToDo):
        checked({"@odata.id": "/redfish/v1/x"}, SHAPE, SHOWN, creating=False)


def test_a_creation_without_a_required_property_names_it() -> None:
    with pytest.raises(MissingField) as raised:
        checked({"Size": 1}, SHAPE, {}, creating=True)

    assert raised.value.field == "Name"


def test_annotations_are_left_out_and_the_rest_comes_through() -> None:
    assert checked({"Name": "p", "@odata.type": "x"}, SHAPE, SHOWN, creating=True) == {"Name": "p"}


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse(raw, "application/json; charset=utf-8")
