"""Nodes of a cluster: added, trusted by a token, revoked, given up, removed."""

from datetime import datetime

from fabricmgr.domain.errors import AlreadyExists, InUse
from fabricmgr.domain.events import NodeAdded, NodeGone, NodeRemoved, NodeRevoked
from fabricmgr.domain.names import ClusterName, NodeName
from fabricmgr.domain.node import Node, NodeState, Token, TokenPolicy
from fabricmgr.domain.page import Page, Paged
from fabricmgr.services import blocks
from fabricmgr.store import cluster_rows, node_rows, zone_rows
from fabricmgr.store.tx import Tx


async def add(tx: Tx, cluster: ClusterName, name: NodeName, tokens: TokenPolicy, by: str, now: datetime) -> tuple[Node, str]:
    """A node that may enrol, and the token for it, which is shown this once. Raises NotFound (cluster), AlreadyExists."""
    found = await cluster_rows.get(tx, cluster)
    if await node_rows.find(tx, cluster, name) is not None:
        raise AlreadyExists("node", f"{cluster}/{name}")
    await node_rows.insert(tx, found.id, name, now)
    tx.emit(NodeAdded(cluster, name, by))
    made = await node_rows.get(tx, cluster, name)
    return made, await _token(tx, made, tokens, now)


async def new_token(tx: Tx, cluster: ClusterName, name: NodeName, tokens: TokenPolicy, by: str, now: datetime) -> str:
    """For a node that lost its certificate, let it end, or was given up. Earlier tokens count no more. Raises NotFound."""
    del by
    return await _token(tx, await node_rows.get(tx, cluster, name, lock=True), tokens, now)


async def get(tx: Tx, cluster: ClusterName, name: NodeName) -> Node:
    """Raises NotFound."""
    return await node_rows.get(tx, cluster, name)


async def list_all(tx: Tx, cluster: ClusterName | None, page: Page) -> Paged[Node]:
    """By cluster and name. Raises NotFound for a cluster that does not exist."""
    if cluster is not None:
        await cluster_rows.get(tx, cluster)
    return await node_rows.page(tx, cluster, page)


async def revoke(tx: Tx, cluster: ClusterName, name: NodeName, by: str, now: datetime) -> Node:
    """Its certificates and tokens count no more from its agent's next write on. That says something about a key and frees nothing.

    Raises NotFound."""
    found = await node_rows.get(tx, cluster, name, lock=True)
    await node_rows.forget_tokens(tx, found.id)
    if await node_rows.revoke_certificates(tx, found.id, now):
        tx.emit(NodeRevoked(cluster, name, by))
    return await node_rows.get(tx, cluster, name)


async def declare_gone(tx: Tx, cluster: ClusterName, name: NodeName, by: str, now: datetime, reason: str = "declared gone") -> Node:
    """Give a node up: whoever runs on it loses its addresses, which others get after a cooldown. Should it come back it is told so, and
    enrols again with a new token. Repeating it changes nothing. Raises NotFound."""
    found = await node_rows.get(tx, cluster, name, lock=True)
    if found.state is NodeState.GONE:
        return found
    # First its agent is kept out, then its blocks are taken: a report that comes in between waits for our lock and is refused.
    await node_rows.forget_tokens(tx, found.id)
    await node_rows.revoke_certificates(tx, found.id, now)
    await node_rows.change(tx, found.id, {"state": NodeState.GONE.value, "gone_at": now})
    back = await blocks.take_back(tx, found.id, by, reason, now)
    tx.emit(NodeGone(cluster, name, released=back.released, blocks=back.blocks, by=by))
    return await node_rows.get(tx, cluster, name)


async def remove(tx: Tx, cluster: ClusterName, name: NodeName, by: str, now: datetime) -> None:
    """Only one that is gone or never enrolled, and holds nothing. Raises NotFound, InUse."""
    del now
    found = await node_rows.get(tx, cluster, name, lock=True)
    if found.state not in (NodeState.ADDED, NodeState.GONE):
        raise InUse("node", f"{cluster}/{name}", f"it is {found.state.value}; declare it gone first")
    held = await node_rows.holds(tx, found.id)
    if held:
        raise InUse("node", f"{cluster}/{name}", f"it has {' and '.join(held)}")
    await zone_rows.grow_around_node(tx, found.id)
    await node_rows.delete(tx, found.id)
    tx.emit(NodeRemoved(cluster, name, by))


async def _token(tx: Tx, node: Node, tokens: TokenPolicy, now: datetime) -> str:
    made = Token.new(tokens.fingerprint, tokens.chance)
    await node_rows.replace_token(tx, node.id, made.digest(), now, now + tokens.lifetime)
    return str(made)
