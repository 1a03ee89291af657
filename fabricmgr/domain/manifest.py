"""What the objects of a manifest would ask of pools, read from plain data. What cannot be read is refused by the name of its field."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fabricmgr.domain import service
from fabricmgr.domain.errors import Invalid, MissingField
from fabricmgr.domain.kube import KubeNamespace

MOST_OBJECTS = 1000
MOST_REPLICAS = 1_000_000
_WITH_TEMPLATE = {"Deployment": "spec.replicas", "StatefulSet": "spec.replicas", "ReplicaSet": "spec.replicas", "Job": "spec.parallelism"}


@dataclass(frozen=True)
class PodsAsked:
    """Pods of one object. name: empty where the API server makes it. count: None for one on each node.

    node_selector: labels of nodes that it runs on."""

    what: str
    kind: str
    name: str
    namespace: str
    count: int | None
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceAsked:
    """A Service of type LoadBalancer, with what its controller will read of it."""

    what: str
    name: str
    namespace: str
    asked: service.Asked
    labels: Mapping[str, str] = field(default_factory=dict)


Asked = PodsAsked | ServiceAsked


@dataclass(frozen=True)
class Manifest:
    """namespaces: those that it makes or changes. passed: objects that ask for no address of ours, and why."""

    asked: tuple[Asked, ...]
    namespaces: tuple[KubeNamespace, ...]
    passed: tuple[str, ...]


def read(documents: Iterable[object], namespace: str) -> Manifest:
    """namespace: of objects that name none. Raises Invalid and MissingField."""
    asked: list[Asked] = []
    namespaces: list[KubeNamespace] = []
    passed: list[str] = []
    for place, document in enumerate(_flat(documents)):
        found = _read(_Object(document, f"document {place + 1}"), namespace)
        if isinstance(found, str):
            passed.append(found)
        elif isinstance(found, KubeNamespace):
            namespaces.append(found)
            passed.append(f"Namespace {found.name}: its labels and annotations count for what is in it")
        else:
            asked.append(found)
    if not asked and not passed:
        raise MissingField("manifest", "at least one object")
    return Manifest(tuple(asked), tuple(namespaces), tuple(passed))


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


def _read(found: _Object, namespace: str) -> Asked | KubeNamespace | str:
    kind, name = found.at("kind", str, ""), found.at("metadata.name", str, "")
    if not kind:
        raise MissingField(f"{found.where}: kind", "the kind of the object")
    shown = name or found.at("metadata.generateName", str, "")
    if not shown:
        raise MissingField(f"{found.where}: metadata.name", "the name of the object")
    space = found.at("metadata.namespace", str, "") or namespace
    named = _Object(found.value, f"{kind} {shown}")
    if kind == "Service":
        return _service(named, name, space)
    if kind == "Namespace":
        return KubeNamespace(shown, "", named.texts("metadata.labels"), named.texts("metadata.annotations"))
    if kind in _WITH_TEMPLATE or kind in ("DaemonSet", "Pod"):
        return _pods(named, kind, name, space)
    return f"{kind} {shown}: it asks for no address"


def _pods(found: _Object, kind: str, name: str, namespace: str) -> PodsAsked | str:
    template = "" if kind == "Pod" else "spec.template."
    if template and not found.at("spec.template", dict, {}):
        raise MissingField(f"{found.where}: spec.template", "the template of its pods")
    if found.at(f"{template}spec.hostNetwork", bool, False):
        return f"{found.where}: its pods are on the network of their node"
    count = None if kind == "DaemonSet" else 1 if kind == "Pod" else found.at(_WITH_TEMPLATE[kind], int, 1)
    if count is not None and not 0 <= count <= MOST_REPLICAS:
        raise Invalid(f"{found.where}: {_WITH_TEMPLATE.get(kind, '')}", count, f"a number from 0 to {MOST_REPLICAS}")
    return PodsAsked(
        found.where,
        kind,
        name,
        namespace,
        count,
        found.texts(f"{template}metadata.annotations"),
        found.texts(f"{template}metadata.labels"),
        found.texts(f"{template}spec.nodeSelector"),
    )


_FAMILIES = {"IPv4": 4, "IPv6": 6}
_POLICIES = ("", "SingleStack", "PreferDualStack", "RequireDualStack")
_TRAFFIC = ("Cluster", "Local")


def _service(found: _Object, name: str, namespace: str) -> ServiceAsked | str:
    kind = found.at("spec.type", str, "ClusterIP")
    if kind != "LoadBalancer":
        return f"{found.where}: it is not of type LoadBalancer"
    families = found.list_of_texts("spec.ipFamilies")
    asked = service.Asked(
        kind,
        found.at("spec.loadBalancerClass", str, None),
        tuple(_one_of(found, "spec.ipFamilies", each, tuple(_FAMILIES)) for each in families),
        _one_of(found, "spec.ipFamilyPolicy", found.at("spec.ipFamilyPolicy", str, ""), _POLICIES),
        found.at("spec.loadBalancerIP", str, ""),
        tuple(sorted(_ports(found))),
        _one_of(found, "spec.externalTrafficPolicy", found.at("spec.externalTrafficPolicy", str, "Cluster"), _TRAFFIC),
        found.texts("metadata.annotations"),
    )
    return ServiceAsked(found.where, name, namespace, asked, found.texts("metadata.labels"))


def _one_of(found: _Object, path: str, value: str, among: tuple[str, ...]) -> str:
    if value not in among:
        raise Invalid(f"{found.where}: {path}", value, " or ".join(each for each in among if each))
    return value


def _ports(found: _Object) -> Iterator[str]:
    for place, each in enumerate(found.at("spec.ports", list, [])):
        port = _Object(each, f"{found.where}: spec.ports[{place}]")
        number = port.at("port", int, 0)
        if not 0 < number < 1 << 16:
            raise Invalid(f"{port.where}: port", number, "a number from 1 to 65535")
        yield f"{port.at('protocol', str, 'TCP')}/{number}"


def completed(asked: service.Asked, cluster: Sequence[int]) -> service.Asked:
    """With the families that an API server fills in (Kubernetes: Services, IPv4/IPv6 dual-stack). cluster: its own, the first first."""
    first = asked.families or tuple(name for name, version in _FAMILIES.items() if version == cluster[0])
    policy = asked.policy or ("RequireDualStack" if len(first) > 1 else "SingleStack")
    other = [name for name, version in _FAMILIES.items() if name not in first and version in cluster]
    return replace(asked, policy=policy, families=first if policy == "SingleStack" else (*first, *other))
