"""What an ADD comes to, decided before anything is done: which routes, which links, which result. Pure."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from fabricmgr.agent import links
from fabricmgr.agent.links import GATEWAY, AttachPlan
from fabricmgr.agent.networks import NetworkPlan
from fabricmgr.agent.records import Place
from fabricmgr.agent.request import CniRequest, Namespace
from fabricmgr.agent.result import CniResult, Interface, Ip, Route
from fabricmgr.domain.addresses import Address, parse_address, parse_prefix
from fabricmgr.domain.errors import AddressOutside, CniConfiguration
from fabricmgr.domain.owner import Pod
from fabricmgr.wire import Decide, NetworkSpec, Owned


def check_asked(asked: Iterable[Address], spec: NetworkSpec) -> None:
    """An asked-for address lies in a prefix of the network. Raises AddressOutside."""
    for address in asked:
        prefixes = [parse_prefix(text) for text in spec.prefixes]
        if address.version not in spec.families or not any(address in prefix for prefix in prefixes):
            raise AddressOutside(str(address), f"the pools of network {spec.name}: {', '.join(spec.prefixes) or 'it has none'}")


def manager_decides(spec: NetworkSpec, pod: Pod | None) -> bool:
    """Whether the manager decides this attachment's addresses whatever blocks we hold."""
    if spec.decide is Decide.NAMESPACES:
        return pod is not None and pod.namespace in spec.namespaces
    return spec.decide is Decide.MANAGER


def routing(request: CniRequest, spec: NetworkSpec, others: Sequence[Place], cluster: Iterable[NetworkSpec]) -> tuple[bool, list[str]]:
    """Whether the default routes go through this interface, and which prefixes beside.

    A container has one default route a family: the first interface's, unless its configuration leaves it. Any further interface leads to
    its own network alone, since routes to the cluster's pools on two interfaces contradict each other. Raises CniConfiguration."""
    wanted = request.config.default_gateway
    holder = next((place for place in others if place.default_route and _shares_family(place, spec)), None)
    if holder is not None and wanted:
        raise CniConfiguration(
            f"isDefaultGateway is true for {request.ifname} of network {spec.name}, and {holder.owned.ifname} of network "
            f"{holder.owned.network} has the container's default route already"
        )
    if holder is None and wanted is not False:
        return True, []
    if others:
        return False, list(spec.prefixes)
    return False, [prefix for each in cluster for prefix in each.prefixes]


def _shares_family(place: Place, spec: NetworkSpec) -> bool:
    return any(parse_address(each.address).version in spec.families for each in place.owned.addresses)


def bridge_of(request: CniRequest, network: NetworkPlan, in_use: Callable[[], bool]) -> str:
    """A network has one bridge on a node. Its configuration may name it as long as no pod is on another. Raises CniConfiguration."""
    wanted = request.config.bridge
    if wanted and wanted != network.bridge_name and (network.bridge or in_use()):
        raise CniConfiguration(
            f"bridge {wanted!r} is not the bridge of network {network.name} on this node, which is {network.bridge_name}"
        )
    return wanted


def mtu_of(request: CniRequest, spec: NetworkSpec) -> int:
    """Raises CniConfiguration for more than the network's bridge carries: such packets would vanish on it."""
    wanted = request.config.mtu or spec.mtu
    if wanted > spec.mtu:
        raise CniConfiguration(f"mtu {wanted} is more than network {spec.name} carries, which is {spec.mtu}; change the network first")
    return wanted


def place_of(request: CniRequest, namespace: Namespace, spec: NetworkSpec, now: datetime, is_default: bool, routes: list[str]) -> Place:
    """The attachment as the journal is to know it, still without addresses."""
    pod, config = request.pod or Pod(), request.config
    owned = Owned(
        network=request.network,
        container=request.container,
        ifname=request.ifname,
        addresses=[],
        at=now,
        mac=request.mac or "",
        host_interface=links.host_name(request.network, request.container, request.ifname),
        namespace=pod.namespace,
        pod=pod.name,
        uid=pod.uid,
    )
    return Place(
        owned=owned,
        namespace=(namespace.device, namespace.inode),
        sandbox=request.netns,
        mtu=mtu_of(request, spec),
        bridge=config.bridge,
        masquerade=bool(config.masquerade),
        hairpin=config.hairpin,
        isolation=config.port_isolation,
        spoof_check=config.mac_spoof_check,
        default_route=is_default,
        routes=routes,
    )


def plan_of(place: Place, bridge: str, descriptor: int, used_before: tuple[Address, ...] = ()) -> AttachPlan:
    """The links of an attachment. descriptor: of its namespace, open."""
    owned = place.owned
    return AttachPlan(
        network=owned.network,
        container=owned.container,
        ifname=owned.ifname,
        namespace=descriptor,
        namespace_path=place.sandbox,
        bridge=bridge,
        addresses=addresses_of(place),
        mtu=place.mtu,
        mac=owned.mac,
        hairpin=place.hairpin,
        isolation=place.isolation,
        spoof_check=place.spoof_check,
        is_default=place.default_route,
        routes=tuple(map(parse_prefix, place.routes)),
        used_before=used_before,
    )


def addresses_of(place: Place) -> tuple[Address, ...]:
    """IPv4 first, as plugins behind us expect."""
    found = tuple(parse_address(each.address) for each in place.owned.addresses)
    return found if len(found) == 1 else tuple(sorted(found, key=lambda address: address.version))


def result_of(place: Place, network: NetworkPlan, made: links.Attached) -> CniResult:
    """The result, its interfaces in this order: bridge, host end, container end (plugins behind us rely on it)."""
    interfaces = (
        Interface(network.bridge_name, network.bridge_mac, mtu=network.mtu),
        Interface(made.host_name, made.host_mac, mtu=made.mtu),
        Interface(place.owned.ifname, made.mac, place.sandbox, made.mtu),
    )
    ips = tuple(Ip(address, address.max_prefixlen, GATEWAY[address.version], 2) for address in addresses_of(place))
    return CniResult(interfaces, ips, tuple(Route(prefix, via) for prefix, via in made.routes))
