"""Systems: every node as a ComputerSystem (DSP0268, ComputerSystem). Agents do not say whether a node is a virtual machine."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from fabricmgr.domain.allocation import AllocationFilter
from fabricmgr.domain.fabric import Endpoint
from fabricmgr.domain.kube import KubeNode
from fabricmgr.domain.node import Node, NodeState
from fabricmgr.domain.page import LARGEST_LIMIT, Page
from fabricmgr.domain.task import Request, TaskKind
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Accepted, Ask, Resource
from fabricmgr.redfish.resources.managers import managed_by
from fabricmgr.redfish.resources.tasks import later
from fabricmgr.services import allocations, endpoints, kube_nodes, nodes
from fabricmgr.store.tx import Tx

MOST_AT_ONCE = 1000  # addresses that a node may hold when its removal is waited for
OEM_TYPE = "#FabricMgrComputerSystem.v1_0_0.ComputerSystem"
STATUS: dict[NodeState, Json] = {
    NodeState.ADDED: {"State": "Absent", "Health": "OK"},
    NodeState.ENROLLED: {"State": "Enabled", "Health": "OK"},
    NodeState.SUSPECT: {"State": "UnavailableOffline", "Health": "Warning"},
    NodeState.GONE: {"State": "Disabled", "Health": "Critical"},
}


@dataclass(frozen=True)
class Shown:
    """A node with its NICs' places on the fabric. managed: the link to its managers.

    kube: what its cluster's API shows of it."""

    node: Node
    endpoints: list[Endpoint]
    managed: Json
    kube: KubeNode | None = None


async def node_of(tx: Tx, ask: Ask) -> Node:
    """The node that a URI below Systems or Chassis means. Raises NotFound."""
    return await nodes.get(tx, *ids.system_of(ask.params["system_id"]))


async def get(ask: Ask) -> Shown:
    async with ask.database.read() as tx:
        node = await node_of(tx, ask)
        kube = (await kube_nodes.shown_as(tx, [node])).get(node.id)
        return Shown(node, await endpoints.of_node(tx, node.id), await managed_by(tx), kube)


async def load(ask: Ask, wanted: Sequence[str]) -> Sequence[Shown]:
    async with ask.database.read() as tx:
        by_id = {ids.system_id(each.cluster, each.name): each for each in await all_nodes(tx)}
        places: dict[int, list[Endpoint]] = defaultdict(list)
        for place in await endpoints.list_all(tx):
            places[place.node_id].append(place)
        managed = await managed_by(tx)
        kube = await kube_nodes.shown_as(tx, [by_id[each] for each in wanted])
    return [Shown(by_id[each], places[by_id[each].id], managed, kube.get(by_id[each].id)) for each in wanted]


async def all_nodes(tx: Tx) -> list[Node]:
    """Every node there is."""
    found: list[Node] = []
    after: str | None = None
    while True:
        page = await nodes.list_all(tx, None, Page(LARGEST_LIMIT, after))
        found += page.items
        if page.next is None:
            return found
        after = page.next


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        found = [ids.system_id(each.cluster, each.name) for each in await all_nodes(tx)]
    return found[skip:][:top], len(found)


def body(shown: Shown) -> Json:
    node = shown.node
    system = ids.system_id(node.cluster, node.name)
    uri = f"{ids.SYSTEMS}/{system}"
    page: Json = {
        "Id": system,
        "Name": f"Node {node.name}",
        "Description": f"Node {node.name} of cluster {node.cluster}",
        "SystemType": "Physical",
        "HostName": node.name,
        "Status": STATUS[node.state],
        "EthernetInterfaces": ids.reference(f"{uri}/EthernetInterfaces"),
        "Certificates": ids.reference(f"{uri}/Certificates"),
        "Links": {
            "Chassis": [ids.reference(f"{ids.CHASSIS}/{system}")],
            **ids.counted("Endpoints", [f"{ids.ENDPOINTS}/{each.name}" for each in shown.endpoints]),
            **shown.managed,
        },
        "Oem": {"FabricMgr": _oem(node) | _kubernetes(shown.kube)},
    }
    found = _uuid(node.system_uuid)
    return page if found is None else {**page, "UUID": found}


def _oem(node: Node) -> Json:
    page: Json = {
        "@odata.type": OEM_TYPE,
        "Cluster": node.cluster,
        "Node": node.name,
        "NodeState": node.state.value.capitalize(),
        "Addresses": [str(each) for each in node.addresses],
        "Labels": [{"Name": name, "Value": value} for name, value in sorted(node.labels.items())],
        "Headroom": [_headroom(place, count) for place, count in sorted(node.free.items())],
        "ReportAgeMilliseconds": node.report_age_ms,
        "Faults": list(node.faults),
    }
    if node.agent_version:
        page["AgentVersion"] = node.agent_version
    if node.seen_at is not None:
        page["SeenAt"] = node.seen_at.isoformat(timespec="seconds")
    return page


def _kubernetes(shown: KubeNode | None) -> Json:
    if shown is None:
        return {}
    return {"Kubernetes": {"Node": shown.name, "Uid": shown.uid, "Ready": shown.ready, "ProviderId": shown.provider_id}}


def _headroom(place: str, count: int) -> Json:
    network, _, family = place.rpartition("/")
    return {"Network": network, "Family": f"IPv{family}", "Free": count}


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text)) if text else None
    except ValueError:
        return None


async def delete(ask: Ask, shown: Shown, _version: int | None) -> Accepted | None:
    """The node is given up, then removed. A node that many pods run on takes a while, so this is not waited for then."""
    node = shown.node
    async with ask.database.read() as tx:
        _, held = await allocations.some(tx, AllocationFilter(cluster=node.cluster, node=node.name), 0, 0)
    if ask.later or held > MOST_AT_ONCE:
        name = f"Remove node {node.name} of cluster {node.cluster}"
        arguments = {"cluster": node.cluster, "node": node.name}
        return await later(ask, TaskKind.REMOVE_NODE, name, arguments, Request("DELETE", ask.uri))

    async def use_case(tx: Tx) -> None:
        if node.state is not NodeState.ADDED:
            await nodes.declare_gone(tx, node.cluster, node.name, ask.principal.actor, ask.now, "removed")
        await nodes.remove(tx, node.cluster, node.name, ask.principal.actor, ask.now)

    await ask.database.run(use_case)
    return None


system = Resource(
    schema="ComputerSystem",
    uri="/redfish/v1/Systems/{system_id}",
    get=get,
    body=body,
    members=members,
    load=load,
    collection_name="Systems",
    delete=delete,
)
