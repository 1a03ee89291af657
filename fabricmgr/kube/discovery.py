"""What an API server is and knows, asked of itself: its version for people, its kinds and fields for us."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from fabricmgr.domain.errors import ApiTooOld
from fabricmgr.kube.objects import Kind

OLDEST = (1, 24)  # Services have had a class since; before, we could not tell ours from others'

Get = Callable[[str, str], Awaitable[bytes]]
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


class ServerVersion(msgspec.Struct, frozen=True, rename="camel"):
    """What GET /version says. minor may carry a plus on some vendors' servers."""

    major: str = ""
    minor: str = ""
    git_version: str = ""

    @property
    def numbers(self) -> tuple[int, int]:
        """(0, 0) where they are unreadable."""
        found = [re.match(r"\d+", text) for text in (self.major, self.minor)]
        return (int(found[0][0]), int(found[1][0])) if found[0] and found[1] else (0, 0)

    def require(self, oldest: tuple[int, int] = OLDEST) -> None:
        """Raises ApiTooOld."""
        if self.numbers < oldest:
            raise ApiTooOld(self.git_version or f"{self.major}.{self.minor}", "{}.{}".format(*oldest))


class _Named(msgspec.Struct):
    name: str = ""


class _Resource(msgspec.Struct):
    resource: str = ""


class _Version(msgspec.Struct):
    version: str = ""
    resources: list[_Resource] | None = None


class _Group(msgspec.Struct):
    metadata: _Named = msgspec.field(default_factory=_Named)
    versions: list[_Version] | None = None


class _Groups(msgspec.Struct):
    """Aggregated: items. Plain: groups, or the core group's versions."""

    kind: str = ""
    items: list[_Group] | None = None


class _Resources(msgspec.Struct):
    resources: list[_Named] | None = None


class _OldVersion(msgspec.Struct, rename="camel"):
    group_version: str = ""


class _OldGroup(msgspec.Struct):
    versions: list[_OldVersion] | None = None


class _OldGroups(msgspec.Struct):
    groups: list[_OldGroup] | None = None


@dataclass(frozen=True)
class Discovery:
    """served: (group, version, plural) of every kind."""

    served: frozenset[tuple[str, str, str]]

    def serves(self, kind: Kind[Any]) -> bool:
        return (kind.group, kind.version, kind.plural) in self.served

    @classmethod
    async def ask(cls, get: Get) -> "Discovery":
        """In two requests of a server that aggregates (GA since 1.30), else in one for each group and version."""
        found: set[tuple[str, str, str]] = set()
        for root in ("/api", "/apis"):
            content = await get(root, _AGGREGATED)
            groups = msgspec.json.decode(content, type=_Groups)
            found |= _aggregated(groups) if groups.items is not None else await _one_by_one(root, content, get)
        return cls(frozenset(found))


def _aggregated(groups: _Groups) -> set[tuple[str, str, str]]:
    return {
        (group.metadata.name, version.version, resource.resource)
        for group in groups.items or ()
        for version in group.versions or ()
        for resource in version.resources or ()
    }


async def _one_by_one(root: str, content: bytes, get: Get) -> set[tuple[str, str, str]]:
    if root == "/api":
        names = ["v1"]
    else:
        groups = msgspec.json.decode(content, type=_OldGroups).groups or ()
        names = [version.group_version for group in groups for version in group.versions or ()]
    found = set()
    for name in names:
        group, _, version = name.rpartition("/")
        listed = msgspec.json.decode(await get(f"{root}/{name}", "application/json"), type=_Resources)
        found |= {(group, version, resource.name) for resource in listed.resources or ()}
    return found


class _Schema(msgspec.Struct):
    properties: dict[str, msgspec.Raw] | None = None


class _Components(msgspec.Struct):
    schemas: dict[str, _Schema] | None = None


class _OpenApi(msgspec.Struct):
    components: _Components = msgspec.field(default_factory=_Components)


def fields_of(content: bytes, schema: str) -> frozenset[str]:
    """The properties of a schema of an OpenAPI v3 document."""
    schemas: Mapping[str, _Schema] = msgspec.json.decode(content, type=_OpenApi).components.schemas or {}
    return frozenset((schemas[schema].properties or {}) if schema in schemas else ())
