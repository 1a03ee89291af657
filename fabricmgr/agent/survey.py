"""What the kernel shows of our attachments: all of them at start, and one of them for CHECK."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property, partial

from fabricmgr.agent.alias import Origin, parse_alias
from fabricmgr.agent.links import GATEWAY, LIVE, REAP, AttachPlan, Kernel
from fabricmgr.domain.errors import CheckFailed
from fabricmgr.netlink import nft, nft_rules, routes
from fabricmgr.netlink.links import Link, addresses, all_links, link_named
from fabricmgr.netlink.sockets import ROUTE, NetlinkSocket

# Things still settle after an ADD, and while the agent mends: CHECK looks this often, this many seconds apart.
_LOOKS, _BETWEEN_LOOKS = 11, 0.05


@dataclass(frozen=True)
class Surveyed:
    """A link of one of our groups."""

    link: Link

    @cached_property
    def origin(self) -> Origin | None:
        """None when the alias is not ours to read. Most passes want it of no link, so it is read when asked for."""
        return parse_alias(self.link.alias)

    @property
    def reaping(self) -> bool:
        return self.link.group == REAP


def survey(kernel: Kernel) -> list[Surveyed]:
    """Every link of our groups, for the comparison with the journal at start and later. Raises KernelRefused."""
    return [Surveyed(link) for link in all_links(kernel.route) if link.group in (LIVE, REAP)]


async def check(kernel: Kernel, plan: AttachPlan, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Raises CheckFailed with what has been otherwise for 500 ms. Raises KernelRefused."""
    difference = look(kernel, plan)
    for _ in range(_LOOKS - 1):
        if difference is None:
            return
        await sleep(_BETWEEN_LOOKS)
        difference = look(kernel, plan)
    if difference is not None:
        raise difference


def look(kernel: Kernel, plan: AttachPlan) -> CheckFailed | None:
    """The first thing that is otherwise than the plan says, now. More addresses or routes are fine, less is not.

    In this plan an mtu of 0 stands for any, since later plugins may have changed it. Raises KernelRefused."""
    host = link_named(kernel.route, plan.host_name)
    bridge = link_named(kernel.route, plan.bridge)
    if host is None:
        return CheckFailed(f"host end of {plan.ifname}", plan.host_name, "no such link")
    if bridge is None:
        return CheckFailed("bridge", plan.bridge, "no such link")
    return (
        _differs("bridge of " + host.name, plan.bridge, bridge.name if host.master == bridge.index else f"ifindex {host.master}")
        or _differs(f"state of {host.name}", "up", "up" if host.up else "down")
        or _look_at_bridge(kernel, plan, bridge)
        or _look_at_guard(kernel, plan)
        or _look_at_pod(kernel, plan, host)
    )


def _look_at_bridge(kernel: Kernel, plan: AttachPlan, bridge: Link) -> CheckFailed | None:
    there = {interface.ip for _, interface in addresses(kernel.route, bridge.index)}
    missing = [GATEWAY[version] for version in {each.version for each in plan.addresses} if GATEWAY[version] not in there]
    if missing:
        return CheckFailed(f"gateway on {bridge.name}", str(missing[0]), "missing")
    return _differs(f"state of {bridge.name}", "up", "up" if bridge.up else "down")


def _look_at_guard(kernel: Kernel, plan: AttachPlan) -> CheckFailed | None:
    if not plan.spoof_check:
        return None
    pod = nft_rules.Guarded(plan.host_name, plan.pod_mac, plan.addresses)
    table = nft_rules.table_name(plan.network)
    for version in sorted({address.version for address in plan.addresses}):
        if not nft.holds(kernel.netfilter, nft.BRIDGE, table, f"allowed{version}", nft_rules.guard_elements(pod, version)):
            return CheckFailed(f"spoof check of {plan.ifname}", f"its IPv{version} addresses in table {table}", "missing")
    return None


def _look_at_pod(kernel: Kernel, plan: AttachPlan, host: Link) -> CheckFailed | None:
    with kernel.inside(plan.namespace, partial(kernel.open_socket, ROUTE)) as pod:
        link = link_named(pod, plan.ifname)
        if link is None or link.peer != host.index:
            return CheckFailed(
                f"{plan.ifname} in {plan.namespace_path}", f"the other end of {host.name}", "another link" if link else "none"
            )
        return (
            _differs(f"MAC of {plan.ifname}", plan.pod_mac, link.mac)
            or _differs(f"MTU of {plan.ifname}", str(plan.mtu or link.mtu), str(link.mtu))
            or _differs(f"state of {plan.ifname}", "up", "up" if link.up else "down")
            or _look_at_addresses(pod, plan, link)
        )


def _look_at_addresses(pod: NetlinkSocket, plan: AttachPlan, link: Link) -> CheckFailed | None:
    there = {interface.ip for _, interface in addresses(pod, link.index)}
    for address in plan.addresses:
        if address not in there:
            return CheckFailed(f"addresses of {plan.ifname}", str(address), ", ".join(map(str, sorted(there, key=str))) or "none")
    laid = {(route.prefix, route.via) for route in routes.routes(pod, link.index)}
    for prefix, gateway in plan.all_routes:
        if (prefix, gateway) not in laid:
            return CheckFailed(f"routes of {plan.ifname}", f"{prefix} via {gateway}", "no such route")
    return None


def _differs(what: str, expected: str, observed: str) -> CheckFailed | None:
    return None if expected == observed else CheckFailed(what, expected, observed)
