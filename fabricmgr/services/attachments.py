"""Addresses of attachments that the manager decides."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import product

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.addresses import parse_address
from fabricmgr.domain.errors import Invalid, PoolExhausted, PoolRefused
from fabricmgr.domain.kube import ADDRESSES, KubeNamespace
from fabricmgr.domain.names import container_id, interface_name, network_name
from fabricmgr.domain.owner import Attachment, SetPlace
from fabricmgr.domain.selectors import asks_manager
from fabricmgr.services import kube_pods, sticky
from fabricmgr.services.kube_pods import Ask, Known, Who
from fabricmgr.store import asked, kube_rows
from fabricmgr.store.asked import Choice
from fabricmgr.store.places import NetworkPlace, Places, PoolPlace
from fabricmgr.store.tx import Database
from fabricmgr.store.writer import Writer
from fabricmgr.store.writer_allocate import Given, Pair, Taken, Want
from fabricmgr.store.writer_release import End

LARGEST_GENERATION = 2**63 - 1


@dataclass(frozen=True)
class Desk:
    """What deciding addresses takes: the lanes, transactions for what is asked for by name, and where pools are.

    ask: an API server, for a pod that our rows do not show yet. None where no cluster has one."""

    writer: Writer
    database: Database
    places: Places
    ask: Ask | None = None

    async def any(self, want: Want, choice: Choice, now: datetime) -> Taken:
        """Addresses of all families of the choice, from the first of its pools that have some. Raises PoolExhausted."""
        if choice.addresses:
            return await self.database.run(partial(asked.assign, want=want, choice=choice, now=now))
        taken = await self._first(want, _pairs(choice))
        missing = tuple(f for f in choice.families if (taken.v4 if f == 4 else taken.v6) is None)
        if not missing:
            return taken
        rest = Choice(missing, (), choice.pools, choice.where)
        return await self.database.run(partial(asked.add_families, want=want, choice=rest, now=now))

    async def _first(self, want: Want, pairs: Sequence[Pair]) -> Taken:
        for pair in pairs[:-1]:
            try:
                return await self.writer.allocate(pair, want)
            except PoolExhausted:
                continue
        return await self.writer.allocate(pairs[-1], want)


def _pairs(choice: Choice) -> list[Pair]:
    by_family: list[list[int | None]] = [
        [pool.id for pool in choice.pools[family]] if family in choice.families else [None] for family in (4, 6)
    ]
    return [(v4, v6) for v4, v6 in product(*by_family)]


def choose(families: Sequence[int], texts: Sequence[str], pools: Mapping[int, Sequence[PoolPlace]], where: str) -> Choice:
    """Parse what is asked for. Families of the pools when none are named; the addresses' own count too.

    Raises Invalid, PoolExhausted."""
    addresses = tuple(dict.fromkeys(parse_address(text) for text in texts))
    versions = [each.version for each in addresses]
    if len(set(versions)) != len(versions):
        raise Invalid("address", ", ".join(texts), "at most one address of each family")
    known = [family for family in (4, 6) if pools[family]]
    wanted = tuple(sorted({*(families or known), *versions}))
    for family in wanted:
        if family not in (4, 6):
            raise Invalid("families", family, "4, 6, or both")
        if not pools[family]:
            raise Invalid("families", family, f"a family that {where} has a prefix of")
    if not wanted:
        raise PoolExhausted(where, "", "it has no prefix")
    return Choice(wanted, addresses, pools, where)


async def attach(
    desk: Desk, node: NodePrincipal, network: str, container: str, ifname: str, request: wire.Attach, now: datetime
) -> wire.Attached:
    """Any address of the network's families, or those asked for; the same attachment again gets the same ones.

    Raises NotFound, Invalid, PodElsewhere, PoolRefused, ApiUnreachable and the like where it must be known who the pod is, and what
    `Desk.any` raises."""
    owner = _owner(node, network, container, ifname)
    place = await desk.places.network(node.cluster, owner.network)
    choice, keeps = await _choice(desk, node, place, owner, request)
    want = _want(node, owner, place.cluster_id, request)
    taken = await (desk.any(want, choice, now) if keeps is None else _kept(desk, want, choice, keeps, now))
    wanted = [each for each in taken.addresses if each.address.version in choice.families]
    return wire.Attached(addresses=[_on_wire(each) for each in wanted], repeated=not taken.made)


async def _kept(desk: Desk, want: Want, choice: Choice, keeps: SetPlace, now: datetime) -> Taken:
    """Those of the pod before it at its place in a StatefulSet; else any, which are its successors' from now on."""
    found = await desk.database.run(partial(sticky.again, want=want, choice=choice, place=keeps, now=now))
    taken = found or await desk.any(want, choice, now)
    await desk.database.run(partial(sticky.remember, want=want, place=keeps, taken=taken, now=now))
    return taken


async def _choice(
    desk: Desk, node: NodePrincipal, place: NetworkPlace, owner: Attachment, request: wire.Attach
) -> tuple[Choice, SetPlace | None]:
    """What is asked for, from the pools that this pod may have addresses of; and the place in a StatefulSet that keeps its addresses."""
    where = f"network {owner.network}"
    if place.plain and not place.has_api:
        return choose(request.families, request.asked, {family: place.of(family) for family in (4, 6)}, where), None
    who = await _who(desk, node, place, request)
    subject = who.subject()
    decision = place.decide(subject)
    if decision.refused:
        raise PoolRefused(f"pod {request.namespace}/{request.pod}", decision.refused)
    texts = request.asked or [text for text in who.addresses if not request.families or _version(text) in request.families]
    choice = choose(request.families, texts, place.ordered(decision, subject.asked_pool), where)
    return choice, sticky.place_of(node.cluster, owner.network, who)


def _version(text: str) -> int:
    return parse_address(text, ADDRESSES).version


async def _who(desk: Desk, node: NodePrincipal, place: NetworkPlace, request: wire.Attach) -> Who:
    """The API server is asked outside any transaction, and only where our rows do not show the pod."""
    if not place.has_api:
        return Who(None, None, await _labels(desk, node, place))
    async with desk.database.read() as tx:
        rows = await kube_pods.known(tx, place.cluster_id, node.name, request.namespace, request.pod)
    if desk.ask is not None and kube_pods.must_ask(rows, request.namespace, request.pod, request.uid):
        rows, failed = await kube_pods.complete(desk.ask, rows, node.cluster, request.namespace, request.pod)
        if failed is not None and _selected(place, rows, request.namespace):
            raise failed
    return kube_pods.judge(rows, node.name, request.uid)


async def _labels(desk: Desk, node: NodePrincipal, place: NetworkPlace) -> Mapping[str, str]:
    async with desk.database.read() as tx:
        return await kube_rows.node_labels(tx, place.cluster_id, node.name)


def _selected(place: NetworkPlace, rows: Known, namespace: str) -> bool:
    """Whether it matters who the pod is: defaults would be another pool than its namespace is meant to have."""
    found = rows.namespace or KubeNamespace(namespace, "")
    return asks_manager(found, [pool.candidate() for pool in place.pools])


async def detach(desk: Desk, node: NodePrincipal, network: str, container: str, ifname: str, generation: int | None) -> None:
    """Release it: its addresses stay taken until the node reports the link gone. generation: of two addresses, the greater one.

    What is not there, or was assigned anew since, changes nothing and succeeds. Raises Invalid."""
    owner = _owner(node, network, container, ifname)
    if generation is not None and not 0 <= generation <= LARGEST_GENERATION:
        raise Invalid("generation", generation, "a number that came with the addresses")
    await desk.writer.release(End(owner.key, generation, free=False, actor=f"node {node.cluster}/{node.name}"))


def _owner(node: NodePrincipal, network: str, container: str, ifname: str) -> Attachment:
    return Attachment(node.cluster, node.name, network_name(network), container_id(container), interface_name(ifname))


def _want(node: NodePrincipal, owner: Attachment, cluster_id: int, request: wire.Attach) -> Want:
    return Want(
        owner.key,
        "attachment",
        str(owner),
        cluster_id,
        node.node_id,
        node.name,
        owner.network,
        owner.container,
        owner.ifname,
        mac=request.mac or None,
        about=about(request),
        actor=f"node {node.cluster}/{node.name}",
        serial=node.serial,
    )


def about(pod: wire.Attach | wire.Owned) -> str:
    """What the runtime says of the pod, as it stands in the row."""
    said = {"namespace": pod.namespace, "pod": pod.pod, "uid": pod.uid}
    return json.dumps({key: value for key, value in said.items() if value})


def _on_wire(given: Given) -> wire.BlockAddress:
    return wire.BlockAddress(address=str(given.address), generation=given.generation)
