"""Allocations as they are shown: who holds which address, and who had it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.events import Json
from fabricmgr.domain.names import ClusterName, NetworkName, NodeName, PoolName
from fabricmgr.domain.owner import OwnerKind


class AllocationState(Enum):
    """released: given back, but a link may still carry the address, so it stays taken."""

    HELD = "held"
    RELEASED = "released"


def allocation_state(text: str, field: str = "state") -> AllocationState:
    """Parse a state. Raises Invalid."""
    try:
        return AllocationState(text)
    except ValueError:
        raise Invalid(field, text, "held or released") from None


@dataclass(frozen=True)
class HeldAddress:
    """One address of an allocation."""

    address: Address
    pool: PoolName
    generation: int


@dataclass(frozen=True)
class Allocation:
    """owner: the key. label: the owner for people. container to mac: of an attachment. name: of a direct client or a service.

    workload: what made the pod, such as a Deployment, while the API server shows it."""

    owner: UUID
    kind: OwnerKind
    label: str
    addresses: tuple[HeldAddress, ...]
    cluster: ClusterName | None
    node: NodeName | None
    network: NetworkName | None
    container: str | None
    ifname: str | None
    name: str | None
    mac: str | None
    about: Mapping[str, Json]
    at: datetime
    released_at: datetime | None
    workload: str = ""

    @property
    def state(self) -> AllocationState:
        return AllocationState.HELD if self.released_at is None else AllocationState.RELEASED

    @property
    def namespace(self) -> str:
        """Of the pod, as the runtime said; "" where it said none."""
        return str(self.about.get("namespace", ""))

    @property
    def pod(self) -> str:
        """The pod's name, as the runtime said."""
        return str(self.about.get("pod", ""))


@dataclass(frozen=True)
class AllocationFilter:
    """None: any. Every one given must fit. owners: one of these."""

    pool: PoolName | None = None
    cluster: ClusterName | None = None
    node: NodeName | None = None
    network: NetworkName | None = None
    namespace: str | None = None
    workload: str | None = None
    pod: str | None = None
    address: Address | None = None
    owner: UUID | None = None
    state: AllocationState | None = None
    kind: OwnerKind | None = None
    name: str | None = None
    container: str | None = None
    owners: tuple[UUID, ...] | None = None


@dataclass(frozen=True)
class Holding:
    """Somebody had an address from `from_at` on. until_at: given back, or handed on; None: has it still. gone_at: no link carried it any
    more; None also where there never was one. reason: why it ended. by: who asked for it."""

    address: Address
    scope: int
    owner: UUID | None
    label: str
    generation: int
    cluster: ClusterName | None
    node: NodeName | None
    from_at: datetime
    until_at: datetime | None
    gone_at: datetime | None
    reason: str
    by: str
    about: Mapping[str, Json]

    def covers(self, at: datetime) -> bool:
        """Whether a link may have carried the address for this owner then."""
        ends = [each for each in (self.until_at, self.gone_at) if each is not None]
        return self.from_at <= at and (not ends or at < max(ends))


@dataclass(frozen=True)
class HistoryEntry:
    """One line: assigned, released, gone, held back."""

    id: int
    at: datetime
    what: str
    owner: UUID | None
    label: str
    address: Address | None
    generation: int | None
    node: NodeName | None
    by: str
    detail: Mapping[str, Json]
