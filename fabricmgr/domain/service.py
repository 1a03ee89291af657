"""What a Service of type LoadBalancer wants of us, read from what its author wrote."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fabricmgr.domain.addresses import Address, parse_address
from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.kube import ADDRESSES, POOL

CLASS = "fabricmgr.io/lb"
SHARING = "fabricmgr.io/sharing-key"  # annotation: Services of a namespace with one key share an address
SPEC = "spec.loadBalancerIP"
# Read in this order where ours is not there, so that Services may move here from elsewhere as they are.
MIGRATED = ("metallb.io/loadBalancerIPs", "kube-vip.io/loadbalancerIPs", "lbipam.cilium.io/ips")
_FAMILY = {"IPv4": 4, "IPv6": 6}


@dataclass(frozen=True)
class Asked:
    """What the API server shows. cls: its loadBalancerClass; None: without. ports: such as TCP/80."""

    type: str = "LoadBalancer"
    cls: str | None = CLASS
    families: tuple[str, ...] = ()
    policy: str = ""
    address: str = ""
    ports: tuple[str, ...] = ()
    traffic: str = "Cluster"
    annotations: Mapping[str, str] = field(default_factory=dict)
    deleting: bool = False


@dataclass(frozen=True)
class Wish:
    """families: all that are served, the first first; optional: those of them that may be missing."""

    families: tuple[int, ...]
    optional: tuple[int, ...] = ()
    addresses: tuple[Address, ...] = ()
    pool: str = ""
    sharing_key: str = ""
    ports: tuple[str, ...] = ()
    traffic: str = "Cluster"

    @property
    def needed(self) -> tuple[int, ...]:
        return tuple(each for each in self.families if each not in self.optional)

    def met_by(self, held: Iterable[Address]) -> bool:
        """Whether addresses are what is wanted; a family that may be missing may."""
        found = set(held)
        versions = {each.version for each in found}
        return set(self.needed) <= versions <= set(self.families) and set(self.addresses) <= found

    def clash(self, ports: Iterable[str], traffic: str) -> str:
        """Why one address cannot serve both; empty where it can."""
        if both := sorted(set(self.ports) & set(ports)):
            return f"port {', '.join(both)} is taken there"
        return "" if traffic == self.traffic else f"its externalTrafficPolicy is {self.traffic}, the other's {traffic}"


def ours(asked: Asked, class_less: bool) -> bool:
    """Whether it is to have an address of ours. class_less: Services without a class are ours in this cluster."""
    return asked.type == "LoadBalancer" and not asked.deleting and (asked.cls == CLASS or (class_less and not asked.cls))


def wish(asked: Asked) -> Wish:
    """Raises Invalid, which names the annotation or field and its value."""
    families = tuple(_FAMILY[each] for each in asked.families if each in _FAMILY) or (4,)
    if asked.policy == "RequireDualStack":
        families = (families[0], 10 - families[0])
    elif asked.policy != "PreferDualStack":
        families = families[:1]
    optional = families[1:] if asked.policy == "PreferDualStack" else ()
    addresses = _addresses(asked, families)
    needed = {each.version for each in addresses}
    pool, sharing = asked.annotations.get(POOL, ""), asked.annotations.get(SHARING, "")
    return Wish(families, tuple(f for f in optional if f not in needed), addresses, pool, sharing, asked.ports, asked.traffic)


def _addresses(asked: Asked, families: tuple[int, ...]) -> tuple[Address, ...]:
    where, text = _text(asked)
    found = tuple(dict.fromkeys(parse_address(each.strip(), where) for each in text.split(",") if each.strip()))
    versions = [each.version for each in found]
    if len(set(versions)) != len(versions):
        raise Invalid(where, text, "at most one address of each family")
    if not set(versions) <= set(families):
        raise Invalid(where, text, f"addresses of the Service's own families, IPv{' and IPv'.join(map(str, families))}")
    return found


def _text(asked: Asked) -> tuple[str, str]:
    for name in (ADDRESSES, *MIGRATED):
        if name in asked.annotations:
            return name, asked.annotations[name]
    return SPEC, asked.address
