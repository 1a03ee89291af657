"""The host around us: what it does that keeps pods from each other, as findings with a remedy.

What can be mended without touching what is somebody else's is mended by `networks`; here stands what is left, and one thing that is done
only when asked: an accept for our bridges in the very chain that drops.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from fabricmgr.agent.links import LIVE, REAP, Kernel
from fabricmgr.agent.networks import NetworkPlan, NotAdjacent, wanted_prefixes
from fabricmgr.netlink import legacy, nft, sysctl
from fabricmgr.netlink.links import Link, addresses, all_links
from fabricmgr.netlink.nft_rules import accept_bridge
from fabricmgr.netlink.routes import PROTOCOL, routes

Address = IPv4Address | IPv6Address
ACCEPT_SETTING = "accept_forward"
_COMMENT = "fabricmgr"
_QUIET = frozenset(("counter", "log", "limit"))
_CONFIGURATIONS = (".conf", ".conflist", ".json")


class Severity(Enum):
    """FAULT: pods do not reach what they should. RISK: they may not, or only some."""

    FAULT = "fault"
    RISK = "risk"


@dataclass(frozen=True)
class Finding:
    """subject: a stable word for metrics and tests. sentence: what is. remedy: what a person can do."""

    severity: Severity
    subject: str
    sentence: str
    remedy: str


def findings(
    kernel: Kernel, plans: Sequence[NetworkPlan], far: Iterable[NotAdjacent] = (), cni_directory: Path | None = None, own_file: str = ""
) -> list[Finding]:
    """All that is wrong around us now, worst first. far: what `networks` could not lay. Raises KernelRefused."""
    found = [*forward_drops(kernel, plans), *forwarding_off(plans), *bridge_filters(kernel, plans), *reverse_path(kernel, plans)]
    found += [*routes_in_the_way(kernel, plans), *narrow_uplinks(kernel, plans), *map(_say_far, far)]
    if cni_directory is not None:
        found += earlier_files(cni_directory, own_file)
    return sorted(found, key=lambda finding: finding.severity is Severity.RISK)


# --- a drop in a forward chain ---------------------------------------------------------------------------------------------------


def forward_drops(kernel: Kernel, plans: Sequence[NetworkPlan]) -> list[Finding]:
    """Base chains on the forward hook that drop what they do not know: a drop in any is final, an accept in our table is no help."""
    found = []
    for chain, how in _dropping(kernel):
        table = f"{nft.FAMILY_NAMES[chain.family]} {chain.table}"
        found += [_say_drop(table, chain.name, how, plan) for plan in _stopped(kernel, chain, plans)]
    for version in legacy.dropping_versions():
        # Its rules are not ours to read: only where the policy decides is known.
        table = f"{'iptables' if version == 4 else 'ip6tables'}-legacy filter"
        found += [
            _say_drop(table, "FORWARD", "policy drop", plan) for plan in plans if _concerns({4: nft.IPV4, 6: nft.IPV6}[version], plan)
        ]
    return found


def accept_in_dropping_chains(kernel: Kernel, plans: Sequence[NetworkPlan]) -> list[str]:
    """Put an accept for each bridge at the head of every chain that drops; says where. There already: nothing. Raises KernelRefused."""
    placed = []
    for chain, _ in _dropping(kernel):
        for plan in _stopped(kernel, chain, plans):
            nft.insert_rule(kernel.netfilter, chain, accept_bridge(plan.bridge_name), _COMMENT)
            placed.append(f"accept for {plan.bridge_name} in {nft.FAMILY_NAMES[chain.family]} {chain.table} {chain.name}")
    return placed


def withdraw_accepts(kernel: Kernel) -> list[str]:
    """Take every accept of ours out of other people's chains; says where. Raises KernelRefused."""
    taken = []
    for chain in _forward_chains(kernel):
        handles = [rule.handle for rule in nft.rules(kernel.netfilter, chain) if rule.comment == _COMMENT]
        if handles:
            nft.delete_rules(kernel.netfilter, chain, handles)
            taken.append(f"{nft.FAMILY_NAMES[chain.family]} {chain.table} {chain.name}")
    return taken


def _forward_chains(kernel: Kernel) -> list[nft.SeenChain]:
    return [chain for chain in nft.chains(kernel.netfilter) if chain.hook == nft.FORWARD and chain.family in nft.FAMILY_NAMES]


def _dropping(kernel: Kernel) -> list[tuple[nft.SeenChain, str]]:
    """Chains whose policy is drop, or whose last rule drops or rejects whatever comes."""
    found = []
    for chain in _forward_chains(kernel):
        if chain.family == nft.BRIDGE:
            continue
        if chain.policy == nft.DROP:
            found.append((chain, "policy drop"))
        elif (rules := nft.rules(kernel.netfilter, chain)) and _drops_all(rules[-1].rule):
            found.append((chain, "a last rule that drops all"))
    return found


def _drops_all(rule: nft.Rule) -> bool:
    loud = [each for each in rule if each[0] not in _QUIET]
    if len(loud) != 1:
        return False
    return loud[0][0] == "reject" or nft.verdict_of(loud[0]) == nft.DROP


def _stopped(kernel: Kernel, chain: nft.SeenChain, plans: Sequence[NetworkPlan]) -> list[NetworkPlan]:
    return [plan for plan in plans if _concerns(chain.family, plan) and not _lets_through(kernel, chain, plan.bridge_name)]


def _lets_through(kernel: Kernel, chain: nft.SeenChain, bridge: str) -> bool:
    """Whether the chain accepts by the bridge's name in both directions, whoever wrote that."""
    there = {nft.essence(rule.rule) for rule in nft.rules(kernel.netfilter, chain)}
    return there.issuperset(map(nft.essence, accept_bridge(bridge)))


def _concerns(family: int, plan: NetworkPlan) -> bool:
    versions = {prefix.version for prefix in plan.sources}
    return family == nft.INET or (family == nft.IPV4 and 4 in versions) or (family == nft.IPV6 and 6 in versions)


def _say_drop(table: str, chain: str, how: str, plan: NetworkPlan) -> Finding:
    return Finding(
        Severity.FAULT,
        "forward-drop",
        f"chain {chain} of table {table} drops what pods of network {plan.name} send and receive ({how})",
        f"set {ACCEPT_SETTING} to let the agent accept bridge {plan.bridge_name} there, or accept it in that chain yourself",
    )


# --- sysctls, MTU, next hops, files ------------------------------------------------------------------------------------------------


def forwarding_off(plans: Sequence[NetworkPlan]) -> list[Finding]:
    """Forwarding that somebody switched off again."""
    versions = {prefix.version for plan in plans for prefix in plan.sources}
    off = [("ipv4", "ip_forward")] if 4 in versions and sysctl.read("ipv4", "ip_forward") == "0" else []
    off += [("ipv6", "conf.all.forwarding")] if 6 in versions and sysctl.read("ipv6", "conf", "all", "forwarding") == "0" else []
    return [
        Finding(Severity.FAULT, "forwarding-off", f"net.{family}.{name} is 0: this node forwards nothing", f"set net.{family}.{name}=1")
        for family, name in off
    ]


def bridge_filters(kernel: Kernel, plans: Sequence[NetworkPlan]) -> list[Finding]:
    """bridge-nf-call-iptables: frames between pods of one bridge pass the forward chains too. Harmless until one of those drops."""
    names = {4: "bridge-nf-call-iptables", 6: "bridge-nf-call-ip6tables"}
    versions = sorted({prefix.version for plan in plans for prefix in plan.sources})
    on = [names[version] for version in versions if sysctl.read("bridge", names[version]) == "1"]
    if not on or not forward_drops(kernel, plans):
        return []
    said = f"net.bridge.{on[0]} is 1 and a forward chain drops: pods on one bridge may not reach each other either"
    return [Finding(Severity.RISK, "bridge-filter", said, f"accept our bridges in that chain, or set net.bridge.{on[0]}=0")]


def reverse_path(kernel: Kernel, plans: Sequence[NetworkPlan]) -> list[Finding]:
    """Strict reverse path filtering drops what comes by another link than its answer would leave by (RFC 3704 section 2.2).

    Only where routes are not ours to lay and there is more than one way in. The larger of `all` and the link's own value counts."""
    every = int(sysctl.read("ipv4", "conf", "all", "rp_filter") or 0)
    uplinks = sorted({link.name for plan in plans if not plan.host_gw for link in _uplinks(kernel, plan, version=4)})
    strict = [name for name in uplinks if max(every, int(sysctl.read("ipv4", "conf", name, "rp_filter") or 0)) == 1]
    if len(uplinks) < 2:
        return []
    said = "net.ipv4.conf.{}.rp_filter is strict: packets of other nodes' pods that come by it and are answered by another link are dropped"
    return [
        Finding(Severity.RISK, "reverse-path", said.format(name), f"set net.ipv4.conf.{name}.rp_filter=2 (and .all to 0 or 2)")
        for name in strict
    ]


def routes_in_the_way(kernel: Kernel, plans: Sequence[NetworkPlan]) -> list[Finding]:
    """Somebody else's routes to prefixes that are ours: left alone, and named."""
    ours = {route.prefix for route in routes(kernel.route, protocol=PROTOCOL)}
    foreign = {route.prefix for route in routes(kernel.route)} - ours
    return [
        Finding(
            Severity.FAULT,
            "foreign-route",
            f"a route to {prefix} that is not ours keeps this node from reaching pods of network {plan.name}",
            f"remove it (ip route show {prefix}); the agent lays its own then",
        )
        for plan in plans
        for prefix in wanted_prefixes(plan)
        if prefix in foreign
    ]


def narrow_uplinks(kernel: Kernel, plans: Sequence[NetworkPlan]) -> list[Finding]:
    """Links to other nodes that carry less than a network's MTU."""
    found = []
    for plan in plans:
        if plan.remote and plan.host_gw:
            found += [_say_narrow(plan, link) for link in _uplinks(kernel, plan) if link.mtu < plan.mtu]
    return found


def _uplinks(kernel: Kernel, plan: NetworkPlan, version: int = 0) -> list[Link]:
    """Links that carry an address of this node, by name; the loopback is none."""
    wanted = {address for address in plan.node_addresses if version in (0, address.version)}
    indices = {index for index, interface in addresses(kernel.route) if interface.ip in wanted}
    return sorted(
        (link for link in all_links(kernel.route, but=(LIVE, REAP)) if link.index in indices and link.name != "lo"),
        key=lambda link: link.name,
    )


def _say_narrow(plan: NetworkPlan, link: Link) -> Finding:
    said = f"network {plan.name} has an MTU of {plan.mtu}, the uplink {link.name} of {link.mtu}: larger packets to other nodes are refused"
    return Finding(Severity.RISK, "narrow-uplink", said, f"raise the MTU of {link.name}, or lower the network's to {link.mtu}")


def _say_far(hop: NotAdjacent) -> Finding:
    said = f"next hop {hop.via} for {hop.prefix} of network {hop.network} is not on a segment of this node: its pods can't be reached"
    return Finding(
        Severity.FAULT, "not-adjacent", said, "set the network's routing to none and route the pods' prefixes yourself, or use BGP"
    )


def earlier_files(directory: Path, own_file: str) -> list[Finding]:
    """Configurations that the runtime takes before ours: it uses the first by name."""
    try:
        names = sorted(entry.name for entry in directory.iterdir() if entry.suffix in _CONFIGURATIONS)
    except OSError as refused:
        return [Finding(Severity.FAULT, "cni-directory", f"{directory} cannot be read: {refused.strerror}", "create it, or name another")]
    first = next((name for name in names if name < own_file), None)
    if first is None:
        return []
    said = f"the runtime uses {directory / first}, which sorts before {own_file}: new pods are not on our networks"
    return [Finding(Severity.FAULT, "earlier-file", said, f"remove {first}, or give ours a name that sorts before it")]
