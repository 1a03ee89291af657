"""A node's share of each network: bridge, gateway addresses, routes and nftables table, made, compared and mended."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from errno import EEXIST, EHOSTUNREACH, EINVAL, ENETUNREACH
from functools import cached_property
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from fabricmgr.agent.links import Kernel, guarded_ports
from fabricmgr.agent.survey import Surveyed, survey
from fabricmgr.domain.errors import KernelRefused
from fabricmgr.netlink import nft, nft_rules, sysctl
from fabricmgr.netlink.links import (
    Link,
    add_address,
    addresses,
    all_links,
    create_bridge,
    delete_address,
    delete_link,
    link_named,
    set_link,
)
from fabricmgr.netlink.routes import PROTOCOL, Route, lay, routes, withdraw

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

_GATEWAYS = (IPv4Interface("169.254.1.1/32"), IPv6Interface("fe80::1/64"))
_NOT_ADJACENT = frozenset((ENETUNREACH, EHOSTUNREACH, EINVAL))


@dataclass(frozen=True)
class RemoteRoute:
    """Another node's block, or a central address that lives there; via: an address of that node, on a segment of ours."""

    prefix: Prefix
    via: Address


@dataclass(frozen=True)
class NetworkPlan:
    """A network as this node shall have it.

    bridge: "" for the name made from the network's. sources: prefixes of its pools. direct: reached unmasqueraded beside them.
    blocks: held by this node. local: central addresses that live here. remote: laid with `host_gw` (routing: none leaves routes alone).
    node_addresses: of this node; the first of each family is the source of what the node itself sends to its pods."""

    name: str
    sources: tuple[Prefix, ...]
    mtu: int = 1500
    bridge: str = ""
    masquerade: bool = False
    direct: tuple[Prefix, ...] = ()
    blocks: tuple[Prefix, ...] = ()
    local: tuple[Address, ...] = ()
    host_gw: bool = True
    remote: tuple[RemoteRoute, ...] = ()
    node_addresses: tuple[Address, ...] = ()

    @cached_property
    def bridge_name(self) -> str:
        return self.bridge or bridge_name(self.name)

    @property
    def gateways(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """Of the families it has: a node may lack the other one."""
        versions = {prefix.version for prefix in self.sources}
        return tuple(gateway for gateway in _GATEWAYS if gateway.version in versions)

    @cached_property
    def bridge_mac(self) -> str:
        """The same as long as the network lives: pods keep it in their neighbour entries."""
        return (b"\x0a\x59" + sha256(self.name.encode()).digest()[:4]).hex(":")

    @property
    def bridge_alias(self) -> str:
        """On a bridge that we made."""
        return f"fabricmgr bridge {nft_rules.network_label(self.name)}"

    @property
    def table(self) -> nft.Table:
        return nft_rules.network_table(self.name, self.bridge_name, self.sources, self.direct, self.masquerade)


@dataclass(frozen=True)
class NotAdjacent:
    """A next hop that is on no segment of ours: the route was not laid."""

    network: str
    prefix: Prefix
    via: Address


@dataclass(frozen=True)
class Ensured:
    """What was otherwise and has been mended, in sentences; and what could not be laid."""

    mended: tuple[str, ...]
    not_adjacent: tuple[NotAdjacent, ...] = ()


def bridge_name(network: str) -> str:
    """`fm-` and the network's name, or a digest of one that is too long for an interface (15 bytes)."""
    plain = f"fm-{network}"
    return plain if len(plain) <= 15 else f"fm-{sha256(network.encode()).hexdigest()[:12]}"


def reconcile(kernel: Kernel, plans: Sequence[NetworkPlan]) -> Ensured:
    """Make every network of this node so, and withdraw routes of ours that none of them wants any more. Changes nothing where all is well.

    plans: all of them. Networks taken out of the list keep bridge and table until `remove`. Raises KernelRefused."""
    seen = survey(kernel)
    done = [ensure(kernel, plan, seen) for plan in plans]
    mended = [sentence for each in done for sentence in each.mended] + _withdraw_unwanted(kernel, plans, seen)
    return Ensured(tuple(mended), tuple(hop for each in done for hop in each.not_adjacent))


def ensure(kernel: Kernel, plan: NetworkPlan, seen: Sequence[Surveyed] | None = None) -> Ensured:
    """Make one network so; a second time changes nothing. Raises KernelRefused."""
    bridge, mended = _ensure_bridge(kernel, plan)
    surveyed = survey(kernel) if seen is None else seen
    mended += _ensure_forwarding(plan)
    mended += _ensure_tables(kernel, plan, surveyed)
    laid, far = _ensure_routes(kernel, plan, bridge, surveyed)
    return Ensured(tuple(mended + laid), tuple(far))


def remove(kernel: Kernel, plan: NetworkPlan) -> None:
    """Take away what `ensure` made: routes, tables, gateway addresses, and the bridge if we made it and no port is on it.

    Raises KernelRefused."""
    bridge = link_named(kernel.route, plan.bridge_name)
    ours = {route.prefix for route in _wanted(plan, bridge.index if bridge else 0, ())}
    for route in routes(kernel.route, protocol=PROTOCOL):
        if route.prefix in ours:
            withdraw(kernel.route, route)
    for family in (nft.INET, nft.BRIDGE):
        nft.delete(kernel.netfilter, family, nft_rules.table_name(plan.name))
    if bridge is None:
        return
    if bridge.alias == plan.bridge_alias and not all_links(kernel.route, master=bridge.index):
        delete_link(kernel.route, bridge.name)
        return
    for gateway in plan.gateways:
        delete_address(kernel.route, bridge, gateway)


# --- the bridge ----------------------------------------------------------------------------------------------------------------


def _ensure_bridge(kernel: Kernel, plan: NetworkPlan) -> tuple[Link, list[str]]:
    mended = []
    bridge = link_named(kernel.route, plan.bridge_name)
    if bridge is None:
        create_bridge(kernel.route, plan.bridge_name, plan.bridge_mac, plan.mtu, plan.bridge_alias)
        mended.append(f"bridge {plan.bridge_name} was missing")
        bridge = link_named(kernel.route, plan.bridge_name)
    if bridge is None or bridge.kind != "bridge":
        raise KernelRefused(f"make bridge {plan.bridge_name}", EINVAL, "a link of that name is no bridge")
    mended += _ensure_bridge_settings(kernel, plan, bridge)
    there = {interface for _, interface in addresses(kernel.route, bridge.index)}
    for gateway in plan.gateways:
        if gateway not in there:
            if gateway.version == 6:
                sysctl.ensure("0", "ipv6", "conf", bridge.name, "disable_ipv6")
            add_address(kernel.route, bridge, gateway)
            mended.append(f"gateway {gateway.ip} was missing on {bridge.name}")
    return bridge, mended


def _ensure_bridge_settings(kernel: Kernel, plan: NetworkPlan, bridge: Link) -> list[str]:
    """MAC and MTU are set outright: a bridge without takes its ports' lowest, and changes under every pod.

    Of a bridge that we found, and did not make, the MAC stays what it is, and the MTU is never lowered."""
    mended = []
    ours = bridge.alias == plan.bridge_alias
    mac = plan.bridge_mac if ours else bridge.mac
    if bridge.mtu < plan.mtu or (ours and bridge.mtu != plan.mtu):
        set_link(kernel.route, bridge, f"set the MTU of {bridge.name} to {plan.mtu}", mtu=plan.mtu)
        mended.append(f"MTU of {bridge.name} was {bridge.mtu}, is {plan.mtu}")
    if bridge.mac != mac or not ours:
        set_link(kernel.route, bridge, f"set the MAC of {bridge.name}", mac=mac)
    if bridge.mac != mac:
        mended.append(f"MAC of {bridge.name} was {bridge.mac}, is {mac}")
    if not bridge.up:
        set_link(kernel.route, bridge, f"take {bridge.name} up", up=True)
        mended.append(f"{bridge.name} was down")
    return mended


def _ensure_forwarding(plan: NetworkPlan) -> list[str]:
    """A node that carries pods routes, in both families it has.

    With IPv6 forwarding a node stops listening to router advertisements, and loses a default route it has from them: links that
    listen are told to go on first."""
    mended = []
    if sysctl.ensure("1", "ipv4", "ip_forward"):
        mended.append("IPv4 forwarding was off")
    wants = any(prefix.version == 6 for prefix in plan.sources)
    if wants and sysctl.read("ipv6", "conf", "all", "forwarding") == "0":
        for link in sysctl.names("ipv6", "conf"):
            if link != "all" and sysctl.read("ipv6", "conf", link, "accept_ra") == "1":
                sysctl.ensure("2", "ipv6", "conf", link, "accept_ra")
        sysctl.ensure("1", "ipv6", "conf", "all", "forwarding")
        mended.append("IPv6 forwarding was off")
    versions = ("ipv4", "ipv6") if wants else ("ipv4",)
    off = [version for version in versions if sysctl.ensure("1", version, "conf", plan.bridge_name, "forwarding")]
    return mended + [f"{version} forwarding of {plan.bridge_name} was off" for version in off]


def _ensure_tables(kernel: Kernel, plan: NetworkPlan, surveyed: Sequence[Surveyed]) -> list[str]:
    wanted = [plan.table]
    if guarded := guarded_ports([each.link for each in surveyed], plan.name):
        wanted.append(nft_rules.guard_table(plan.name, guarded))
    elif nft_rules.table_name(plan.name) in nft.tables(kernel.netfilter, nft.BRIDGE):
        nft.delete(kernel.netfilter, nft.BRIDGE, nft_rules.table_name(plan.name))
    mended = []
    for table in wanted:
        if otherwise := nft.difference(kernel.netfilter, table):
            nft.write(kernel.netfilter, table)
            mended.append(otherwise)
    return mended


# --- routes --------------------------------------------------------------------------------------------------------------------


def _ensure_routes(kernel: Kernel, plan: NetworkPlan, bridge: Link, surveyed: Sequence[Surveyed]) -> tuple[list[str], list[NotAdjacent]]:
    there = {route.prefix: route for route in routes(kernel.route, protocol=PROTOCOL)}
    mended, far = [], []
    for route in _wanted(plan, bridge.index, _narrow(plan, bridge.index, surveyed)):
        if route.prefix in there and route.same(there[route.prefix]):
            continue
        try:
            lay(kernel.route, route, replace=route.prefix in there)
        except KernelRefused as refused:
            if refused.errno == EEXIST:
                continue  # Somebody else's, and left alone; `host` names it.
            if route.via is None or refused.errno not in _NOT_ADJACENT:
                raise
            far.append(NotAdjacent(plan.name, route.prefix, route.via))
        else:
            mended.append(f"route to {route.prefix} " + ("led elsewhere" if route.prefix in there else "was missing"))
    return mended, far


def wanted_prefixes(plan: NetworkPlan) -> list[Prefix]:
    """Where routes of ours shall lead to, for this network."""
    return [route.prefix for route in _wanted(plan, 0, ())]


def _wanted(plan: NetworkPlan, bridge: int, narrow: Iterable[Route]) -> list[Route]:
    """Link routes for what lives here, next hops for the rest. A host route with an MTU takes the place of a plain one."""
    source = {address.version: address for address in reversed(plan.node_addresses)}
    here = [*plan.blocks, *(_host_prefix(address) for address in plan.local)]
    wanted = {prefix: Route(prefix, bridge, source=source.get(prefix.version)) for prefix in here}
    wanted |= {route.prefix: route for route in narrow}
    if plan.host_gw:
        wanted |= {remote.prefix: Route(remote.prefix, via=remote.via) for remote in plan.remote}
    return list(wanted.values())


def _narrow(plan: NetworkPlan, bridge: int, surveyed: Sequence[Surveyed]) -> list[Route]:
    """Host routes to pods whose links carry less than the bridge: made before the network's MTU was raised.

    The bridge itself would drop what is too long for a port without a word; the route makes the kernel answer "fragmentation needed"."""
    source = {address.version: address for address in reversed(plan.node_addresses)}
    return [
        Route(_host_prefix(address), bridge, source=source.get(address.version), mtu=each.link.mtu)
        for each in surveyed
        if each.origin is not None and each.link.master == bridge and each.link.mtu < plan.mtu
        for address in each.origin.addresses
    ]


def _withdraw_unwanted(kernel: Kernel, plans: Sequence[NetworkPlan], surveyed: Sequence[Surveyed]) -> list[str]:
    """Routes with our protocol number alone. Where one network leaves routes alone (routing: none), its remote ones are withdrawn too."""
    wanted: set[Prefix] = set()
    for plan in plans:
        bridge = link_named(kernel.route, plan.bridge_name)
        index = bridge.index if bridge else 0
        wanted.update(route.prefix for route in _wanted(plan, index, _narrow(plan, index, surveyed)))
    unwanted = [route for route in routes(kernel.route, protocol=PROTOCOL) if route.prefix not in wanted]
    for route in unwanted:
        withdraw(kernel.route, route)
    return [f"route to {route.prefix} was wanted no longer" for route in unwanted]


def _host_prefix(address: Address) -> Prefix:
    return IPv4Network((int(address), 32)) if isinstance(address, IPv4Address) else IPv6Network((int(address), 128))
