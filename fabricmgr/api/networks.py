"""/v1/clusters/{cluster}/networks."""

from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from fastapi import APIRouter, Response

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Called, Paging, gone
from fabricmgr.domain.addresses import Prefix, parse_prefix
from fabricmgr.domain.errors import NotInList
from fabricmgr.domain.names import PoolName, cluster_name, network_name, pool_name
from fabricmgr.domain.network import Decide, Network, NetworkChange, NetworkDraft, Routing, StatusPolicy
from fabricmgr.services import networks

router = APIRouter(tags=["networks"])
E = TypeVar("E", bound=Enum)


class NetworkFields(Model):
    """What may be set; what is not named keeps its value or gets its default."""

    mtu: int | None = None
    masquerade: bool | None = None
    routing: str | None = None
    decide: str | None = None
    namespaces: list[str] | None = None
    direct: list[str] | None = None
    bridge: str | None = None
    status_policy: str | None = None


class NetworkCreate(NetworkFields):
    name: str
    pools: list[str]


class NetworkPatch(NetworkFields):
    pools: list[str] | None = None


class NetworkView(View):
    """namespaces_found: the manager decides for pods of these too, since selectors, labels or annotations of ours lead there."""

    name: str
    cluster: str
    pools: list[str]
    families: list[int]
    prefixes: list[str]
    mtu: int
    masquerade: bool
    routing: str
    decide: str
    namespaces: list[str]
    namespaces_found: list[str]
    direct: list[str]
    bridge: str
    status_policy: str
    created_at: datetime
    version: int

    @classmethod
    def of(cls, found: Network) -> "NetworkView":
        return cls(
            name=found.name,
            cluster=found.cluster,
            pools=list(found.pools),
            families=[family.value for family in found.families],
            prefixes=[str(prefix) for prefix in found.prefixes],
            mtu=found.mtu,
            masquerade=found.masquerade,
            routing=found.routing.value,
            decide=found.decide.value,
            namespaces=list(found.namespaces),
            namespaces_found=list(found.namespaces_found),
            direct=[str(prefix) for prefix in found.direct],
            bridge=found.bridge,
            status_policy=found.status_policy.value,
            created_at=found.created_at,
            version=found.version,
        )


class NetworkPage(View):
    items: list[NetworkView]
    next: str | None


@router.get("/v1/clusters/{cluster}/networks", response_model=NetworkPage)
async def list_networks(call: Called, cluster: str, page: Paging) -> Response:
    """The networks of a cluster, by name."""
    found = await call.read(lambda tx: networks.list_all(tx, cluster_name(cluster), page))
    return call.shown(NetworkPage(items=[NetworkView.of(each) for each in found.items], next=found.next))


@router.post("/v1/clusters/{cluster}/networks", response_model=NetworkView, status_code=201)
async def create_network(call: Called, cluster: str, body: NetworkCreate) -> Response:
    """Make a network over one or more pools."""
    draft = NetworkDraft(cluster=cluster_name(cluster), name=network_name(body.name, "name"), pools=_pools(body.pools), **_given(body))
    made = await call.run(lambda tx: networks.create(tx, draft, call.by, call.now))
    return call.shown(NetworkView.of(made), made.version, location=f"/v1/clusters/{cluster}/networks/{made.name}")


@router.get("/v1/clusters/{cluster}/networks/{network}", response_model=NetworkView)
async def show_network(call: Called, cluster: str, network: str) -> Response:
    """One network."""
    found = await call.read(lambda tx: networks.get(tx, cluster_name(cluster), network_name(network)))
    return call.shown(NetworkView.of(found), found.version)


@router.patch("/v1/clusters/{cluster}/networks/{network}", response_model=NetworkView)
async def change_network(call: Called, cluster: str, network: str, body: NetworkPatch) -> Response:
    """Change what is named; the rest stays."""
    where, name, quoted = cluster_name(cluster), network_name(network), call.version("network", network)
    wanted = NetworkChange(pools=None if body.pools is None else _pools(body.pools), **_given(body))
    changed = await call.run(lambda tx: networks.change(tx, where, name, wanted, quoted, call.by, call.now))
    return call.shown(NetworkView.of(changed), changed.version)


@router.delete("/v1/clusters/{cluster}/networks/{network}", status_code=204)
async def delete_network(call: Called, cluster: str, network: str) -> Response:
    """Remove a network by which no container holds an address."""
    where, name, quoted = cluster_name(cluster), network_name(network), call.version("network", network)
    await call.run(lambda tx: networks.delete(tx, where, name, quoted, call.by, call.now))
    return gone()


def _pools(names: list[str]) -> tuple[PoolName, ...]:
    return tuple(pool_name(each, f"pools[{index}]") for index, each in enumerate(names))


def _given(body: NetworkFields) -> dict[str, Any]:
    """What the body names, in the domain's types. Raises Invalid, NotInList."""
    found: dict[str, Any] = {
        "mtu": body.mtu,
        "masquerade": body.masquerade,
        "routing": _choice(Routing, body.routing, "routing"),
        "decide": _choice(Decide, body.decide, "decide"),
        "namespaces": None if body.namespaces is None else tuple(body.namespaces),
        "direct": None if body.direct is None else _prefixes(body.direct),
        "bridge": body.bridge,
        "status_policy": _choice(StatusPolicy, body.status_policy, "status_policy"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _prefixes(texts: list[str]) -> tuple[Prefix, ...]:
    return tuple(parse_prefix(each, f"direct[{index}]") for index, each in enumerate(texts))


def _choice(kind: type[E], text: str | None, field: str) -> E | None:
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise NotInList(field, text, ", ".join(str(each.value) for each in kind)) from None
