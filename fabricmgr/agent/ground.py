"""The ground a node's pods stand on: bridges, routes and tables of its networks, as the desired state and what the node holds want them."""

import logging
from collections.abc import Iterable
from errno import EEXIST
from ipaddress import ip_interface, ip_network
from pathlib import Path

from fabricmgr.agent import host, networks
from fabricmgr.agent.holdings import Holdings
from fabricmgr.agent.links import LIVE, REAP, Kernel
from fabricmgr.agent.networks import NetworkPlan, NotAdjacent, RemoteRoute
from fabricmgr.domain.addresses import Address, Prefix, parse_address, parse_prefix
from fabricmgr.domain.errors import KernelRefused
from fabricmgr.loop import Outcome
from fabricmgr.netlink.links import addresses, all_links, link_named
from fabricmgr.netlink.routes import Route, lay
from fabricmgr.problems import sentence
from fabricmgr.wire import Desired, Interface, NetworkSpec, Routing

log = logging.getLogger(__name__)


class Ground:
    """Makes and mends it. troubles: networks that the last pass could not make. far: next hops on no segment of ours."""

    def __init__(self, kernel: Kernel, holdings: Holdings, accept_forward: bool):
        self.troubles: dict[str, KernelRefused] = {}
        self.far: tuple[NotAdjacent, ...] = ()
        self._kernel = kernel
        self._holdings = holdings
        self._accept_forward = accept_forward
        self._made: dict[str, NetworkPlan] = {}
        self._withdrawn = False

    def spec(self, network: str) -> NetworkSpec | None:
        """What the manager says of a network of this cluster."""
        desired = self._holdings.state.desired
        return next((each for each in desired.networks if each.name == network), None) if desired else None

    def plans(self) -> list[NetworkPlan]:
        """Every network as this node shall have it now."""
        desired = self._holdings.state.desired
        own = node_addresses(self._kernel, self.bridges())
        return [self._plan(spec, desired, own) for spec in desired.networks] if desired else []

    def plan(self, network: str) -> NetworkPlan | None:
        """One network as it was made; None for one that was not."""
        return self._made.get(network)

    def _plan(self, spec: NetworkSpec, desired: Desired, own: tuple[Address, ...]) -> NetworkPlan:
        places = [each.place for key, each in self._holdings.state.attachments.items() if key[0] == spec.name]
        return NetworkPlan(
            name=spec.name,
            sources=tuple(map(parse_prefix, spec.prefixes)),
            mtu=spec.mtu,
            bridge=spec.bridge or next((place.bridge for place in places if place.bridge), ""),
            masquerade=spec.masquerade or any(place.masquerade for place in places),
            direct=tuple(map(parse_prefix, spec.direct)),
            blocks=self._blocks(spec),
            local=tuple(
                parse_address(each.address) for place in places for each in place.owned.addresses if each.block is None and each.address
            ),
            host_gw=spec.routing is Routing.HOST_GW,
            remote=tuple(RemoteRoute(parse_prefix(r.prefix), parse_address(r.via)) for r in desired.routes if r.network == spec.name),
            node_addresses=own,
        )

    def _blocks(self, spec: NetworkSpec) -> tuple[Prefix, ...]:
        blocks = self._holdings.state.blocks.values()
        return tuple(parse_prefix(each.prefix) for each in blocks if each.pool in spec.pools and each.state != "claiming")

    def bridges(self) -> set[str]:
        """Names of the bridges that are ours, wanted or made."""
        desired = self._holdings.state.desired
        wanted = {spec.bridge or networks.bridge_name(spec.name) for spec in desired.networks} if desired else set()
        return wanted | {plan.bridge_name for plan in self._made.values()}

    @property
    def trouble(self) -> str:
        """Why networks could not be made, or ""."""
        return "; ".join(f"network {name}: {sentence(error)}" for name, error in self.troubles.items())

    # --- making ---

    def make(self) -> str:
        """Make all networks so; says what was mended. Before the networks are known nothing is touched.

        Raises KernelRefused for the first network that could not be made; the others are."""
        if self._holdings.state.desired is None:
            return "no networks are known yet"
        plans = [*self.plans(), *self._outlived()]
        good, mended = self._reconcile(plans)
        self._made = {plan.name: plan for plan in [*self._still(plans), *good]}
        self._see_to_foreign_chains(good)
        if mended:
            log.info("network made so", extra={"mended": mended})
        if self.troubles:
            raise next(iter(self.troubles.values()))
        return f"{len(plans)} networks are as desired; mended {len(mended)}"

    def _reconcile(self, plans: list[NetworkPlan]) -> tuple[list[NetworkPlan], list[str]]:
        """The networks that are as planned, and what was mended."""
        self.troubles = {}
        try:
            whole = networks.reconcile(self._kernel, plans)
        except KernelRefused:
            return self._one_by_one(plans)
        self.far = whole.not_adjacent
        return plans, list(whole.mended)

    def _one_by_one(self, plans: list[NetworkPlan]) -> tuple[list[NetworkPlan], list[str]]:
        """One network that cannot be made must not keep the others from it."""
        good: list[NetworkPlan] = []
        mended: list[str] = []
        for plan in plans:
            try:
                mended += networks.ensure(self._kernel, plan).mended
            except KernelRefused as error:
                self.troubles[plan.name] = error
            else:
                good.append(plan)
        return good, mended

    def _still(self, plans: list[NetworkPlan]) -> list[NetworkPlan]:
        """Networks as they were made before; one that is wanted no more goes with its last pod."""
        names = {plan.name for plan in plans}
        for name in set(self._made) - names:
            networks.remove(self._kernel, self._made.pop(name))
        return list(self._made.values())

    def _outlived(self) -> list[NetworkPlan]:
        """Networks that the manager wants no more and that pods are still on."""
        desired = self._holdings.state.desired
        wanted = {spec.name for spec in desired.networks} if desired else set()
        used = {key[0] for key in self._holdings.state.attachments}
        return [plan for name, plan in self._made.items() if name in used - wanted]

    def _see_to_foreign_chains(self, plans: list[NetworkPlan]) -> None:
        """Accepts in chains that drop, where the setting says so; once taken out again where it no longer does."""
        if self._accept_forward:
            host.accept_in_dropping_chains(self._kernel, plans)
        elif not self._withdrawn:
            host.withdraw_accepts(self._kernel)
            self._withdrawn = True

    def remake(self, plan: NetworkPlan) -> NetworkPlan:
        """One network anew, after a pod asked for more of it. Raises KernelRefused."""
        try:
            self.make()
        except KernelRefused:
            if plan.name in self.troubles:
                raise
        return self._made.get(plan.name, plan)

    def lead_to(self, plan: NetworkPlan, addresses: Iterable[Address]) -> None:
        """The routes of central addresses that live here from now on. Raises KernelRefused."""
        bridge = link_named(self._kernel.route, plan.bridge_name)
        for address in addresses:
            source = next((each for each in plan.node_addresses if each.version == address.version), None)
            route = Route(ip_network(address), bridge.index if bridge else 0, source=source)
            try:
                lay(self._kernel.route, route, replace=False)
            except KernelRefused as error:
                if error.errno != EEXIST:
                    raise
                self.remake(plan)

    def widen(self) -> None:
        """After blocks or central addresses changed: routes at once. What fails is mended by the next pass."""
        try:
            self.make()
        except KernelRefused as error:
            log.warning("network could not be made so", extra={"reason": sentence(error)})

    async def once(self) -> Outcome:
        """Compare with the kernel and mend."""
        try:
            return Outcome.done(self.make())
        except KernelRefused as error:
            return Outcome.again(1.0, sentence(error))

    async def apply(self, desired: Desired) -> None:
        """The desired state has changed and is journalled. Raises KernelRefused."""
        del desired
        self.make()

    # --- looking ---

    def findings(self, directory: Path | None, own_file: str) -> list[host.Finding]:
        """What the host around us does wrong. Raises KernelRefused."""
        return host.findings(self._kernel, list(self._made.values()), self.far, directory, own_file)

    def interfaces(self) -> list[Interface]:
        """The node's NICs as the manager is told of them: without loopback, and what this agent made itself."""
        return interfaces(self._kernel, self.bridges())


def interfaces(kernel: Kernel, bridges: set[str]) -> list[Interface]:
    """Links of the node with their global addresses. Raises KernelRefused."""
    found: dict[int, list[str]] = {}
    for index, address in addresses(kernel.route):
        if not address.ip.is_link_local and not address.ip.is_loopback:
            found.setdefault(index, []).append(str(address))
    links = [link for link in all_links(kernel.route, but=(LIVE, REAP)) if link.name != "lo" and link.name not in bridges]
    return [Interface(name=link.name, mac=link.mac, mtu=link.mtu, up=link.up, addresses=found.get(link.index, [])) for link in links]


def node_addresses(kernel: Kernel, bridges: set[str]) -> tuple[Address, ...]:
    """The node's own addresses, as hello tells them."""
    return tuple(ip_interface(text).ip for each in interfaces(kernel, bridges) for text in each.addresses)
