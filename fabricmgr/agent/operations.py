"""The operations of CNI on this node (CNI SPEC 1.1.0, section 2): what the server calls, once a request is parsed and has its turn.

Order of ADD: intent, kernel, done; of DEL: going, kernel, answer, then reaped.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from fabricmgr.agent import adding, links
from fabricmgr.agent.central import Central
from fabricmgr.agent.ground import Ground
from fabricmgr.agent.holdings import Holdings
from fabricmgr.agent.leaving import Leaving, host_end
from fabricmgr.agent.links import Kernel
from fabricmgr.agent.networks import NetworkPlan
from fabricmgr.agent.readiness import Readiness
from fabricmgr.agent.records import Attached, Key, Place, Stage
from fabricmgr.agent.request import CniRequest
from fabricmgr.agent.result import CniResult
from fabricmgr.agent.survey import check, survey
from fabricmgr.agent.verbs import Turns
from fabricmgr.domain.addresses import Address, Family, parse_address
from fabricmgr.domain.errors import (
    AttachmentExists,
    CheckFailed,
    FabricError,
    KernelRefused,
    ManagerUnavailable,
    NamespaceMissing,
    NotFound,
)
from fabricmgr.netlink.nft_rules import network_label
from fabricmgr.problems import sentence
from fabricmgr.wire import NetworkSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What operations work with."""

    kernel: Kernel
    holdings: Holdings
    ground: Ground
    central: Central
    leaving: Leaving
    readiness: Readiness
    turns: Turns


class Operations:
    """Implements `Verbs`. manager_url: for messages."""

    def __init__(self, parts: Parts, clock: Callable[[], datetime], manager_url: str):
        self._parts = parts
        self._holdings = parts.holdings
        self._ground = parts.ground
        self._leaving = parts.leaving
        self._clock = clock
        self._manager_url = manager_url

    # --- ADD ---

    async def add(self, request: CniRequest) -> CniResult:
        """Attach. Raises what stands in the way, and then nothing is left behind."""
        # Before anything is looked at: from there to the answer nobody comes between, but where a former life ends or the manager is asked.
        await self._parts.turns.let_others_come()
        spec, network = self._network(request.network)
        adding.check_asked(request.asked, spec)
        key: Key = (request.network, request.container, request.ifname)
        await self._make_way(key, request)
        place = self._place(request, spec, network)
        place, used = await self._addresses(place, spec, request)
        return self._attach(place, request, used)

    def _network(self, name: str) -> tuple[NetworkSpec, NetworkPlan]:
        spec, plan = self._ground.spec(name), self._ground.plan(name)
        if self._holdings.state.desired is None:
            raise ManagerUnavailable(self._manager_url, "it has not said yet which networks there are")
        if spec is None:
            raise NotFound("network", name)
        if plan is None:
            raise KernelRefused(f"make network {name}", 0, self._ground.trouble)
        return spec, plan

    async def _make_way(self, key: Key, request: CniRequest) -> None:
        """End what stands where this attachment is to be, if it is dead: its own former life, and a pod's before kubelet restarted."""
        await self._holdings.ended(key)
        for other in self._dead(key, request):
            log.info("released", extra={"container": other[1], "reason": "its link is gone, and it is added anew"})
            self._leaving.leave(other, "added anew")
            await self._holdings.ended(other)
        if (there := self._holdings.get(key)) is not None and there.stage is Stage.DONE:
            raise AttachmentExists(*key)

    def _dead(self, key: Key, request: CniRequest) -> list[Key]:
        same_pod = self._holdings.state.by_uid.get(request.pod.uid, ()) if request.pod else ()
        found = []
        for other in {key, *(each for each in same_pod if (each[0], each[2]) == (key[0], key[2]))}:
            attached = self._holdings.get(other)
            if attached is None or attached.stage is not Stage.DONE:
                continue
            if not self._leaving.link_lives(other, attached.place.owned.host_interface):
                found.append(other)
        return found

    def _place(self, request: CniRequest, spec: NetworkSpec, network: NetworkPlan) -> Place:
        if request.namespace is None:
            raise NamespaceMissing(request.netns)
        state = self._holdings.state
        keys = state.by_container.get(request.container, set()) - {(request.network, request.container, request.ifname)}
        others = [each.place for each in map(state.attachments.__getitem__, sorted(keys)) if each.stage is Stage.DONE]
        is_default, routes = adding.routing(request, spec, others, state.desired.networks if state.desired else [])
        adding.bridge_of(request, network, lambda: any(key[0] == request.network for key in state.attachments))
        return adding.place_of(request, request.namespace, spec, self._clock(), is_default, routes)

    async def _addresses(self, place: Place, spec: NetworkSpec, request: CniRequest) -> tuple[Place, tuple[Address, ...]]:
        """Addresses in the journal: from held blocks, and from the manager where it decides or no block has one."""
        families = [Family(version) for version in spec.families]
        former = self._holdings.get(place.key)
        decided_there = adding.manager_decides(spec, request.pod) or (former is not None and former.place.asking)
        place, missing, used = self._holdings.begin(
            place, [] if decided_there else spec.pools, families, () if decided_there else request.asked
        )
        if not missing:
            return place, used
        whole = await self._parts.central.complete(place, missing, request)
        fresh = [each for each in whole.owned.addresses if each not in place.owned.addresses]
        return whole, (*used, *(parse_address(each.address) for each in fresh if each.generation > 1))

    def _attach(self, place: Place, request: CniRequest, used: tuple[Address, ...]) -> CniResult:
        """No await from here on: what is journalled and what the kernel shows change together."""
        try:
            network = self._ready_network(place)
            descriptor = request.namespace.fd if request.namespace else -1
            made = links.attach(self._parts.kernel, adding.plan_of(place, network.bridge_name, descriptor, used))
            owned = msgspec.structs.replace(place.owned, mac=made.mac, host_interface=made.host_name)
            place = msgspec.structs.replace(place, owned=owned)
            self._finish(place)
        except (FabricError, OSError):
            self._holdings.undo(place.key, self._clock())
            raise
        return adding.result_of(place, network, made)

    def _finish(self, place: Place) -> None:
        """What is not in the journal must not be in the kernel."""
        try:
            self._holdings.done(place)
        except FabricError:
            self._leaving.cut_stray(place.owned.host_interface)
            raise

    def _ready_network(self, place: Place) -> NetworkPlan:
        """The network as this attachment needs it: a central address has a route of its own, masquerade and bridge may be new."""
        plan = self._ground.plan(place.owned.network)
        if plan is None:
            raise NotFound("network", place.owned.network)
        if (place.masquerade and not plan.masquerade) or (place.bridge and place.bridge != plan.bridge_name):
            plan = self._ground.remake(plan)
        central = [parse_address(each.address) for each in place.owned.addresses if each.block is None]
        if central:
            self._ground.lead_to(plan, central)
        return plan

    # --- DEL ---

    async def undo(self, request: CniRequest) -> None:
        """Take back an ADD whose result nobody got."""
        self._leaving.leave((request.network, request.container, request.ifname), "undo")

    async def delete(self, request: CniRequest) -> None:
        """Detach and release; succeeds whatever is there or not. A link that the kernel would not let go is tried again by a loop."""
        try:
            self._leaving.leave((request.network, request.container, request.ifname), "DEL", request.namespace)
        except KernelRefused as error:
            log.error("a link could not be cut off yet", extra={"container": request.container, "reason": sentence(error)})

    # --- CHECK ---

    async def check(self, request: CniRequest) -> None:
        """Compare the kernel with prevResult and the journal. Raises CheckFailed."""
        key: Key = (request.network, request.container, request.ifname)
        attached, network = self._holdings.get(key), self._ground.plan(request.network)
        if attached is None or attached.stage is not Stage.DONE:
            raise CheckFailed("allocation", f"addresses for container {request.container} {request.ifname}", "none")
        if network is None:
            raise CheckFailed("network", request.network, "none of that name on this node")
        if request.namespace is None:
            raise NamespaceMissing(request.netns)
        check_prev(attached, request)
        plan = adding.plan_of(self._as_said(attached.place, request), network.bridge_name, request.namespace.fd)
        await check(self._parts.kernel, msgspec.structs.replace(plan, mtu=0, namespace_path=request.netns))

    def _as_said(self, place: Place, request: CniRequest) -> Place:
        """Plugins behind us may have changed the MAC: what the last of them said counts."""
        interfaces = request.prev.interfaces if request.prev else ()
        mac = next((each.mac for each in interfaces if each.sandbox and each.name == request.ifname and each.mac), place.owned.mac)
        return msgspec.structs.replace(place, owned=msgspec.structs.replace(place.owned, mac=mac))

    # --- GC and STATUS ---

    async def gc(self, request: CniRequest) -> None:
        """Free all of the network that the list lacks; None is no statement and frees nothing. Goes on after a failure and tells all.

        What began after the call came in is left: the list knows nothing of it. Raises KernelRefused."""
        if request.valid is None:
            return
        names = {links.host_name(request.network, *pair) for pair in request.valid}
        before = [(key, each) for key, each in self._holdings.state.attachments.items() if key[0] == request.network]
        failures = []
        for key, attached in before:
            if (key[1], key[2]) not in request.valid:
                failures += await self._collect(key, attached)
        failures += self._collect_strays(request.network, names)
        if failures:
            raise KernelRefused("free what the runtime does not know", 0, "; ".join(failures))

    async def _collect(self, key: Key, attached: Attached) -> list[str]:
        async with self._parts.turns.of(key):
            if self._holdings.get(key) is not attached or attached.stage is not Stage.DONE:
                return []
            try:
                self._leaving.leave(key, "GC")
            except FabricError as error:
                return [f"container {key[1]} {key[2]}: {sentence(error)}"]
        return []

    def _collect_strays(self, network: str, valid: Iterable[str]) -> list[str]:
        """Links of the network that neither list nor journal knows."""
        kept = {*valid, *(host_end(key, each.place.owned.host_interface) for key, each in self._holdings.state.attachments.items())}
        failures = []
        for each in survey(self._parts.kernel):
            if each.reaping or each.origin is None or each.origin.network != network_label(network) or each.link.name in kept:
                continue
            try:
                self._leaving.cut_stray(each.link.name)
            except FabricError as error:
                failures.append(f"link {each.link.name}: {sentence(error)}")
        return failures

    async def status(self, request: CniRequest) -> None:
        """Whether the next ADD would succeed. Raises AgentNotReady (50), RunningPodsSuffer (51)."""
        await self._parts.readiness.require(request.network)


def check_prev(attached: Attached, request: CniRequest) -> None:
    """Our addresses stand in prevResult, and the namespace is the one that ADD saw. Raises CheckFailed."""
    there = {ip.address for ip in request.prev.ips} if request.prev else set()
    ours = adding.addresses_of(attached.place)
    for address in ours:
        if address not in there:
            raise CheckFailed("prevResult", f"address {address}, which this attachment holds", ", ".join(map(str, there)) or "no address")
    seen = attached.place.namespace
    namespace = request.namespace
    if namespace is not None and seen not in ((0, 0), (namespace.device, namespace.inode)):
        raise CheckFailed("namespace", f"the one of ADD (inode {seen[1]})", f"another (inode {namespace.inode})")
