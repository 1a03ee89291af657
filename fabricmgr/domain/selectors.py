"""Who may have addresses of which pool: selectors, and the one function that decides the order in which pools are asked.

A pool is taken in this order: the one that an annotation names (its selectors must match); pools whose selectors match, the higher priority
first, then by name; pools without selectors, unless they wait to be named (auto_assign off). `explain`, `simulate` and whoever allocates
call `decide`, so they never disagree.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.kube import ALLOWED, POOL, KubeNamespace

MOST_SELECTED = 256  # namespaces, keys of one kind, values of one key
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
# Keys and values of labels as Kubernetes has them (apimachinery, validation of qualified names).
_KEY = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?\Z")

Labels = Mapping[str, tuple[str, ...]]
"""Key and the values that fit; none: the label is there, whatever it says."""


@dataclass(frozen=True)
class Selectors:
    """All that is given must match; of several values of a label or several namespaces, one. Empty: whoever.

    services: labels of a Service."""

    namespaces: tuple[str, ...] = ()
    namespace_labels: Labels = field(default_factory=dict)
    node_labels: Labels = field(default_factory=dict)
    services: Labels = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any((self.namespaces, self.namespace_labels, self.node_labels, self.services))

    @property
    def by_namespace(self) -> bool:
        """Whether they ask who a pod is, which its node alone cannot say."""
        return bool(self.namespaces or self.namespace_labels)


def parse(given: Mapping[str, object], where: str = "selectors") -> Selectors:
    """From JSON: namespaces as a list, labels as key to list of values. Raises Invalid, naming the field."""
    unknown = set(given) - set(vars(Selectors()))
    if unknown:
        raise Invalid(where, ", ".join(sorted(unknown)), f"only {', '.join(vars(Selectors()))}")
    namespaces = tuple(sorted(set(_texts(given.get("namespaces", []), f"{where}.namespaces", _LABEL, "names of namespaces"))))
    labels = {name: _labels(given.get(name, {}), f"{where}.{name}") for name in ("namespace_labels", "node_labels", "services")}
    return Selectors(namespaces, **labels)


def to_json(selectors: Selectors) -> dict[str, object]:
    """What `parse` reads. What is empty is left out."""
    labels = {"namespace_labels": selectors.namespace_labels, "node_labels": selectors.node_labels, "services": selectors.services}
    plain: dict[str, object] = {"namespaces": list(selectors.namespaces)} if selectors.namespaces else {}
    return plain | {name: {key: list(values) for key, values in each.items()} for name, each in labels.items() if each}


def _texts(given: object, where: str, rule: re.Pattern[str], expected: str) -> list[str]:
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) > MOST_SELECTED:
        raise Invalid(where, given, f"a list of at most {MOST_SELECTED} {expected}")
    wrong = next((each for each in given if not isinstance(each, str) or not rule.match(each)), None)
    if wrong is not None:
        raise Invalid(where, wrong, expected)
    return list(given)


def _labels(given: object, where: str) -> Labels:
    if not isinstance(given, Mapping) or len(given) > MOST_SELECTED:
        raise Invalid(where, given, f"at most {MOST_SELECTED} labels, each with a list of values")
    for key in given:
        if not isinstance(key, str) or not _KEY.match(key):
            raise Invalid(where, key, "the key of a label")
    return {key: tuple(sorted(set(_texts(given[key], f"{where}[{key}]", _VALUE, "values of labels")))) for key in sorted(given)}


# --- deciding ----------------------------------------------------------------------------------------------------------


class Kind(Enum):
    POD = "pod"
    SERVICE = "Service"
    NODE = "node"


@dataclass(frozen=True)
class Subject:
    """Who wants addresses. namespace: empty where it is not known who it is. labels: a Service's own.

    asked_pool, asked_by: the pool that an annotation names, and what carries the annotation."""

    kind: Kind
    namespace: str = ""
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    node_labels: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    asked_pool: str = ""
    asked_by: str = ""


@dataclass(frozen=True)
class Candidate:
    """A pool that may be asked. place: its place in the network's list; 0 where there is no list."""

    name: str
    selectors: Selectors = field(default_factory=Selectors)
    priority: int = 0
    auto_assign: bool = True
    families: tuple[int, ...] = (4,)
    draining: bool = False
    place: int = 0


@dataclass(frozen=True)
class Reason:
    """Of one pool: whether it is taken, in which place (1: first), and why, or why not."""

    pool: str
    taken: bool
    why: str
    place: int = 0


@dataclass(frozen=True)
class Decision:
    """order: pools to ask, first first. refused: why there is none although an annotation names one; empty otherwise."""

    order: tuple[str, ...]
    reasons: tuple[Reason, ...]
    refused: str = ""


def decide(subject: Subject, candidates: Iterable[Candidate]) -> Decision:
    """Which pools are asked, in which order, with a reason for each of them.

    Families that a named pool has no prefix of come from the others, in their usual order."""
    pools = sorted(candidates, key=lambda each: each.name)
    against = {pool.name: _against(subject, pool) for pool in pools}
    named = next((pool for pool in pools if pool.name == subject.asked_pool), None)
    if subject.asked_pool and (named is None or against[named.name]):
        return _refused(subject, pools, "" if named is None else against[named.name])
    fits = sorted((pool for pool in pools if not against[pool.name]), key=lambda pool: _rank(subject, pool))
    places = {pool.name: place for place, pool in enumerate(fits, 1)}
    reasons = [
        Reason(pool.name, True, _for(subject, pool), places[pool.name])
        if pool.name in places
        else Reason(pool.name, False, against[pool.name])
        for pool in pools
    ]
    return Decision(tuple(pool.name for pool in fits), tuple(sorted(reasons, key=lambda each: (not each.taken, each.place))))


def families_of(decision: Decision, pools: Mapping[str, Collection[int]], asked_pool: str) -> dict[int, tuple[str, ...]]:
    """By family: pools to ask, first first. A named pool is the only one for the families it has."""
    named = set(pools.get(asked_pool, ()))
    return {
        family: tuple(name for name in decision.order if family in pools[name] and (family not in named or name == asked_pool))
        for family in (4, 6)
    }


def _rank(subject: Subject, pool: Candidate) -> tuple[bool, bool, int, int, str]:
    return (pool.name != subject.asked_pool, not pool.selectors, -pool.priority, 0 if pool.selectors else pool.place, pool.name)


def _refused(subject: Subject, pools: Iterable[Candidate], why: str) -> Decision:
    name = subject.asked_pool
    said = f"the annotation {POOL} of the {subject.asked_by or subject.kind.value} names pool {name!r}"
    text = f"{said}: {why}" if why else f"{said}, and there is none of that name to take from"
    reasons = [Reason(pool.name, False, why if pool.name == name else f"{said}, not this one") for pool in pools]
    return Decision((), tuple(reasons), text)


def _against(subject: Subject, pool: Candidate) -> str:
    """Why a pool cannot be taken; empty where it can."""
    if not pool.families:
        return "it has no prefix"
    if pool.draining:
        return "it is draining"
    if pool.selectors:
        return _mismatch(subject, pool.selectors)
    if not pool.auto_assign and pool.name != subject.asked_pool:
        return f"it is taken only where the annotation {POOL} names it (auto_assign is off)"
    return ""


def _mismatch(subject: Subject, selectors: Selectors) -> str:
    if selectors.by_namespace and subject.kind is Kind.NODE:
        return "its selectors name namespaces, so the manager decides pod by pod and gives no blocks of it to nodes"
    if selectors.by_namespace and not subject.namespace:
        return f"its selectors name namespaces, and the API server does not show who this {subject.kind.value} is"
    if selectors.namespaces and subject.namespace not in selectors.namespaces:
        return f"its selectors want namespace {' or '.join(selectors.namespaces)}; this is {subject.namespace}"
    wanted = [(selectors.namespace_labels, subject.namespace_labels, f"namespace {subject.namespace}")]
    wanted.append((selectors.node_labels, subject.node_labels, "its node"))
    wanted.append((selectors.services, subject.labels, f"this {subject.kind.value}"))
    return next((text for labels, has, who in wanted if (text := _unlike(labels, has, who))), "")


def _unlike(wanted: Labels, has: Mapping[str, str], who: str) -> str:
    for key, values in wanted.items():
        if key not in has:
            return f"its selectors want label {_label(key, values)}; {who} has none such"
        if values and has[key] not in values:
            return f"its selectors want label {_label(key, values)}; {who} has {key}={has[key]}"
    return ""


def _label(key: str, values: tuple[str, ...]) -> str:
    return f"{key}={' or '.join(values)}" if values else key


def _for(subject: Subject, pool: Candidate) -> str:
    if pool.name == subject.asked_pool:
        return f"the annotation {POOL} of the {subject.asked_by or subject.kind.value} names it"
    if not pool.selectors:
        return "it has no selectors: whoever"
    parts = [f"namespace {subject.namespace}"] if pool.selectors.namespaces else []
    for labels in (pool.selectors.namespace_labels, pool.selectors.node_labels, pool.selectors.services):
        parts += [f"label {_label(key, values)}" for key, values in labels.items()]
    return f"its selectors match ({', '.join(parts)}), priority {pool.priority}"


# --- which namespaces the manager decides for ----------------------------------------------------------------------------


def asks_manager(namespace: KubeNamespace, candidates: Iterable[Candidate]) -> bool:
    """Whether pods of a namespace get their addresses from the manager, though nodes decide for others."""
    if POOL in namespace.annotations or namespace.labels.get(ALLOWED) == "allowed":
        return True
    subject = Subject(Kind.POD, namespace.name, namespace.labels)
    return any(
        pool.selectors.by_namespace and not _mismatch(subject, Selectors(pool.selectors.namespaces, pool.selectors.namespace_labels))
        for pool in candidates
    )


def found_namespaces(namespaces: Iterable[KubeNamespace], candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """By name. A namespace that a selector names counts before the API server shows it: its first pod may be quicker than its row."""
    pools = list(candidates)
    shown = {each.name for each in namespaces if asks_manager(each, pools)}
    named = {name for pool in pools if not pool.selectors.namespace_labels for name in pool.selectors.namespaces}
    return tuple(sorted(shown | named))
