"""What we write on objects of a cluster, besides what is said on Nodes: the state of a Service, our finalizer, and Events people can read.

Service status goes by server-side apply: we own the entries that we put there and no others. A finalizer goes by JSON Patch that fails when
the object has changed since it was read, so that nobody else's is ever lost.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fabricmgr.domain.errors import ApiAbsent
from fabricmgr.kube.client import Client
from fabricmgr.kube.objects import Condition, Kind, View
from fabricmgr.kube.views import SERVICES, Ingress, Service

FINALIZER = "fabricmgr.io/address"


async def service_status(
    client: Client, namespace: str, name: str, ingress: Iterable[Ingress], conditions: Iterable[Condition] = ()
) -> Service | None:
    """The Service has these addresses, and says these conditions of ours. Without any, it is pending again.

    Only for a Service that is ours by class and finalizer: entries of another writer are taken over. None: it is gone. Raises the Api...
    errors."""
    found = [_entry(each) for each in ingress]
    status: dict[str, Any] = {"loadBalancer": {"ingress": found} if found else {}}
    if said := [_condition(each) for each in conditions]:
        status["conditions"] = said
    try:
        return await client.apply_status(SERVICES, namespace, name, status, force=True)
    except ApiAbsent:
        return None


def _entry(each: Ingress) -> Mapping[str, str]:
    """ipMode only where the caller knows that the server does: an older one refuses the field (it came with 1.29)."""
    parts = {"ip": each.ip, "hostname": each.hostname, "ipMode": each.ip_mode or ""}
    return {name: value for name, value in parts.items() if value}


def _condition(each: Condition) -> Mapping[str, Any]:
    """meta/v1 Condition: reason and transition time must be there."""
    parts: dict[str, Any] = {"type": each.type, "status": each.status, "reason": each.reason, "message": each.message}
    parts["lastTransitionTime"] = timestamp(each.last_transition_time) if each.last_transition_time else None
    return parts | ({"observedGeneration": each.observed_generation} if each.observed_generation else {})


def timestamp(moment: datetime) -> str:
    """As meta/v1 Time has it: UTC, whole seconds."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


async def add_finalizer(client: Client, kind: Kind[Any], found: View, finalizer: str = FINALIZER) -> bool:
    """So that the object stays until we are done with it. False: it has it, or is gone or being deleted, when none may be added.

    Raises ApiRejected where it has changed since it was read, and the other Api... errors."""
    held = found.metadata.finalizers or []
    if finalizer in held or found.metadata.deleting:
        return False
    added = {"op": "add", "path": "/metadata/finalizers/-", "value": finalizer}
    first = {"op": "add", "path": "/metadata/finalizers", "value": [finalizer]}
    return await _patched(client, kind, found, [added if held else first])


async def remove_finalizer(client: Client, kind: Kind[Any], found: View, finalizer: str = FINALIZER) -> bool:
    """Ours alone. False: it is not there, or the object is gone. Raises as `add_finalizer`."""
    held = found.metadata.finalizers or []
    if finalizer not in held:
        return False
    return await _patched(client, kind, found, [{"op": "remove", "path": f"/metadata/finalizers/{held.index(finalizer)}"}])


async def _patched(client: Client, kind: Kind[Any], found: View, operations: Sequence[Mapping[str, Any]]) -> bool:
    unchanged = [
        {"op": "test", "path": "/metadata/uid", "value": found.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": found.metadata.resource_version},
    ]
    try:
        await client.patch(kind, found.namespace, found.name, [*unchanged, *operations])
    except ApiAbsent:
        return False
    return True
