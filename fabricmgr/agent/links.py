"""A pod's links: made, and taken away. All in the kernel, nothing remembered here."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from errno import EAFNOSUPPORT, EEXIST, ENODEV, ENOENT, ENXIO, EXFULL
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

import msgspec

from fabricmgr.agent.alias import Origin, is_guarded, origin_of, parse_alias
from fabricmgr.domain.errors import InterfaceExists, KernelRefused, NamespaceRefused
from fabricmgr.netlink import conntrack, namespace, nft, nft_rules, sysctl, templates
from fabricmgr.netlink.codec import message, text, u32
from fabricmgr.netlink.links import (
    GROUP,
    MASTER,
    NAME,
    SETLINK,
    Link,
    all_links,
    delete_link,
    get_link,
    link_body,
    link_named,
    mac_bytes,
    parse_link,
    port_settings,
    without_own_address,
)
from fabricmgr.netlink.neighbours import forget_message
from fabricmgr.netlink.sockets import NETFILTER, ROUTE, NetlinkSocket

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
T = TypeVar("T")

# Groups of host ends, in a range that nobody numbers by hand: those that carry a pod, and those that wait to be deleted.
LIVE, REAP = 0x666D0001, 0x666D0002
GATEWAY: dict[int, Address] = {4: IPv4Address("169.254.1.1"), 6: IPv6Address("fe80::1")}
_DEFAULT: dict[int, Prefix] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
_NOT_THERE = frozenset((ENODEV, ENXIO))
# Only what is said of IPv6 on a link fails so.
_NO_IPV6 = frozenset((EAFNOSUPPORT,))
# Operstate is up at once; a kernel under load may be late with it, and its packets pass all the same.
_LOOKS, _BETWEEN_LOOKS = 200, 0.0005


class AttachPlan(msgspec.Struct, frozen=True, dict=True):
    """All that an attachment's links shall be. Checked before: nothing here is parsed again.

    namespace: descriptor of the pod's namespace; namespace_path: as CNI_NETNS said, for messages. addresses: one or more, each host's own.
    mac: "" for the one made from the first IPv4 address (else IPv6). routes: prefixes reached by this link beside the default route,
    which it gets with `is_default`. used_before: those of the addresses that another attachment had since boot."""

    network: str
    container: str
    ifname: str
    namespace: int
    namespace_path: str
    bridge: str
    addresses: tuple[Address, ...]
    mtu: int
    mac: str = ""
    hairpin: bool = False
    isolation: bool = False
    spoof_check: bool = False
    is_default: bool = True
    routes: tuple[Prefix, ...] = ()
    used_before: tuple[Address, ...] = ()

    @cached_property
    def host_name(self) -> str:
        return host_name(self.network, self.container, self.ifname)

    @cached_property
    def host_mac(self) -> str:
        return host_mac(self.host_name)

    @cached_property
    def pod_mac(self) -> str:
        return self.mac or mac_for(self.addresses)

    @property
    def has_ipv6(self) -> bool:
        return any(address.version == 6 for address in self.addresses)

    @property
    def origin(self) -> Origin:
        return origin_of(self.network, self.container, self.ifname, self.pod_mac, self.addresses, self.spoof_check)

    @cached_property
    def all_routes(self) -> tuple[tuple[Prefix, Address], ...]:
        """Every route of the pod with its gateway, the default ones first; none of a family that the pod has no address of."""
        families = sorted({address.version for address in self.addresses})
        asked = [_DEFAULT[version] for version in families] if self.is_default else []
        asked += [prefix for prefix in self.routes if prefix.version in families and prefix not in asked]
        return tuple((prefix, GATEWAY[prefix.version]) for prefix in asked)


class Attached(msgspec.Struct, frozen=True):
    """The links as they stand. identity: device and inode of the pod's namespace. operational: whether the pod's end said so in time."""

    host_name: str
    host_mac: str
    mac: str
    mtu: int
    bridge: str
    routes: tuple[tuple[Prefix, Address], ...]
    identity: namespace.Identity
    operational: bool


@dataclass
class Kernel:
    """The node's end of netlink: warm sockets, and the way home from a pod's namespace. Made in the node's own namespace.

    One thread uses it. open_socket: takes the netlink family; a test hands in sockets that fail."""

    open_socket: Callable[[int], NetlinkSocket] = NetlinkSocket
    home: int = field(default_factory=namespace.open_own)
    _sockets: dict[int, NetlinkSocket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home_identity = namespace.identity(self.home)

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()
        os.close(self.home)

    @property
    def route(self) -> NetlinkSocket:
        return self._warm(ROUTE)

    @property
    def netfilter(self) -> NetlinkSocket:
        return self._warm(NETFILTER)

    def inside(self, descriptor: int, action: Callable[[], T]) -> T:
        """Do something in a pod's namespace; ends the process when there is no way back."""
        return namespace.inside(self.home, descriptor, action)

    def _warm(self, family: int) -> NetlinkSocket:
        there = self._sockets.get(family)
        if there is None or there.closed:
            there = self._sockets[family] = self.open_socket(family)
        return there


@lru_cache(maxsize=256)
def host_name(network: str, container: str, ifname: str) -> str:
    """Name of an attachment's host end: `fm` and 13 hex digits, so that DEL finds it by what it is told."""
    return "fm" + sha256(f"{network}\0{container}\0{ifname}".encode()).hexdigest()[:13]


def mac_for(addresses: tuple[Address, ...]) -> str:
    """A MAC by the address, so that neighbours' entries are right whoever has the address: 0a:58 and 32 bits, IPv4's if there is one."""
    first = min(addresses, key=lambda address: address.version)
    return (b"\x0a\x58" + first.packed[-4:]).hex(":")


def host_mac(name: str) -> str:
    """MAC of a host end, by its name: locally administered."""
    return (b"\x0e" + sha256(name.encode()).digest()[:5]).hex(":")


# --- ADD ---------------------------------------------------------------------------------------------------------------------


def attach(kernel: Kernel, plan: AttachPlan) -> Attached:
    """Make a pod's links: two datagrams on the host, a look into its namespace, a datagram there. A failure leaves nothing.

    Raises InterfaceExists, NamespaceRefused (our own namespace), KernelRefused with the step. About 2 ms."""
    identity = namespace.identity(plan.namespace)
    if identity == kernel.home_identity:
        raise NamespaceRefused(plan.namespace_path, "it is the node's own")
    _make_pair(kernel, plan)
    try:
        operational = _fill_pod(kernel, plan)
        if plan.spoof_check:
            _guard(kernel, plan)
        if plan.used_before:
            conntrack.forget(kernel.netfilter, plan.used_before)
    except BaseException:
        delete_link(kernel.route, plan.host_name)
        raise
    return Attached(plan.host_name, plan.host_mac, plan.pod_mac, plan.mtu, plan.bridge, plan.all_routes, identity, operational)


def _make_pair(kernel: Kernel, plan: AttachPlan) -> None:
    name = plan.host_name
    pair = templates.veth_template(plan.ifname, LIVE).fill(
        name=name.encode(),
        host_mac=mac_bytes(plan.host_mac),
        pod_mac=mac_bytes(plan.pod_mac),
        mtu=templates.native(plan.mtu),
        bridge=templates.native(_index_of(kernel.route, plan.bridge)),
        namespace=templates.native(plan.namespace),
    )
    # From its first datagram on, a link explains itself.
    port = port_settings(name, plan.hairpin, plan.isolation, plan.origin.alias)
    steps = [f"make {plan.ifname} and {name}", f"set up port {name} of {plan.bridge}"]
    try:
        kernel.route.exchange([pair, port], steps)
    except KernelRefused as refused:
        if refused.step != steps[0]:
            delete_link(kernel.route, name)
        elif refused.errno == EEXIST and kernel.inside(plan.namespace, partial(_exists, kernel, plan.ifname)):
            raise InterfaceExists(plan.ifname, plan.namespace_path) from None
        elif refused.errno == EXFULL:
            raise KernelRefused(refused.step, EXFULL, f"bridge {plan.bridge} has as many ports as a bridge can have (1023)") from None
        raise
    # A bridge's port needs no address of its own. With IPv6 on when its carrier comes, which is when the pod's end goes up, each would put
    # three routes into the node's table, which the kernel walks at every up and down: measured with 4,000 pods, an ADD took five times as
    # long.
    sysctl.attempt("1", "ipv6", "conf", name, "disable_ipv6")


def _fill_pod(kernel: Kernel, plan: AttachPlan) -> bool:
    pod, index = kernel.inside(plan.namespace, partial(_open_pod, kernel, plan))
    try:
        pod.exchange(_pod_messages(plan, index), partial(_pod_steps, plan), frozenset() if plan.has_ipv6 else _NO_IPV6)
        return pod.is_running(plan.ifname) or _comes_to_run(pod, plan.ifname)
    finally:
        pod.close()


def _open_pod(kernel: Kernel, plan: AttachPlan) -> tuple[NetlinkSocket, int]:
    """Runs in the pod's namespace. The index cannot be guessed: a namespace that was used before counts on."""
    pod = kernel.open_socket(ROUTE)
    try:
        _set_sysctls(plan)
        return pod, _index_of(pod, plan.ifname)
    except BaseException:
        pod.close()
        raise


def _set_sysctls(plan: AttachPlan) -> None:
    """Only what the kernel would do otherwise: each costs a tenth of a millisecond."""
    if plan.mac:
        # The MAC says nothing about the address then: neighbours must hear of it.
        sysctl.ensure("1", "ipv4", "conf", plan.ifname, "arp_notify")
    if plan.has_ipv6:
        # Off for all new links in some images; turned for this one alone.
        sysctl.ensure("0", "ipv6", "conf", plan.ifname, "disable_ipv6")
        sysctl.ensure("0", "ipv6", "conf", plan.ifname, "accept_ra")
        sysctl.ensure("1", "ipv6", "conf", plan.ifname, "ndisc_notify")


def _pod_messages(plan: AttachPlan, index: int) -> list[bytearray]:
    """Address before up: the other order announces nothing.

    A pod without an IPv6 address of ours makes none for itself: the kernel would ask its bridge for the address, join groups and look for
    routers, for each pod that starts."""
    at = templates.native(index)
    messages = [] if plan.has_ipv6 else [without_own_address(index)]
    messages += [templates.address_template(address.version).fill(index=at, address=address.packed) for address in plan.addresses]
    messages.append(templates.up_template().fill(index=at))
    messages += [templates.route_template(prefix, gateway).fill(index=at) for prefix, gateway in plan.all_routes]
    return messages


def _pod_steps(plan: AttachPlan) -> list[str]:
    """What `_pod_messages` are for, in their order."""
    put = [] if plan.has_ipv6 else [f"keep {plan.ifname} without an IPv6 address"]
    put += [f"add {address} to {plan.ifname}" for address in plan.addresses]
    led = [f"add route {prefix} by {plan.ifname}" for prefix, _ in plan.all_routes]
    return [*put, f"take {plan.ifname} up", *led]


def _comes_to_run(pod: NetlinkSocket, name: str) -> bool:
    for _ in range(_LOOKS):
        time.sleep(_BETWEEN_LOOKS)
        if pod.is_running(name):
            return True
    return False


def _guard(kernel: Kernel, plan: AttachPlan) -> None:
    try:
        nft.commit(kernel.netfilter, _guard_messages(plan.network, _guarded(plan)), f"allow the addresses of {plan.host_name}")
    except KernelRefused as refused:
        if refused.errno != ENOENT:
            raise
        # The first of its network on this node, or the table was removed behind us: the links say what belongs in it.
        nft.write(kernel.netfilter, nft_rules.guard_table(plan.network, guarded_ports(all_links(kernel.route), plan.network)))


def guarded_ports(links: Iterable[Link], network: str) -> tuple[nft_rules.Guarded, ...]:
    """Ports of a network whose pods' sources are checked, as the links themselves say."""
    label = nft_rules.network_label(network)
    origins = [(link.name, parse_alias(link.alias)) for link in links if link.group == LIVE and is_guarded(link.alias)]
    return tuple(
        nft_rules.Guarded(port, origin.mac, origin.addresses)
        for port, origin in origins
        if origin is not None and origin.spoof_check and origin.network == label
    )


def _guarded(plan: AttachPlan) -> nft_rules.Guarded:
    return nft_rules.Guarded(plan.host_name, plan.pod_mac, plan.addresses)


def _guard_messages(network: str, pod: nft_rules.Guarded, remove: bool = False) -> list[bytearray]:
    table, port = nft_rules.table_name(network), (nft_rules.name_bytes(pod.port), False)
    made = nft.elements_messages(nft.BRIDGE, table, "ports", [port], remove)
    for version in (4, 6):
        made += nft.elements_messages(nft.BRIDGE, table, f"allowed{version}", nft_rules.guard_elements(pod, version), remove)
    return made


# --- DEL ---------------------------------------------------------------------------------------------------------------------


def detach(kernel: Kernel, name: str, descriptor: int | None = None, identity: namespace.Identity | None = None) -> bool:
    """Cut a pod off, by its host end's name: IFNAME is gone at once, no packet passes, and the pair waits in group REAP to be deleted.

    descriptor: of the pod's namespace; its links are touched only when it is the namespace that ADD saw (identity, None when unknown)
    and not our own. Nothing there: False. Raises KernelRefused. 1 to 2 ms."""
    link = link_named(kernel.route, name)
    if link is None:
        return False
    if descriptor is not None and identity in (None, namespace.identity(descriptor)) and not namespace.is_own(descriptor):
        _hide_pod_end(kernel, descriptor, link)
    _drop_guard(kernel, link)
    messages = [
        message(SETLINK, 0, link_body(link.index, None, u32(MASTER, 0), u32(GROUP, REAP))),
        message(SETLINK, 0, link_body(link.index, False)),
        message(SETLINK, 0, link_body(link.index, None, text(NAME, _waiting(link.index)))),
    ]
    steps = [f"take {name} off its bridge", f"take {name} down", f"rename {name}"]
    # Its MAC may have been one of its own, and the next owner's is another: the node would talk to the old one for up to a minute.
    origin = parse_alias(link.alias)
    gone = origin.addresses if origin is not None and link.master else ()
    messages += [forget_message(link.master, address) for address in gone]
    steps += [f"forget the neighbour {address}" for address in gone]
    kernel.route.exchange(messages, steps, ignore=_NOT_THERE | {ENOENT})
    return True


def _hide_pod_end(kernel: Kernel, descriptor: int, host: Link) -> None:
    with kernel.inside(descriptor, partial(kernel.open_socket, ROUTE)) as pod:
        found = pod.exchange([get_link(host.peer)], ["look at the pod's link"], ignore=_NOT_THERE)
        # Another link may bear its number by now: ours names the host end as its other one.
        end = parse_link(found[0][1]) if found else None
        if end is None or end.peer != host.index or end.kind != "veth":
            return
        messages = [
            message(SETLINK, 0, link_body(host.peer, False)),
            message(SETLINK, 0, link_body(host.peer, None, text(NAME, _waiting(host.peer)))),
        ]
        pod.exchange(messages, ["take the pod's link down", "rename the pod's link"], ignore=_NOT_THERE)


def _drop_guard(kernel: Kernel, link: Link) -> None:
    """Takes the pod's elements out. A table rewritten or deleted meanwhile has none of them: the next reconcile compares."""
    origin = parse_alias(link.alias) if is_guarded(link.alias) else None
    if origin is None:
        return
    pod = nft_rules.Guarded(link.name, origin.mac, origin.addresses)
    try:
        nft.commit(kernel.netfilter, _guard_messages(origin.network, pod, remove=True), f"forget the addresses of {link.name}")
    except KernelRefused as refused:
        if refused.errno != ENOENT:
            raise


def _waiting(index: int) -> str:
    """Name of a link that waits to be deleted: no two at once, since its index is its own as long as it lives."""
    return f"fmx{index:x}"


def _exists(kernel: Kernel, name: str) -> bool:
    """Runs in the pod's namespace."""
    with kernel.open_socket(ROUTE) as pod:
        return bool(pod.index_of(name))


def _index_of(sock: NetlinkSocket, name: str) -> int:
    """ifindex of a link in a socket's namespace. Raises KernelRefused."""
    index = sock.index_of(name)
    if not index:
        raise KernelRefused(f"find link {name}", ENODEV, os.strerror(ENODEV))
    return index
