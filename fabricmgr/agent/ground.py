"""The ground a node's pods stand on: bridges, routes and tables of its networks, as the desired state and what the node holds want them."""

import logging
from ipaddress import ip_interface
from pathlib import Path

from fabricmgr.agent import host, networks
from fabricmgr.agent.holdings import Holdings
from fabricmgr.agent.links import LIVE, REAP, Kernel
from fabricmgr.agent.networks import NetworkPlan, NotAdjacent, RemoteRoute
from fabricmgr.domain.addresses import Address, Prefix, parse_address, parse_prefix
from fabricmgr.domain.errors import KernelRefused
from fabricmgr.loop import Outcome
from fabricmgr.netlink.links import addresses, all_links
from fabricmgr.problems import sentence
from fabricmgr.wire import Desired, Interface, NetworkSpec, Routing

log = logging.getLogger(__name__)


class Ground:
    """Makes and mends it. trouble: why the last pass failed, "" when it did not. far: next hops on no segment of ours."""

    def __init__(self, kernel: Kernel, holdings: Holdings, accept_forward: bool):
        self.trouble = "the networks were not made yet"
        self.far: tuple[NotAdjacent, ...] = ()
        self._kernel = kernel
        self._holdings = holdings
        self._accept_forward = accept_forward
        self._made: dict[str, NetworkPlan] = {}

    def spec(self, network: str) -> NetworkSpec | None:
        """What the manager says of a network of this cluster."""
        desired = self._holdings.state.desired
        return next((each for each in desired.networks if each.name == network), None) if desired else None

    def plans(self) -> list[NetworkPlan]:
        """Every network as this node shall have it now."""
        desired = self._holdings.state.desired
        own = node_addresses(self._kernel, self._bridges())
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

    def _bridges(self) -> set[str]:
        desired = self._holdings.state.desired
        wanted = {spec.bridge or networks.bridge_name(spec.name) for spec in desired.networks} if desired else set()
        return wanted | {plan.bridge_name for plan in self._made.values()}

    # --- making ---

    def make(self) -> str:
        """Make all networks so; says what was mended. Before the networks are known nothing is touched. Raises KernelRefused."""
        if self._holdings.state.desired is None:
            return "no networks are known yet"
        plans = self.plans()
        try:
            done = networks.reconcile(self._kernel, plans)
            self._remove_others(plans)
            if self._accept_forward:
                host.accept_in_dropping_chains(self._kernel, plans)
        except KernelRefused as error:
            self.trouble = sentence(error)
            raise
        self._made = {plan.name: plan for plan in plans}
        self.trouble, self.far = "", done.not_adjacent
        if done.mended:
            log.info("network made so", extra={"mended": list(done.mended)})
        return f"{len(plans)} networks are as desired; mended {len(done.mended)}"

    def _remove_others(self, plans: list[NetworkPlan]) -> None:
        """A network that is wanted no more goes with its last pod."""
        used = {key[0] for key in self._holdings.state.attachments}
        for name in set(self._made) - {plan.name for plan in plans} - used:
            networks.remove(self._kernel, self._made.pop(name))

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
        return interfaces(self._kernel, self._bridges())


def interfaces(kernel: Kernel, bridges: set[str]) -> list[Interface]:
    """Links of the node with their global addresses. Raises KernelRefused."""
    found: dict[int, list[str]] = {}
    for index, address in addresses(kernel.route):
        if not address.ip.is_link_local and not address.ip.is_loopback:
            found.setdefault(index, []).append(str(address))
    links = [link for link in all_links(kernel.route) if link.name != "lo" and link.name not in bridges]
    return [
        Interface(name=link.name, mac=link.mac, mtu=link.mtu, up=link.up, addresses=found.get(link.index, []))
        for link in links
        if link.group not in (LIVE, REAP)
    ]


def node_addresses(kernel: Kernel, bridges: set[str]) -> tuple[Address, ...]:
    """The node's own addresses, as hello tells them."""
    return tuple(ip_interface(text).ip for each in interfaces(kernel, bridges) for text in each.addresses)
