"""What we write on a Node: a label by server-side apply, and taints one at a time.

A Node's taints are one atomic list (core/v1, NodeSpec): applying them would take the whole list over from everybody else. So ours is added
and removed by JSON Patch, which fails instead when the Node has changed since it was read.
"""

from collections.abc import Mapping, Sequence

from fabricmgr.kube.client import Client
from fabricmgr.kube.views import NODES, Node, Taint

NO_SCHEDULE = "NoSchedule"


async def label(client: Client, node: str, labels: Mapping[str, str]) -> None:
    """Our labels are these, and no others. Raises the Api... errors; ApiAbsent for a Node that is gone."""
    await client.apply(NODES, "", node, {"metadata": {"labels": dict(labels)}}, force=True)


async def taint(client: Client, node: str, key: str, *, on: bool, effect: str = NO_SCHEDULE) -> bool:
    """Add or take away a taint of ours. False: it was so already, or the Node is gone. Raises ApiRejected where somebody else changed the
    Node meanwhile, and the other Api... errors."""
    found = await client.get(NODES, "", node)
    place = None if found is None else _place(found, key, effect)
    if found is None or on == (place is not None):
        return False
    version = {"op": "test", "path": "/metadata/resourceVersion", "value": found.metadata.resource_version}
    await client.patch(NODES, "", node, [version, _operation(found, key, effect, place)])
    return True


def tainted(node: Node, key: str, effect: str = NO_SCHEDULE) -> bool:
    """As the Node says."""
    return _place(node, key, effect) is not None


def _operation(node: Node, key: str, effect: str, place: int | None) -> Mapping[str, object]:
    if place is not None:
        return {"op": "remove", "path": f"/spec/taints/{place}"}
    made = {"key": key, "effect": effect}
    return (
        {"op": "add", "path": "/spec/taints/-", "value": made}
        if node.spec.taints
        else {"op": "add", "path": "/spec/taints", "value": [made]}
    )


def _place(node: Node, key: str, effect: str) -> int | None:
    taints: Sequence[Taint] = node.spec.taints or ()
    return next((place for place, each in enumerate(taints) if each.key == key and each.effect == effect), None)
