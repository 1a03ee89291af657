"""Clusters and their networks."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from fabricmgr.domain.addresses import Family, Prefix
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.names import ClusterName, NetworkName, PoolName, interface_name

SMALLEST_MTU = 1280  # of IPv6 (RFC 8200, section 5)
LARGEST_MTU = 65535


class Decide(Enum):
    """Who decides a pod's address: its node's agent from its blocks, the manager for some namespaces, the manager always."""

    AGENT = "agent"
    NAMESPACES = "namespaces"
    MANAGER = "manager"


class Routing(Enum):
    """host-gw: agents lay routes to each other's blocks. none: the underlay does."""

    HOST_GW = "host-gw"
    NONE = "none"


class StatusPolicy(Enum):
    """Whether want of addresses fails a node's STATUS."""

    AUTO = "auto"
    STRICT = "strict"
    LENIENT = "lenient"


@dataclass(frozen=True)
class Cluster:
    id: int
    name: ClusterName
    created_at: datetime
    version: int


def _check(mtu: int | None, bridge: str | None, decide: Decide | None, namespaces: tuple[str, ...] | None) -> None:
    if mtu is not None and not SMALLEST_MTU <= mtu <= LARGEST_MTU:
        raise Invalid("mtu", mtu, f"a number from {SMALLEST_MTU} to {LARGEST_MTU}")
    if bridge:
        interface_name(bridge, "bridge")
    if namespaces and decide is not None and decide is not Decide.NAMESPACES:
        raise Invalid("namespaces", ", ".join(namespaces), "no namespaces, unless decide is 'namespaces'")


def _check_pools(pools: tuple[PoolName, ...]) -> None:
    if not pools:
        raise Invalid("pools", "", "at least one pool")
    if len(set(pools)) != len(pools):
        raise Invalid("pools", ", ".join(pools), "each pool once")


@dataclass(frozen=True)
class NetworkDraft:
    """A network to be. pools: in order of preference; a family's addresses come from the first pool that has it and room.

    bridge: empty, the agent makes a name. direct: destinations reached without masquerade beside the network's own. Raises Invalid."""

    cluster: ClusterName
    name: NetworkName
    pools: tuple[PoolName, ...]
    mtu: int = 1500
    masquerade: bool = False
    routing: Routing = Routing.HOST_GW
    decide: Decide = Decide.AGENT
    namespaces: tuple[str, ...] = ()
    direct: tuple[Prefix, ...] = ()
    bridge: str = ""
    status_policy: StatusPolicy = StatusPolicy.AUTO

    def __post_init__(self) -> None:
        _check_pools(self.pools)
        _check(self.mtu, self.bridge, self.decide, self.namespaces)


@dataclass(frozen=True)
class NetworkChange:
    """What to change; None leaves it."""

    pools: tuple[PoolName, ...] | None = None
    mtu: int | None = None
    masquerade: bool | None = None
    routing: Routing | None = None
    decide: Decide | None = None
    namespaces: tuple[str, ...] | None = None
    direct: tuple[Prefix, ...] | None = None
    bridge: str | None = None
    status_policy: StatusPolicy | None = None

    def __post_init__(self) -> None:
        if self.pools is not None:
            _check_pools(self.pools)
        _check(self.mtu, self.bridge, self.decide, self.namespaces)

    def given(self) -> dict[str, object]:
        """Field and new value of what is to change."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Network:
    """A network of a cluster: the `name` of a CNI configuration. families and prefixes are those of its pools.

    namespaces_found: the manager decides for these too, since selectors of pools say so. block_pools: those that nodes claim blocks of."""

    id: int
    cluster: ClusterName
    name: NetworkName
    pools: tuple[PoolName, ...]
    families: tuple[Family, ...]
    prefixes: tuple[Prefix, ...]
    mtu: int
    masquerade: bool
    routing: Routing
    decide: Decide
    namespaces: tuple[str, ...]
    direct: tuple[Prefix, ...]
    bridge: str
    status_policy: StatusPolicy
    created_at: datetime
    version: int
    namespaces_found: tuple[str, ...] = ()
    block_pools: tuple[PoolName, ...] = ()

    @property
    def decided(self) -> tuple[Decide, tuple[str, ...]]:
        """Who decides, and for which namespaces the manager does where nodes decide for the others."""
        if self.decide is Decide.MANAGER:
            return self.decide, ()
        namespaces = tuple(sorted({*self.namespaces, *self.namespaces_found}))
        return (Decide.NAMESPACES if self.namespaces_found else self.decide), namespaces

    def is_decided_for(self, namespace: str) -> bool:
        """Whether the manager decides for pods of a namespace; else their node does."""
        decide, namespaces = self.decided
        return decide is Decide.MANAGER or namespace in namespaces
