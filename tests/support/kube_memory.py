"""Writing to the API server in memory: what a Client would, with the faults that a test asks for."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fabricmgr.domain.errors import ApiAbsent, ApiConflict, ApiRejected, FabricError
from fabricmgr.kube.client import Client
from fabricmgr.kube.discovery import ServerVersion
from fabricmgr.kube.kubeconfig import Access
from fabricmgr.kube.objects import Kind
from fabricmgr.kube.views import SERVICES, Service
from tests.support.kube_source import KubeSource

Json = dict[str, Any]
SERVER = "https://api.invalid"


@dataclass
class Written:
    """One request that changes something. what: such as `patch services` or `apply services/status`."""

    what: str
    name: str
    body: Any


@dataclass
class Faults:
    """errors: by request (`patch services`, `create events`), raised for as long as they stand there. before: called ahead of a request,
    so that something happens between a controller's look and its write."""

    errors: dict[str, FabricError] = field(default_factory=dict)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)

    def meet(self, what: str) -> None:
        if (act := self.before.pop(what, None)) is not None:
            act()
        if (error := self.errors.get(what)) is not None:
            raise error


async def _nowhere(host: str, port: int) -> Any:
    raise OSError(f"{host}:{port} is not there")


class MemoryClient(Client):
    """Services of a KubeSource, and Events, which are kept here."""

    def __init__(self, source: KubeSource) -> None:
        super().__init__(Access(server=SERVER, token=lambda: "t"), _nowhere)
        self.source = source
        self.faults = Faults()
        self.written: list[Written] = []
        self.events: dict[str, Json] = {}

    async def version(self) -> ServerVersion:
        return ServerVersion(major="1", minor="37", git_version="v1.37.2")

    def service(self, name: str, namespace: str = "shop") -> Service | None:
        found: Service | None = self.source.objects.get(SERVICES.plural, {}).get(f"{namespace}/{name}")
        return found

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Any:
        self.faults.meet(f"get {kind.plural}")
        return self.source.objects.get(kind.plural, {}).get(f"{namespace}/{name}")

    async def patch(
        self, kind: Kind[Any], namespace: str, name: str, operations: Sequence[Mapping[str, Any]], *, subresource: str = ""
    ) -> Any:
        """JSON Patch (RFC 6902) of what finalizers need."""
        self._begin(f"patch {kind.plural}", name, operations)
        found = self._found(kind, namespace, name)
        metadata = msgspec.to_builtins(found.metadata)
        for each in operations:
            self._operate(metadata, each)
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self.source.drop(kind, name, namespace)
            return found
        return self._put(kind, found, metadata=metadata)

    def _operate(self, metadata: Json, operation: Mapping[str, Any]) -> None:
        path = str(operation["path"]).removeprefix("/metadata/").split("/")
        match operation["op"], path:
            case "test", [field_name]:
                if metadata.get(field_name) != operation["value"]:
                    raise ApiRejected("patch", SERVICES.plural, f"the test of {field_name} failed")
            case "add", ["finalizers"]:
                metadata["finalizers"] = operation["value"]
            case "add", ["finalizers", "-"]:
                metadata["finalizers"] = [*metadata["finalizers"], operation["value"]]
            case "remove", ["finalizers", place]:
                metadata["finalizers"] = [each for at, each in enumerate(metadata["finalizers"]) if at != int(place)]
            case other:
                raise AssertionError(f"no such operation here: {other}")

    async def apply(
        self, kind: Kind[Any], namespace: str, name: str, body: Mapping[str, Any], *, subresource: str = "", force: bool = False
    ) -> Any:
        """Server-side apply of a Service's status: afterwards it has these addresses and conditions of ours, and no others of ours."""
        self._begin(f"apply {kind.plural}/{subresource}", name, body)
        return self._put(kind, self._found(kind, namespace, name), status=body["status"])

    async def create(self, kind: Kind[Any], namespace: str, body: Mapping[str, Any]) -> Any:
        name = str(body["metadata"]["name"])
        self._begin(f"create {kind.plural}", name, body)
        if name in self.events:
            raise ApiConflict(kind.plural, name, "it is there")
        self.events[name] = copy.deepcopy(dict(body))
        return msgspec.convert(self.events[name], kind.view)

    async def merge(self, kind: Kind[Any], namespace: str, name: str, body: Mapping[str, Any], *, subresource: str = "") -> Any:
        self._begin(f"patch {kind.plural}", name, body)
        if name not in self.events:
            raise ApiAbsent(kind.plural, name)
        self.events[name] |= body
        return msgspec.convert(self.events[name], kind.view)

    def _begin(self, what: str, name: str, body: Any) -> None:
        self.written.append(Written(what, name, body))
        self.faults.meet(what)

    def _found(self, kind: Kind[Any], namespace: str, name: str) -> Any:
        found = self.source.objects.get(kind.plural, {}).get(f"{namespace}/{name}")
        if found is None:
            raise ApiAbsent(kind.plural, name)
        return found

    def _put(self, kind: Kind[Any], found: Any, **parts: Any) -> Any:
        whole = msgspec.to_builtins(found) | parts
        metadata = {name: value for name, value in whole.pop("metadata").items() if name != "resourceVersion"}
        self.source.put(kind, found.name, found.namespace, uid=found.uid, metadata=metadata, **whole)
        return self.source.objects[kind.plural][f"{found.namespace}/{found.name}"]
