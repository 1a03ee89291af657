"""/v1/pools/{pool}/allocations: addresses for whoever asks by a name of its own. The busy ones are answered without the framework."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from fabricmgr.api import bodies
from fabricmgr.api.dispatch import Ask, RawRoute
from fabricmgr.domain.errors import FabricError, Invalid, NotFound
from fabricmgr.domain.names import DEFAULT_CLUSTER, ClusterName, cluster_name, pool_name
from fabricmgr.problems import problem_of, sentence
from fabricmgr.services import direct, pools
from fabricmgr.services.attachments import LARGEST_GENERATION, Desk
from fabricmgr.services.direct import Allocation
from fabricmgr.store.writer_allocate import Given
from fabricmgr.web.responses import Answer, ok, presentable

MOST_OWNERS = 1000
CLUSTER = {"cluster": "the owner's cluster; that of the pool, or `default`, when absent"}


class Wanted(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """families: 4, 6 or both; those of the pool when absent. address: this very one. dry_run: say what would be given."""

    families: list[int] = []
    address: str | None = None
    dry_run: bool = False


class WantedOwner(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    owner: str
    families: list[int] = []
    address: str | None = None


class WantedMany(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    owners: list[WantedOwner]


class AddressView(msgspec.Struct, frozen=True):
    """generation: a release may quote it, so that a late one frees nothing."""

    address: str
    generation: int


class AllocationView(msgspec.Struct, frozen=True):
    """repeated: the owner held it already."""

    pool: str
    owner: str
    addresses: list[AddressView]
    repeated: bool = False


class Said(msgspec.Struct, frozen=True):
    code: str
    message: str
    status: int


class OutcomeView(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one owner: what it has, or why not."""

    owner: str
    addresses: list[AddressView] | None = None
    repeated: bool | None = None
    error: Said | None = None


class Outcomes(msgspec.Struct, frozen=True):
    items: list[OutcomeView]


@dataclass(frozen=True)
class DirectRoutes:
    """The raw routes over a desk."""

    desk: Desk

    def routes(self) -> list[RawRoute]:
        """For the dispatch."""
        one, many = "/v1/pools/{pool}/allocations/{owner}", "/v1/pools/{pool}/allocations"
        return [
            RawRoute(
                "PUT", one, self.allocate, "Get an address; the same owner again gets the same", Wanted, AllocationView, query=CLUSTER
            ),
            RawRoute("GET", one, self.show, "What an owner holds", None, AllocationView, query=CLUSTER),
            RawRoute("DELETE", one, self.release, "Give it back", None, None, 204, {**CLUSTER, "generation": "frees only this assignment"}),
            RawRoute(
                "POST",
                many,
                self.allocate_many,
                "Addresses for many owners, each by itself",
                WantedMany,
                Outcomes,
                query=CLUSTER,
                large=True,
            ),
        ]

    async def allocate(self, ask: Ask) -> Answer:
        """201 when it was made, 200 when the owner held it already, or for a dry run."""
        wanted = bodies.decode(ask.body or b"{}", Wanted)
        cluster = await self._cluster(ask)
        act = direct.preview if wanted.dry_run else direct.allocate
        pool, owner = ask.params["pool"], ask.params["owner"]
        found, made = await act(self.desk, cluster, pool, owner, wanted.families, wanted.address, ask.principal.actor, ask.now)
        return ok(_view(found, repeated=not made), 201 if made and not wanted.dry_run else 200)

    async def show(self, ask: Ask) -> Answer:
        """What the owner holds."""
        cluster = await self._cluster(ask)
        async with self.desk.database.read() as tx:
            return ok(_view(await direct.get(tx, cluster, ask.params["pool"], ask.params["owner"]), repeated=True))

    async def release(self, ask: Ask) -> Answer:
        """204, also when there was nothing to release."""
        cluster = await self._cluster(ask)
        generation = read_generation(ask.query.get("generation"))
        await direct.release(self.desk, cluster, ask.params["pool"], ask.params["owner"], generation, ask.principal.actor)
        return Answer(204)

    async def allocate_many(self, ask: Ask) -> Answer:
        """200 with an outcome for each owner, in their order: one that fails stops no other."""
        wanted = bodies.decode(ask.body, WantedMany).owners
        if not 1 <= len(wanted) <= MOST_OWNERS:
            raise Invalid("owners", len(wanted), f"1 to {MOST_OWNERS} owners")
        cluster = await self._cluster(ask)
        return ok(Outcomes(await self._each(ask, cluster, wanted)))

    async def _each(self, ask: Ask, cluster: ClusterName, wanted: Sequence[WantedOwner]) -> list[OutcomeView]:
        calls = (
            direct.allocate(self.desk, cluster, ask.params["pool"], w.owner, w.families, w.address, ask.principal.actor, ask.now)
            for w in wanted
        )
        found = await asyncio.gather(*calls, return_exceptions=True)
        return [_outcome(each.owner, came) for each, came in zip(wanted, found, strict=True)]

    async def _cluster(self, ask: Ask) -> ClusterName:
        """Whose address space of names it is: asked for, else the pool's own, else the default one."""
        if "cluster" in ask.query:
            return cluster_name(ask.query["cluster"])
        name = pool_name(ask.params["pool"])
        try:
            await self.desk.places.pool(DEFAULT_CLUSTER, name)
        except NotFound:
            async with self.desk.database.read() as tx:
                return (await pools.get(tx, name)).cluster or DEFAULT_CLUSTER
        return DEFAULT_CLUSTER


def read_generation(text: str | None) -> int | None:
    """A generation in a query. Raises Invalid."""
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text[:20]) > LARGEST_GENERATION:
        raise Invalid("generation", text, "a number that came with the addresses")
    return int(text)


def _view(found: Allocation, *, repeated: bool) -> AllocationView:
    return AllocationView(found.pool, found.owner, _addresses(found.addresses), repeated)


def _addresses(given: Sequence[Given]) -> list[AddressView]:
    return [AddressView(str(each.address), each.generation) for each in given]


def _outcome(owner: str, came: "tuple[Allocation, bool] | BaseException") -> OutcomeView:
    if isinstance(came, FabricError):
        shown = presentable(came)
        return OutcomeView(owner, error=Said(type(shown).__name__, sentence(shown), problem_of(shown).http))
    if isinstance(came, BaseException):
        raise came
    return OutcomeView(owner, _addresses(came[0].addresses), not came[1])
