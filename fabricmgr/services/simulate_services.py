"""What Services of a manifest would take: read, shared, chosen and refused by what does so when they are applied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from fabricmgr.domain.addresses import Address
from fabricmgr.domain.errors import FabricError, PoolExhausted, PoolRefused
from fabricmgr.domain.manifest import ServiceAsked, completed
from fabricmgr.domain.selectors import decide, families_of
from fabricmgr.domain.service import CLASS, Wish, ours, wish
from fabricmgr.problems import sentence
from fabricmgr.services import explain, service_addresses
from fabricmgr.services.room import Around, Outcome, Taking
from fabricmgr.store import service_rows
from fabricmgr.store.service_rows import Holding, ServiceRow

Names = Mapping[int, Sequence[str]]
"""By family: pools to ask, first first."""


@dataclass(frozen=True)
class _Planned:
    """A Service of the manifest that others may share with."""

    row: ServiceRow
    taken: tuple[Taking, ...]
    addresses: tuple[Address, ...]

    def fits(self, wanted: Wish) -> bool:
        versions = {each.family for each in self.taken}
        families = set(wanted.needed) <= versions <= set(wanted.families)
        pool = not wanted.pool or wanted.pool in {each.pool for each in self.taken}
        return families and pool and set(wanted.addresses) <= set(self.addresses)


class Services:
    """Those of one manifest, in its order: what one takes is missing for the next."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._planned: list[_Planned] = []

    async def outcome(self, found: ServiceAsked) -> Outcome:
        """What this one would take, or why it would wait."""
        if not ours(found.asked, self._around.class_less):
            cls = found.asked.cls or "not set"
            return Outcome(found.what, found.namespace, True, (), f"it is not ours: its class is {cls}, ours is {CLASS}")
        try:
            wanted = wish(completed(found.asked, self._around.families))
            taken, reason = await self._settled(found, wanted)
        except FabricError as error:
            return Outcome(found.what, found.namespace, False, (), sentence(error))
        return Outcome(found.what, found.namespace, True, tuple(taken), reason)

    async def _settled(self, found: ServiceAsked, wanted: Wish) -> tuple[Sequence[Taking], str]:
        """In the order of service_addresses: what it has, what it may share, a new one. Raises what stands in the way."""
        tx, cluster = self._around.tx, self._around.cluster_id
        row = await service_rows.find(tx, cluster, found.namespace, found.name)
        held = await service_rows.holding(tx, row.owner) if row is not None else ()
        others = await self._others(found, wanted)
        if row is not None and held and row.sharing_key == wanted.sharing_key and service_addresses.fits(wanted, held):
            service_addresses.may_share(wanted, [each for each in others if each.owner == row.owner])
            return (), f"it has {_listed(held)} already"
        for owner in dict.fromkeys(each.owner for each in others if each.owner is not None):
            shared = await service_rows.holding(tx, owner)
            if service_addresses.fits(wanted, shared):
                service_addresses.may_share(wanted, [each for each in others if each.owner == owner])
                return (), f"it shares {_listed(shared)} by sharing key {wanted.sharing_key!r}"
        if (beside := self._shared(found, wanted)) is not None:
            return (), beside
        taken = await self._new(found, wanted)
        self._planned.append(_Planned(_row(found, wanted), tuple(taken), wanted.addresses))
        return taken, f"it has {_listed(held)} now, which is not what it asks for" if held else ""

    async def _others(self, found: ServiceAsked, wanted: Wish) -> list[ServiceRow]:
        if not wanted.sharing_key:
            return []
        rows = await service_rows.sharing(self._around.tx, self._around.cluster_id, found.namespace, wanted.sharing_key)
        return [each for each in rows if each.name != found.name]

    def _shared(self, found: ServiceAsked, wanted: Wish) -> str | None:
        """With Services of this manifest. Raises PoolRefused."""
        same = [each for each in self._planned if each.row.namespace == found.namespace and each.row.sharing_key == wanted.sharing_key]
        first = next((each for each in same if wanted.sharing_key and each.taken and each.fits(wanted)), None)
        if first is None:
            return None
        service_addresses.may_share(wanted, [each.row for each in same])
        self._planned.append(_Planned(_row(found, wanted), (), ()))
        return f"it shares the address of Service {first.row.name} by sharing key {wanted.sharing_key!r}"

    async def _new(self, found: ServiceAsked, wanted: Wish) -> list[Taking]:
        names = self._pools(found, wanted)
        whole = all(names[family] for family in wanted.families)
        try:
            return await self._take(found, wanted, wanted.families if whole else wanted.needed, names)
        except PoolExhausted:
            if not wanted.optional:
                raise
            return await self._take(found, wanted, wanted.needed, names)

    def _pools(self, found: ServiceAsked, wanted: Wish) -> Names:
        around = self._around
        subject = explain.subject_of(around.namespace(found.namespace), found.labels, found.asked.annotations)
        known = [each.candidate() for each in around.room.pools.values() if each.purpose.value == "Service"]
        decision = decide(subject, known)
        if decision.refused:
            raise PoolRefused(f"Service {found.namespace}/{found.name}", decision.refused)
        return families_of(decision, {each.name: each.families for each in known}, wanted.pool)

    async def _take(self, found: ServiceAsked, wanted: Wish, families: Sequence[int], names: Names) -> list[Taking]:
        around = self._around
        owner = service_addresses.owner_name(found.namespace, found.name, wanted.sharing_key)
        keys = service_addresses.keys(around.cluster, owner)
        former = [] if wanted.addresses else await service_rows.former(around.tx, keys)
        taken: list[Taking] = []
        with around.room.attempt():
            for family in sorted(families):
                address = next((each for each in wanted.addresses if each.version == family), None)
                if address is not None:
                    taken += await around.named(f"Service {owner}", address, names[family], service_addresses.where(wanted), keys)
                    continue
                back = next((each for each in former if each.version == family), None)
                taken += await self._back(f"Service {owner}", back, names[family], keys) or _any(around, names[family], family)
        return taken

    async def _back(self, owner: str, address: Address | None, names: Sequence[str], keys: Sequence[UUID]) -> list[Taking]:
        """The address that it had before, where it can have it."""
        if address is None:
            return []
        try:
            return await self._around.named(owner, address, names, "", keys)
        except FabricError:
            return []


def _any(around: Around, names: Sequence[str], family: int) -> list[Taking]:
    taken = around.room.take(names, family, 1)
    if not taken:
        why = "add a prefix, or see who holds them" if names else "no pool for Services that it may use has a prefix of that family"
        raise PoolExhausted(" or ".join(names) or "for Services", f"IPv{family}", why)
    return taken


def _row(found: ServiceAsked, wanted: Wish) -> ServiceRow:
    said = {"traffic": wanted.traffic}
    return ServiceRow(found.namespace, found.name, "", sharing_key=wanted.sharing_key, ports=wanted.ports, wanted=said)


def _listed(held: Sequence[Holding]) -> str:
    return " and ".join(str(each.address) for each in held)
