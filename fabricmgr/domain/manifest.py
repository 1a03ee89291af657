"""What the objects of a manifest would ask of pools, read from plain data. What cannot be read is refused by the name of its field."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fabricmgr.domain.errors import Invalid, MissingField
from fabricmgr.domain.kube import ADDRESSES, POOL

MOST_OBJECTS = 1000
MOST_REPLICAS = 1_000_000
_WITH_TEMPLATE = {"Deployment": "spec.replicas", "StatefulSet": "spec.replicas", "ReplicaSet": "spec.replicas", "Job": "spec.parallelism"}


@dataclass(frozen=True)
class PodsAsked:
    """Pods of one object. count: None for one on each node. node_selector: labels of nodes that it runs on."""

    what: str
    namespace: str
    count: int | None
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceAsked:
    """A Service of type LoadBalancer. cls: its loadBalancerClass, or empty. families: named ones, in order. policy: ipFamilyPolicy."""

    what: str
    namespace: str
    cls: str
    policy: str
    families: tuple[int, ...] = ()
    addresses: tuple[str, ...] = ()
    sharing_key: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


Asked = PodsAsked | ServiceAsked


@dataclass(frozen=True)
class Manifest:
    """passed: objects that ask for no address of ours, and why."""

    asked: tuple[Asked, ...]
    passed: tuple[str, ...]


def read(documents: Iterable[object], namespace: str) -> Manifest:
    """namespace: of objects that name none. Raises Invalid and MissingField."""
    asked: list[Asked] = []
    passed: list[str] = []
    for place, document in enumerate(_flat(documents)):
        found = _read(_Object(document, f"document {place + 1}"), namespace)
        if isinstance(found, str):
            passed.append(found)
        else:
            asked.append(found)
    if not asked and not passed:
        raise MissingField("manifest", "at least one object")
    return Manifest(tuple(asked), tuple(passed))


def _flat(documents: Iterable[object]) -> list[object]:
    found: list[object] = []
    for each in documents:
        if each is None:
            continue
        items = each.get("items") if isinstance(each, Mapping) and each.get("kind") == "List" else [each]
        found += items if isinstance(items, list) else [items]
        if len(found) > MOST_OBJECTS:
            raise Invalid("manifest", len(found), f"at most {MOST_OBJECTS} objects")
    return found


@dataclass(frozen=True)
class _Object:
    """A mapping, and where it stands."""

    value: object
    where: str

    def at(self, path: str, kind: type, default: Any) -> Any:
        """What stands there, of the type that belongs there. Raises Invalid."""
        found: Any = self.value
        for step in path.split("."):
            if found is None:
                return default
            if not isinstance(found, Mapping):
                raise Invalid(f"{self.where}: {path}", found, f"a mapping with {step}")
            found = found.get(step)
        if found is None:
            return default
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise Invalid(f"{self.where}: {path}", found, {int: "a number", str: "a text", list: "a list"}.get(kind, "a mapping"))
        return found

    def texts(self, path: str) -> dict[str, str]:
        found = self.at(path, dict, {})
        wrong = next((key for key, value in found.items() if not isinstance(key, str) or not isinstance(value, str)), None)
        if wrong is not None:
            raise Invalid(f"{self.where}: {path}.{wrong}", found[wrong], "a text (put it in quotes)")
        return dict(found)

    def list_of_texts(self, path: str) -> list[str]:
        found = self.at(path, list, [])
        if any(not isinstance(each, str) for each in found):
            raise Invalid(f"{self.where}: {path}", found, "a list of texts")
        return list(found)


def _read(found: _Object, namespace: str) -> Asked | str:
    kind, name = found.at("kind", str, ""), found.at("metadata.name", str, "")
    if not kind:
        raise MissingField(f"{found.where}: kind", "the kind of the object")
    name = name or found.at("metadata.generateName", str, "")
    if not name:
        raise MissingField(f"{found.where}: metadata.name", "the name of the object")
    space = found.at("metadata.namespace", str, "") or namespace
    named = _Object(found.value, f"{kind} {name}")
    if kind == "Service":
        return _service(named, f"Service {name}", space)
    if kind in _WITH_TEMPLATE or kind in ("DaemonSet", "Pod"):
        return _pods(named, kind, name, space)
    return f"{kind} {name}: it asks for no address"


def _pods(found: _Object, kind: str, name: str, namespace: str) -> PodsAsked | str:
    template = "" if kind == "Pod" else "spec.template."
    if template and not found.at("spec.template", dict, {}):
        raise MissingField(f"{found.where}: spec.template", "the template of its pods")
    if found.at(f"{template}spec.hostNetwork", bool, False):
        return f"{kind} {name}: its pods are on the network of their node"
    count = None if kind == "DaemonSet" else 1 if kind == "Pod" else found.at(_WITH_TEMPLATE[kind], int, 1)
    if count is not None and not 0 <= count <= MOST_REPLICAS:
        raise Invalid(f"{found.where}: {_WITH_TEMPLATE.get(kind, '')}", count, f"a number from 0 to {MOST_REPLICAS}")
    return PodsAsked(
        f"{kind} {name}",
        namespace,
        count,
        found.texts(f"{template}metadata.annotations"),
        found.texts(f"{template}metadata.labels"),
        found.texts(f"{template}spec.nodeSelector"),
    )


_FAMILY = {"IPv4": 4, "IPv6": 6}


def _service(found: _Object, what: str, namespace: str) -> ServiceAsked | str:
    if found.at("spec.type", str, "ClusterIP") != "LoadBalancer":
        return f"{what}: it is not of type LoadBalancer"
    families = found.list_of_texts("spec.ipFamilies")
    wrong = next((each for each in families if each not in _FAMILY), None)
    if wrong is not None:
        raise Invalid(f"{found.where}: spec.ipFamilies", wrong, "IPv4 or IPv6")
    policy = found.at("spec.ipFamilyPolicy", str, "SingleStack")
    if policy not in ("SingleStack", "PreferDualStack", "RequireDualStack"):
        raise Invalid(f"{found.where}: spec.ipFamilyPolicy", policy, "SingleStack, PreferDualStack or RequireDualStack")
    annotations = found.texts("metadata.annotations")
    asked = annotations.get(ADDRESSES, "") or found.at("spec.loadBalancerIP", str, "")
    return ServiceAsked(
        what,
        namespace,
        found.at("spec.loadBalancerClass", str, ""),
        policy,
        tuple(_FAMILY[each] for each in families),
        tuple(each.strip() for each in asked.split(",") if each.strip()),
        annotations.get("fabricmgr.io/sharing-key", ""),
        annotations,
        found.texts("metadata.labels"),
    )


def names_pool(asked: Asked) -> str:
    """The pool that an annotation of it names, or empty."""
    return asked.annotations.get(POOL, "")
