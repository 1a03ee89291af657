"""Whether this node can attach the next pod, and who is told when it can't.

A failing STATUS turns a Kubernetes node NotReady and evicts its pods. So in a cluster with an API server it fails only for what makes every
ADD here fail by the node's own fault; without one nobody evicts, and STATUS says what CNI SPEC 1.1.0 asks.
"""

from collections.abc import Callable
from datetime import datetime

from fabricmgr.agent.central import Central
from fabricmgr.agent.ground import Ground
from fabricmgr.agent.holdings import Holdings
from fabricmgr.agent.host import Severity
from fabricmgr.domain.addresses import Family
from fabricmgr.domain.errors import AgentNotReady, KernelRefused, RunningPodsSuffer
from fabricmgr.domain.names import PoolName
from fabricmgr.problems import sentence
from fabricmgr.wire import HEARTBEAT_LAPSE, Decide, NetworkSpec


class Readiness:
    """heard: seconds since the manager's last answer, None for never. journal_trouble: why no record can be written, or ""."""

    def __init__(
        self,
        holdings: Holdings,
        ground: Ground,
        central: Central,
        clock: Callable[[], datetime],
        heard: Callable[[], float | None],
        journal_trouble: Callable[[], str],
    ):
        self._holdings = holdings
        self._ground = ground
        self._central = central
        self._clock = clock
        self._heard = heard
        self._journal_trouble = journal_trouble

    async def require(self, network: str) -> None:
        """STATUS. Raises AgentNotReady, RunningPodsSuffer. What can be mended is mended first."""
        if reason := self._journal_trouble():
            raise AgentNotReady(f"the journal cannot be written: {reason}")
        spec = self._ground.spec(network)
        if spec is None:
            raise AgentNotReady(f"there is no network {network!r} in this cluster, as far as the manager has said")
        try:
            self._ground.make()
        except KernelRefused as error:
            if network in self._ground.troubles:
                raise RunningPodsSuffer(sentence(error)) from None
        if not self.strict(spec):
            return
        if reason := self.wants_addresses(spec):
            raise AgentNotReady(reason)
        faults = [each for each in self._ground.findings(None, "") if each.severity is Severity.FAULT]
        if faults:
            raise RunningPodsSuffer(f"{faults[0].sentence}; {faults[0].remedy}")

    def strict(self, spec: NetworkSpec) -> bool:
        """Whether want of addresses and faults of the host fail STATUS."""
        desired = self._holdings.state.desired
        if spec.status_policy in ("strict", "lenient"):
            return spec.status_policy == "strict"
        return desired is None or not desired.cluster_has_api

    def wants_addresses(self, spec: NetworkSpec) -> str:
        """Why the next ADD would find no address, or "": none of a family in held blocks, and no manager that has one."""
        heard = self._heard()
        if heard is not None and heard < HEARTBEAT_LAPSE and not self._central.exhausted(spec.name):
            return ""
        why = f"the manager had none when it was asked last (pools {', '.join(spec.pools)})"
        if heard is None or heard >= HEARTBEAT_LAPSE:
            why = "the manager does not answer"
        if spec.decide is Decide.MANAGER:
            return f"the manager decides the addresses of network {spec.name}, and {why}"
        pools, now = [PoolName(pool) for pool in spec.pools], self._clock()
        for family in map(Family, spec.families):
            if not self._holdings.stock.free(pools, family, now):
                return f"no free {family.label} address of network {spec.name} in held blocks, and {why}"
        return ""
