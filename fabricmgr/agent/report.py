"""What `agent status` and /metrics show, gathered from the running agent at the moment of asking."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fabricmgr import __version__
from fabricmgr.agent import conflist
from fabricmgr.agent.host import Severity
from fabricmgr.agent.status import BlockStatus, NetworkStatus, Status
from fabricmgr.domain.addresses import Family, parse_prefix
from fabricmgr.domain.block import Held
from fabricmgr.domain.errors import KernelRefused
from fabricmgr.domain.names import PoolName
from fabricmgr.loop import State
from fabricmgr.problems import sentence
from fabricmgr.wire import HEARTBEAT_LAPSE, NetworkSpec

if TYPE_CHECKING:
    from fabricmgr.agent.daemon import Agent

TRAIL_LIMIT_MS = 5000
PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


class Reporter:
    """Reads everything, changes nothing."""

    def __init__(self, agent: "Agent"):
        self._agent = agent

    def status(self) -> Status:
        agent = self._agent
        state, about = agent.holdings.state, agent.manager.identity.about
        faults, risks = self._findings()
        heard = agent.manager.heard_at
        return Status(
            version=__version__,
            node=about.node,
            cluster=about.cluster,
            life=str(state.header.life),
            manager=about.manager,
            manager_path=path_to(about.manager, os.environ),
            manager_heard_seconds=None if heard is None else agent.seconds_since(heard),
            manager_trouble=agent.manager.trouble or agent.sync.refused,
            unreported=len(state.unreported),
            trail_ms=agent.sync.age_ms(),
            networks=[self._network(spec) for spec in (state.desired.networks if state.desired else [])],
            blocks=self._blocks(),
            attachments=len(state.attachments),
            faults=faults,
            risks=risks,
            loops={name: f"{loop.last.state.value}: {loop.last.sentence}" for name, loop in agent.loops.items()},
            rss_kib=resident_kib(),
        )

    def _network(self, spec: NetworkSpec) -> NetworkStatus:
        agent = self._agent
        pools, now = [PoolName(pool) for pool in spec.pools], agent.clock()
        plan = agent.ground.plan(spec.name)
        return NetworkStatus(
            name=spec.name,
            bridge=plan.bridge_name if plan else "",
            decide=spec.decide.value,
            free={str(family): agent.holdings.stock.free(pools, Family(family), now) for family in spec.families},
            attachments=sum(key[0] == spec.name for key in agent.holdings.state.attachments),
        )

    def _blocks(self) -> list[BlockStatus]:
        agent, found = self._agent, []
        now = agent.clock()
        for held in agent.holdings.state.blocks.values():
            stored = agent.holdings.stock.get(parse_prefix(held.prefix))
            slots = stored.block.slots.values() if stored else ()
            found.append(
                BlockStatus(
                    prefix=held.prefix,
                    pool=held.pool,
                    state=held.state,
                    claim=held.claim,
                    held=sum(isinstance(slot, Held) for slot in slots),
                    free=stored.block.free(now, stored.cooldown) if stored and stored.open else 0,
                )
            )
        return found

    # --- what is wrong ---

    def _findings(self) -> tuple[list[str], list[str]]:
        faults, risks = [*self._of_manager(), *self._of_self()], list[str]()
        installed = conflist.remembered(self._agent.settings.data_dir)
        directory, own = (Path(installed.conf_dir), installed.conf_file) if installed else (None, "")
        try:
            around = self._agent.ground.findings(directory, own)
        except KernelRefused as error:
            return [*faults, sentence(error)], risks
        for each in around:
            (faults if each.severity is Severity.FAULT else risks).append(f"{each.sentence}; {each.remedy}")
        return faults, risks

    def _of_manager(self) -> list[str]:
        agent, found = self._agent, []
        url, heard = agent.manager.url, agent.manager.heard_at
        if agent.sync.refused:
            found.append(f"the manager refuses this agent: {agent.sync.refused}")
        elif heard is None or agent.seconds_since(heard) > HEARTBEAT_LAPSE:
            since = "in this run" if heard is None else f"for {agent.seconds_since(heard):.0f} s"
            found.append(f"the manager at {url} has not answered {since}: {agent.manager.trouble or 'no reason given'}")
        if agent.sync.age_ms() > TRAIL_LIMIT_MS:
            found.append(
                f"{len(agent.holdings.state.unreported)} changes are unreported, the oldest for {agent.sync.age_ms() / 1000:.0f} s"
            )
        return found + [
            f"address {address} of a pod here belongs to another owner by the manager" for address in agent.sync.standing_conflicts()
        ]

    def _of_self(self) -> list[str]:
        agent = self._agent
        found = [f"the journal cannot be written: {agent.journal.usable()}"] if agent.journal.usable() else []
        found += [agent.ground.trouble] if agent.ground.trouble and agent.holdings.state.desired else []
        found += [f"links are not deleted: {agent.reaper.trouble}"] if agent.reaper.trouble else []
        found += agent.reconcile.strays
        found += [f"block {held.prefix} is held back" for held in agent.holdings.state.blocks.values() if held.state == "held_back"]
        return found + [f"{name}: {loop.last.sentence}" for name, loop in agent.loops.items() if loop.last.state is State.FAILED]


def path_to(url: str, environment: Mapping[str, str]) -> str:
    """How the manager is reached, in words: never by a proxy."""
    proxies = [f"{name}={environment[name]}" for name in PROXIES if environment.get(name)]
    return f"directly to {url}" + (f"; {', '.join(proxies)} of the environment is not used" if proxies else "")


def resident_kib() -> int:
    """This process' resident memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024
