"""What an API server shows, in the domain's types; and the API server asked for one pod that nobody has followed yet."""

import asyncio
from ipaddress import ip_address
from typing import Any

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.errors import ApiUnreachable
from fabricmgr.domain.kube import KubeNamespace, KubeNode, KubePod, kept_annotations
from fabricmgr.domain.names import cluster_name
from fabricmgr.kube.views import NAMESPACES, PODS, Namespace, Node, Pod
from fabricmgr.services.cluster_apis import ClusterApis
from fabricmgr.services.kube_pods import Ask, Shown

ASK_LIMIT = 2.0  # seconds: an ADD waits for it


def asking(apis: ClusterApis) -> Ask:
    """Asks the API server of a cluster. Raises what the client raises, and ApiUnreachable after two seconds."""

    async def ask(cluster: str, namespace: str, pod: str) -> Shown:
        client = await apis.client(cluster_name(cluster))
        try:
            async with asyncio.timeout(ASK_LIMIT):
                found, around = await asyncio.gather(client.get(PODS, namespace, pod), client.get(NAMESPACES, "", namespace))
        except TimeoutError:
            raise ApiUnreachable(client.server, f"it did not answer within {ASK_LIMIT:g} s") from None
        return Shown(None if found is None else pod_of(found), None if around is None else namespace_of(around))

    return ask


def node_of(found: Node) -> KubeNode:
    addresses = _addresses(each.address for each in found.status.addresses or () if each.type == "InternalIP")
    uuid = found.status.node_info.system_uuid
    return KubeNode(found.name, found.uid, uuid, dict(found.labels), addresses, found.ready, found.spec.provider_id)


def namespace_of(found: Namespace) -> KubeNamespace:
    return KubeNamespace(found.name, found.uid, dict(found.labels), dict(found.annotations))


def pod_of(found: Pod) -> KubePod:
    owner = found.metadata.owner
    return KubePod(
        namespace=found.namespace,
        name=found.name,
        uid=found.uid,
        node=found.spec.node_name,
        labels=dict(found.labels),
        annotations=kept_annotations(found.annotations),
        owner_kind=owner.kind if owner else "",
        owner_name=owner.name if owner else "",
        host_network=found.spec.host_network,
        phase=found.status.phase,
        addresses=_addresses(found.addresses),
        deleting=found.metadata.deleting,
        ready=any(each.type == "Ready" and each.status == "True" for each in found.status.conditions or ()),
    )


def _addresses(texts: Any) -> tuple[Address, ...]:
    """What is no address is passed over: a server of tomorrow may write what we do not know."""
    found = []
    for text in texts:
        try:
            found.append(ip_address(text))
        except ValueError:
            continue
    return tuple(found)
