"""What a node should be: one document, worked out from the tables in a handful of queries."""

import hashlib

import msgspec

from fabricmgr import wire
from fabricmgr.domain.network import Network
from fabricmgr.store import claims, cluster_rows, desired_rows, network_rows, node_rows
from fabricmgr.store.desired_rows import Place
from fabricmgr.store.tx import Tx


async def of_node(tx: Tx, node_id: int) -> wire.Desired:
    """Networks of its cluster, its blocks, and routes to what lives on other nodes. Its version is the hash of what it says.

    Raises NotFound."""
    node = await node_rows.by_id(tx, node_id)
    cluster = await cluster_rows.get(tx, node.cluster)
    networks = await network_rows.of_cluster(tx, cluster.id)
    desired = wire.Desired(
        version="",
        node=node.name,
        cluster=node.cluster,
        networks=[_network(each) for each in networks],
        blocks=await claims.granted(tx, node_id),
        routes=[route for place in await desired_rows.places(tx, cluster.id, node_id) if (route := _route(place)) is not None],
    )
    return msgspec.structs.replace(desired, version=_version(desired))


def _network(network: Network) -> wire.NetworkSpec:
    return wire.NetworkSpec(
        name=network.name,
        pools=list(network.pools),
        families=[family.value for family in network.families],
        prefixes=[str(each) for each in network.prefixes],
        mtu=network.mtu,
        masquerade=network.masquerade,
        routing=wire.Routing(network.routing.value),
        decide=wire.Decide(network.decide.value),
        namespaces=list(network.namespaces),
        direct=[str(each) for each in network.direct],
        bridge=network.bridge,
        status_policy=network.status_policy.value,
    )


def _route(place: Place) -> wire.Route | None:
    """By the other node's first address of the family. None where it has said of none: there is no way to it yet."""
    via = next((each for each in place.via if each.version == place.cidr.version), None)
    return None if via is None else wire.Route(prefix=str(place.cidr), via=str(via), network=place.network)


def _version(desired: wire.Desired) -> str:
    """Of the content. Generations are left out: they move with every report and ask nothing of the agent."""
    still = msgspec.structs.replace(desired, blocks=[msgspec.structs.replace(each, generation=0) for each in desired.blocks])
    return hashlib.sha256(msgspec.json.encode(still)).hexdigest()[:32]
