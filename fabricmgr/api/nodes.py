"""/v1/clusters/{cluster}/nodes."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from fastapi import APIRouter, Response

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Call, Called, Paging, gone
from fabricmgr.domain.names import cluster_name, node_name
from fabricmgr.domain.node import Node, TokenPolicy
from fabricmgr.services import identity, nodes
from fabricmgr.store.tx import Tx

router = APIRouter(tags=["nodes"])
T = TypeVar("T")
ONE = "/v1/clusters/{cluster}/nodes/{node}"


class NodeCreate(Model):
    name: str


class NodeView(View):
    """free: addresses in its blocks by network/family, as its agent said. report_age_ms: how far our copy of its addresses trailed then.

    faults: what its agent finds wrong with the node's network."""

    name: str
    cluster: str
    state: str
    addresses: list[str]
    agent_version: str
    seen_at: datetime | None
    machine_id: str
    system_uuid: str
    labels: dict[str, str]
    interfaces: list[dict[str, object]]
    free: dict[str, int]
    report_age_ms: int
    desired_acted: str
    created_at: datetime
    gone_at: datetime | None
    version: int
    faults: list[str]

    @classmethod
    def of(cls, found: Node) -> "NodeView":
        return cls(**_fields(found))


class NodeAdded(NodeView):
    """token: for the node's agent, shown this once."""

    token: str
    expires_at: datetime


class NodeToken(View):
    token: str
    expires_at: datetime


class NodePage(View):
    items: list[NodeView]
    next: str | None


@router.get("/v1/clusters/{cluster}/nodes", response_model=NodePage)
async def list_nodes(call: Called, cluster: str, page: Paging) -> Response:
    """The nodes of a cluster, by name."""
    found = await call.read(lambda tx: nodes.list_all(tx, cluster_name(cluster), page))
    return call.shown(NodePage(items=[NodeView.of(each) for each in found.items], next=found.next))


@router.post("/v1/clusters/{cluster}/nodes", response_model=NodeAdded, status_code=201)
async def add_node(call: Called, cluster: str, body: NodeCreate) -> Response:
    """Make a node, and the token with which its agent enrols."""
    where, name, now = cluster_name(cluster), node_name(body.name, "name"), call.now
    made, token = await _with_tokens(call, now, lambda tx, tokens: nodes.add(tx, where, name, tokens, call.by, now))
    view = NodeAdded(**_fields(made), token=token, expires_at=now + call.parts.settings.token_lifetime)
    return call.shown(view, made.version, location=f"/v1/clusters/{cluster}/nodes/{name}")


@router.get(ONE, response_model=NodeView)
async def show_node(call: Called, cluster: str, node: str) -> Response:
    """One node."""
    found = await call.read(lambda tx: nodes.get(tx, cluster_name(cluster), node_name(node)))
    return call.shown(NodeView.of(found))


@router.delete(ONE, status_code=204)
async def remove_node(call: Called, cluster: str, node: str) -> Response:
    """Remove a node that is gone or never enrolled, and holds nothing."""
    where, name = cluster_name(cluster), node_name(node)
    await call.run(lambda tx: nodes.remove(tx, where, name, call.by, call.now))
    return gone()


@router.post(f"{ONE}/token", response_model=NodeToken, status_code=201)
async def new_token(call: Called, cluster: str, node: str) -> Response:
    """A new token: earlier ones count no more, and a node that enrols again keeps its blocks."""
    where, name, now = cluster_name(cluster), node_name(node), call.now
    token = await _with_tokens(call, now, lambda tx, tokens: nodes.new_token(tx, where, name, tokens, call.by, now))
    return call.shown(NodeToken(token=token, expires_at=now + call.parts.settings.token_lifetime), status=201)


@router.post(f"{ONE}/revoke", response_model=NodeView)
async def revoke_node(call: Called, cluster: str, node: str) -> Response:
    """Refuse its certificates and tokens from now on. Frees nothing."""
    where, name = cluster_name(cluster), node_name(node)
    return call.shown(NodeView.of(await call.run(lambda tx: nodes.revoke(tx, where, name, call.by, call.now))))


@router.post(f"{ONE}/gone", response_model=NodeView)
async def declare_gone(call: Called, cluster: str, node: str) -> Response:
    """Give it up for good: what it held goes to others after a cooldown."""
    where, name = cluster_name(cluster), node_name(node)
    return call.shown(NodeView.of(await call.run(lambda tx: nodes.declare_gone(tx, where, name, call.by, call.now))))


async def _with_tokens(call: Call, now: datetime, use_case: Callable[[Tx, TokenPolicy], Awaitable[T]]) -> T:
    """A use case that makes tokens: they carry the fingerprint of the CA in use."""
    settings = call.parts.settings

    async def use(tx: Tx) -> T:
        ours = await identity.authority(tx, call.parts.sealer, settings.node_certificate_lifetime, now)
        return await use_case(tx, TokenPolicy(ours.fingerprint, settings.token_lifetime, secrets.token_bytes))

    return await call.run(use)


def _fields(found: Node) -> dict[str, Any]:
    known = {name: value for name, value in vars(found).items() if name != "id"}
    return known | {
        "state": found.state.value,
        "addresses": [str(each) for each in found.addresses],
        "labels": dict(found.labels),
        "interfaces": [dict(each) for each in found.interfaces],
        "free": dict(found.free),
        "faults": list(found.faults),
    }
