"""Selectors of a pool in Redfish: labels as a list of keys with values, since a property's name cannot be any text."""

from collections.abc import Mapping

from fabricmgr.domain.selectors import Selectors, parse
from fabricmgr.redfish.body import Flag, Items, Json, Kind, Number, Object, Text

_LABEL = Object({"Key": Text(), "Values": Items(Text())}, required=("Key",))
_FIELDS = {"NamespaceLabels": "namespace_labels", "NodeLabels": "node_labels", "ServiceLabels": "services"}
KINDS: Mapping[str, Kind] = {
    "Selectors": Object({"Namespaces": Items(Text()), **{name: Items(_LABEL) for name in _FIELDS}}),
    "Priority": Number(),
    "AutoAssign": Flag(),
}


def read(oem: Json) -> Selectors | None:
    """None where they are not given. Raises Invalid."""
    if "Selectors" not in oem:
        return None
    given: Json = oem["Selectors"]
    labels = {field: {each["Key"]: each.get("Values", []) for each in given.get(name, [])} for name, field in _FIELDS.items()}
    return parse({"namespaces": given.get("Namespaces", []), **labels}, "Oem/FabricMgr/Selectors")


def shown(selectors: Selectors) -> Json:
    """As it is written."""
    labels = {
        name: [{"Key": key, "Values": list(values)} for key, values in getattr(selectors, field).items()] for name, field in _FIELDS.items()
    }
    return {"Namespaces": list(selectors.namespaces), **labels}
