"""What every object of a cluster has, and how a kind of them is called.

Names follow the Kubernetes API reference. Every field may be missing, since a newer or an older server leaves out what it likes; and where
a server writes null for an empty list or map, it counts as empty. What servers add is passed over, managedFields among it: it never gets
into memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import quote

import msgspec

_ACRONYMS = {"ip": "IP", "ips": "IPs", "id": "ID", "uuid": "UUID", "cidrs": "CIDRs"}


def _json_name(field: str) -> str:
    first, *others = field.split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in others)


class Part(msgspec.Struct, frozen=True, rename=_json_name, gc=False):
    """A part of an object. Values only, so the collector of cycles need not look at it."""


class Owner(Part, frozen=True):
    """An entry of metadata.ownerReferences. controller: it is the one that manages the object."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class Meta(Part, frozen=True):
    """metadata. resource_version is opaque: it is compared for equality and sent back, never ordered."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None
    finalizers: list[str] | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None

    @property
    def owner(self) -> Owner | None:
        """Its controller."""
        return next((owner for owner in self.owner_references or () if owner.controller), None)

    @property
    def deleting(self) -> bool:
        return self.deletion_timestamp is not None


class View(Part, frozen=True):
    """Any object. Kinds add their parts."""

    metadata: Meta = Meta()

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Empty for what lives in no namespace."""
        return self.metadata.namespace

    @property
    def labels(self) -> Mapping[str, str]:
        return self.metadata.labels or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.metadata.annotations or {}

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name): what it is called as long as it lives, and what a successor may be called."""
        return self.metadata.namespace, self.metadata.name


class Condition(Part, frozen=True):
    """An entry of status.conditions. status: "True", "False" or "Unknown"."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None
    observed_generation: int = 0


class Selector(Part, frozen=True):
    """A LabelSelector, of which only matchLabels is read."""

    match_labels: dict[str, str] | None = None


V = TypeVar("V", bound=View)


@dataclass(frozen=True)
class Kind(Generic[V]):
    """group: empty for the core group. plural: as in URLs and RBAC. optional: not every server has it, and that is no fault."""

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool
    view: type[V]
    optional: bool = False

    @property
    def api_version(self) -> str:
        """As in an object's apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As RBAC and kubectl spell it, such as deployments.apps."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL's path; of all namespaces without one."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        parts += ["namespaces", namespace] if namespace and self.namespaced else []
        return "/" + "/".join(quote(part, safe="") for part in [*parts, self.plural, name, subresource] if part)
