"""What the status of a Service says of its addresses: whether it has them, whether they are announced, and who else answers for them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fabricmgr.kube.views import Service
from fabricmgr.services.service_addresses import Settled
from fabricmgr.store.announce_rows import Announcement

ASSIGNED = "fabricmgr.io/AddressAssigned"
ANNOUNCED = "fabricmgr.io/AddressAnnounced"
CONFLICT = "fabricmgr.io/AddressConflictDetected"
OURS = (ASSIGNED, ANNOUNCED, CONFLICT)
# What makes another node answer, as far as it can be known from here.
REMEDY = (
    "where a node's kernel has the address too (kube-proxy in IPVS mode), set net.ipv4.conf.all.arp_ignore=1 there"
    " (kube-proxy: ipvs.strictARP: true)"
)


@dataclass(frozen=True)
class Verdict:
    """A condition without its time."""

    type: str
    status: str
    reason: str
    message: str

    @property
    def warns(self) -> bool:
        return (self.status == "True") == (self.type == CONFLICT)


def said(found: Service) -> tuple[Verdict, ...]:
    """Conditions of ours as they stand there, in our order."""
    listed = [Verdict(each.type, each.status, each.reason, each.message) for each in found.status.conditions or ()]
    return tuple(each for kind in OURS for each in listed if each.type == kind)


def verdicts(settled: Settled, before: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """What is to stand there. While somebody is about to speak, what stood there before counts."""
    assigned = Verdict(ASSIGNED, *(("False", "Pending", settled.reason) if settled.reason else ("True", "Assigned", "")))
    kept = next((each for each in before if each.type == ANNOUNCED), None)
    announced = _announced(settled.announced, kept) if settled.addresses else None
    return tuple(each for each in (assigned, announced, _conflict(settled.announced)) if each is not None)


def _announced(found: Sequence[Announcement], kept: Verdict | None) -> Verdict | None:
    if not found:
        return None
    silent = [each for each in found if each.state != "speaking" and (each.reason or each.conflict)]
    if silent:
        said = [f"{each.address} is not announced: {each.reason or f'{each.conflict} answers for it'}" for each in silent]
        return Verdict(ANNOUNCED, "False", "NotAnnounced", "; ".join(said))
    if all(each.state == "speaking" for each in found):
        said = [each.reason or f"{each.node} announces it" for each in found]
        return Verdict(ANNOUNCED, "True", "Announced", "; ".join(f"{each.address}: {text}" for each, text in zip(found, said, strict=True)))
    return kept


def _conflict(found: Iterable[Announcement]) -> Verdict | None:
    heard = [f"{each.conflict}{f' ({each.other})' if each.other else ''} answers for {each.address} too" for each in found if each.conflict]
    return Verdict(CONFLICT, "True", "ForeignAnswer", f"{'; '.join(heard)}: {REMEDY}") if heard else None
